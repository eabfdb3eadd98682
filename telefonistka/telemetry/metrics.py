"""Every metric in one list.

What belongs here: names, labels and meanings. Labels come from closed lists or are bounded here, because each new
value is a time series that never goes away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

LABELS = 1000  # different repositories, and different endpoints, in labels; what is beyond that is "other"
EVENTS = frozenset(
    {"check_suite", "issue_comment", "ping", "pull_request", "pull_request_review", "push", "status", "workflow_run"}
)
RESOURCES = frozenset({"core", "graphql"})  # GitHub's limits; we search nothing, and upload nothing
OTHER = "other"

# The original's names and labels (they are in people's dashboards).

_hits = Counter("telefonistka_webhook_server_webhook_hits", "Webhooks received, by how reading them went", ["parsing"])
_operations = Counter(
    "telefonistka_github_github_operations",
    "Answers of GitHub's REST API",
    ["api_group", "api_path", "repo_slug", "status", "method"],
)
_rate_limit = Gauge("telefonistka_github_github_rest_api_client_rate_limit", "Requests an hour", ["repo_owner"])
_rate_remaining = Gauge(
    "telefonistka_github_github_rest_api_client_rate_remaining", "Requests left in this hour", ["repo_owner"]
)
_statuses = Counter(
    "telefonistka_github_commit_status_updates", "Commit statuses written, or tried to", ["repo_slug", "status"]
)

_upstream = Counter(
    "telefonistka_webhook_proxy_upstream_requests",
    "Requests of the relay; `url` is scheme and host, `status` is `error` where there was no answer",
    ["status", "method", "url"],
)

_open_prs = Gauge("telefonistka_github_open_prs", "Open pull requests", ["repo_slug"])
_open_promotions = Gauge("telefonistka_github_open_promotion_prs", "Open ones with our label", ["repo_slug"])
_open_pending = Gauge(
    "telefonistka_github_open_prs_with_pending_telefonistka_checks",
    "Open ones on which our commit status has been pending for 20 minutes",
    ["repo_slug"],
)

# Ours.

_deliveries = Counter("telefonistka_deliveries", "Deliveries by what became of them at the door", ["event", "result"])
_outcomes = Counter("telefonistka_outcomes", "How the steps of work items ended, each try", ["step", "outcome"])
_seconds = Histogram(
    "telefonistka_step_seconds",
    "How long a try of a step took",
    ["step"],
    buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000),
)
_dead = Counter("telefonistka_dead_letters", "Work items that were given up")
_items = Gauge("telefonistka_inbox_items", "Work items in the storage", ["state"])
_oldest = Gauge("telefonistka_inbox_oldest_seconds", "How long the oldest item lies about that could be worked on")
_free = Gauge("telefonistka_storage_free_bytes", "Free space on the disk of the storage")
_ready = Gauge("telefonistka_ready", "1 while deliveries can be stored and are worked on, as /ready answers")

_relayed = Counter("telefonistka_relay_attempts", "Attempts of the relay by what they led to", ["endpoint", "outcome"])
_relay_seconds = Histogram(
    "telefonistka_relay_attempt_seconds",
    "How long an attempt of the relay took",
    ["endpoint"],
    buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)
_relay_waiting = Gauge("telefonistka_relay_waiting", "Deliveries that an endpoint is still owed", ["endpoint"])
_relay_oldest = Gauge("telefonistka_relay_oldest_seconds", "Age of the oldest of them that waits", ["endpoint"])
_relay_open = Gauge("telefonistka_relay_breaker_open", "1 while an endpoint is only probed", ["endpoint"])
_relay_dead = Counter("telefonistka_relay_dead_letters", "Deliveries that an endpoint never got", ["endpoint"])
_relay_refused = Counter("telefonistka_relay_refused_replacements", "URLs that were not built or not allowed")
_relay_unknown = Counter("telefonistka_relay_unknown_files", "Events whose files could not be known", ["repo_slug"])
_relay_unrouted = Counter("telefonistka_relay_unrouted", "Deliveries given up before they had a route")
_config_broken = Gauge("telefonistka_config_broken", "1 while an earlier configuration is in use", ["repo_slug"])

_budget_limit = Gauge(
    "telefonistka_github_rate_limit",
    "What GitHub grants a credential in an hour: requests, or points of GraphQL",
    ["identity", "repo_owner", "resource"],
)
_budget_remaining = Gauge(
    "telefonistka_github_rate_remaining", "What is left of it", ["identity", "repo_owner", "resource"]
)

_spans = Counter("telefonistka_spans", "Spans of traces by what became of them", ["result"])
_sweeps = Counter("telefonistka_recovery_sweeps", "Sweeps for what never arrived, by how they ended", ["result"])
_swept = Gauge("telefonistka_recovery_last_sweep_timestamp_seconds", "When the last complete sweep ended, Unix time")
_interval = Gauge("telefonistka_recovery_interval_seconds", "Seconds between two sweeps; 0: there are none")
_lag = Gauge("telefonistka_recovery_lag_seconds", "Age of the oldest delivery in GitHub's log that we cannot fetch")
_missed = Counter("telefonistka_recovery_missed_deliveries", "Deliveries fetched from GitHub's log", ["event"])
_missed_merges = Counter("telefonistka_recovery_missed_merges", "Merges that no delivery told of")
_throttled = Counter("telefonistka_recovery_throttled_deliveries", "Deliveries that GitHub held back")

_known: set[str] = set()
_endpoints: set[str] = set()


def webhook(parsing: str) -> None:
    """A webhook came in: `successful`, `validation_failed` or `parsing_failed`."""
    _hits.labels(parsing).inc()


def delivery(event: str, result: str) -> None:
    """A delivery was accepted, a duplicate, re-armed, ignored or refused."""
    _deliveries.labels(event if event in EVENTS else OTHER, result).inc()


def github_request(*, method: str, path: str, status: int, repo: str | None = None) -> None:
    """GitHub's REST API answered; `path` is the API path, with or without the prefix of an Enterprise Server."""
    group, owner, name, rest = (*path.removeprefix("/api/v3").strip("/").split("/"), "", "", "", "")[:4]
    if group == "graphql" or path.endswith("/access_tokens"):
        return
    slug = _bounded(repo or (f"{owner}/{name}" if name else ""))
    _operations.labels(group, rest, slug, str(status), method).inc()


