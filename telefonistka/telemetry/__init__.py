"""What an operator sees of us: metrics, logs and traces, by the names that callers use.

What belongs here: each of them in one list, in a module of its own. Secrets are never given to any of them.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVarTuple

from telefonistka.telemetry import logs, traces
from telefonistka.telemetry.logs import configure, log
from telefonistka.telemetry.metrics import (
    METRICS_TYPE,
    budget,
    census,
    commit_status,
    configuration,
    dead_letter,
    delivery,
    github_request,
    inbox,
    outcome,
    rate_limit,
    readiness,
    recovery_interval,
    recovery_missed,
    recovery_missed_merge,
    recovery_sweep,
    recovery_throttled,
    relay_attempt,
    relay_endpoints,
    relay_refused,
    relay_unknown_files,
    relay_unrouted,
    render,
    webhook,
)
from telefonistka.telemetry.traces import (
    Span,
    carried,
    describe,
    ended,
    github_call,
    ids,
    journal,
    part,
    received,
    recovered,
    relayed,
    rounds,
    route,
    step,
    trace_id,
    traceparent,
    work,
)

__all__ = [
    "METRICS_TYPE",
    "Span",
    "apart",
    "bound",
    "budget",
    "carried",
    "census",
    "commit_status",
    "configuration",
    "configure",
    "dead_letter",
    "delivery",
    "describe",
    "ended",
    "github_call",
    "github_request",
    "ids",
    "inbox",
    "journal",
    "log",
    "outcome",
    "part",
    "rate_limit",
    "readiness",
    "received",
    "recovered",
    "recovery_interval",
    "recovery_missed",
    "recovery_missed_merge",
    "recovery_sweep",
    "recovery_throttled",
    "relay_attempt",
    "relay_endpoints",
    "relay_refused",
    "relay_unknown_files",
    "relay_unrouted",
    "relayed",
    "render",
    "rounds",
    "route",
    "step",
    "trace_id",
    "traceparent",
    "traces",
    "webhook",
    "work",
]

Ts = TypeVarTuple("Ts")


def bound(**fields: object) -> AbstractContextManager[None]:
    """Every log record below has these fields, and the current span has them as attributes."""
    traces.describe(fields)
    return logs.bound(**fields)


def apart(start: Callable[[*Ts], object], *arguments: *Ts) -> None:
    """Starts a task that outlives what is under way here, and is to have neither its fields nor its span."""
    contextvars.Context().run(start, *arguments)
