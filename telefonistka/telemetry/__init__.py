"""What an operator sees of us: metrics, logs and traces, by the names that callers use.

What belongs here: each of them in one list, in a module of its own. Secrets are never given to any of them.
"""

from telefonistka.telemetry.logs import bound, configure, log
from telefonistka.telemetry.metrics import (
    METRICS_TYPE,
    commit_status,
    configuration,
    dead_letter,
    delivery,
    github_request,
    inbox,
    outcome,
    rate_limit,
    readiness,
    relay_attempt,
    relay_endpoints,
    relay_refused,
    relay_unknown_files,
    relay_unrouted,
    render,
    webhook,
)

__all__ = [
    "METRICS_TYPE",
    "bound",
    "commit_status",
    "configuration",
    "configure",
    "dead_letter",
    "delivery",
    "github_request",
    "inbox",
    "log",
    "outcome",
    "rate_limit",
    "readiness",
    "relay_attempt",
    "relay_endpoints",
    "relay_refused",
    "relay_unknown_files",
    "relay_unrouted",
    "render",
    "webhook",
]