def rate_limit(owner: str, limit: int, remaining: int) -> None:
    """GitHub said how many requests an hour the owner's credential has, and how many are left."""
    label = _bounded(owner)
    _rate_limit.labels(label).set(limit)
    _rate_remaining.labels(label).set(remaining)


def budget(identity: str, owner: str, resource: str, limit: int, remaining: int) -> None:
    """GitHub said what one credential has in an hour of a resource, and what is left.

    It is `main` or `approver`; its owner is the account on which an App is installed, "" for any other credential.
    """
    labels = (identity, _bounded(owner), resource if resource in RESOURCES else OTHER)
    _budget_limit.labels(*labels).set(limit)
    _budget_remaining.labels(*labels).set(remaining)


def commit_status(repo_slug: str, state: str) -> None:
    """A commit status was written, or the write failed."""
    _statuses.labels(_bounded(repo_slug), state).inc()


def outcome(step: str, verdict: str, seconds: float) -> None:
    """A try of a step ended."""
    _outcomes.labels(step, verdict).inc()
    _seconds.labels(step).observe(seconds)


def dead_letter() -> None:
    """A work item was given up."""
    _dead.inc()


def inbox(items: Mapping[str, int], oldest: float, free: int) -> None:
    """How many items there are by state, since when the oldest could have been worked on, and the free space.

    In seconds and bytes.
    """
    for state, count in items.items():
        _items.labels(state).set(count)
    _oldest.set(oldest)
    _free.set(free)


def readiness(*, is_ready: bool) -> None:
    """Whether deliveries can be stored and are worked on."""
    _ready.set(is_ready)


def relay_attempt(endpoint: str, status: int | None, outcome: str, seconds: float) -> None:
    """The relay sent a delivery to an endpoint, named by scheme and host: `delivered`, `retry` or `dead`."""
    upstream, relayed, took = _of_attempt(_bounded(endpoint, _endpoints), status, outcome)
    upstream.inc()
    relayed.inc()
    took.observe(seconds)
    if outcome == "dead":
        _relay_dead.labels(_bounded(endpoint, _endpoints)).inc()


@lru_cache(maxsize=LABELS)
def _of_attempt(endpoint: str, status: int | None, outcome: str) -> tuple[Counter, Counter, Histogram]:
    """Kept, because to look them up takes longer than to count."""
    upstream = _upstream.labels(str(status or "error"), "POST", endpoint)
    return upstream, _relayed.labels(endpoint, outcome), _relay_seconds.labels(endpoint)


def relay_endpoints(statuses: Iterable[tuple[str, int, float, bool]]) -> None:
    """How each endpoint is doing now: what waits, the age of the oldest, whether it is only probed."""
    found: dict[str, tuple[int, float, bool]] = {}
    for endpoint, waiting, oldest, is_open in statuses:
        label = _bounded(endpoint, _endpoints)
        before = found.get(label, (0, 0.0, False))
        found[label] = (before[0] + waiting, max(before[1], oldest), before[2] or is_open)
    for gauge in (_relay_waiting, _relay_oldest, _relay_open):
        gauge.clear()
    for label, (waiting, oldest, is_open) in found.items():
        _relay_waiting.labels(label).set(waiting)
        _relay_oldest.labels(label).set(oldest)
        _relay_open.labels(label).set(is_open)


def relay_refused(count: int) -> None:
    """So many replacements gave no URL, or one that is not allowed."""
    _relay_refused.inc(count)


def relay_unknown_files(repo_slug: str) -> None:
    """The files of an event could not be known; `relay.onUnknownFiles` decided."""
    _relay_unknown.labels(_bounded(repo_slug)).inc()


def relay_unrouted() -> None:
    """A delivery was given up before anybody knew to whom it goes."""
    _relay_unrouted.inc()


def configuration(repo_slug: str, *, is_broken: bool) -> None:
    """The newest configuration of a repository can be used, or an earlier one is in use."""
    _config_broken.labels(_bounded(repo_slug)).set(is_broken)


def spans(result: str, count: int) -> None:
    """So many spans were exported, failed to be, or were dropped because too many waited."""
    _spans.labels(result).inc(count)


def recovery_sweep(*, complete: bool, at: float, lag: float) -> None:
    """A sweep ended; `lag` is the age in seconds of the oldest delivery that it could not fetch."""
    _sweeps.labels("complete" if complete else "incomplete").inc()
    _lag.set(lag)
    if complete:
        _swept.set(at)


def recovery_interval(seconds: float) -> None:
    """So often there is a sweep."""
    _interval.set(seconds)


def recovery_missed(event: str) -> None:
    """A delivery that never arrived was journalled from GitHub's log."""
    _missed.labels(event if event in EVENTS else OTHER).inc()


def recovery_missed_merge() -> None:
    """A merge was journalled that no delivery told of."""
    _missed_merges.inc()


def recovery_throttled(count: int) -> None:
    """GitHub held so many deliveries back."""
    _throttled.inc(count)


def census(counts: Iterable[tuple[str, int, int, int]]) -> None:
    """By repository: open pull requests, open promotions, and those whose status has been pending for too long."""
    gauges = (_open_prs, _open_promotions, _open_pending)
    for gauge in gauges:
        gauge.clear()
    for slug, *numbers in counts:
        for gauge, number in zip(gauges, numbers, strict=True):
            gauge.labels(_bounded(slug)).set(number)


def render() -> bytes:
    """The metrics in Prometheus' text format. Takes milliseconds: call it in a thread."""
    return prometheus_client.generate_latest()


METRICS_TYPE = prometheus_client.CONTENT_TYPE_LATEST


def _bounded(label: str, known: set[str] = _known) -> str:
    if label in known or len(known) < LABELS:
        known.add(label)
        return label
    return OTHER
