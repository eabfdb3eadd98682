"""Rate limits: a bucket per identity and resource, with GitHub's headers.

https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

HOUR = 3600  # seconds; a bucket's window
LIMITS = {"core": 5000, "graphql": 5000, "search": 30}
ANONYMOUS_LIMIT = 60


@dataclass(eq=False, slots=True)
class Bucket:
    """What one identity has used of one resource in this hour."""

    resource: str
    limit: int
    used: int = 0
    reset: int = field(default_factory=lambda: int(time.time()) + HOUR)

    def charge(self, points: int) -> None:
        if time.time() >= self.reset:
            self.used, self.reset = 0, int(time.time()) + HOUR
        self.used += points

    @property
    def remaining(self) -> int:
        return max(self.limit - self.used, 0)

    def shown(self) -> dict[str, int | str]:
        return {
            "limit": self.limit,
            "used": self.used,
            "remaining": self.remaining,
            "reset": self.reset,
            "resource": self.resource,
        }

    def headers(self) -> dict[str, str]:
        return {f"X-RateLimit-{name.capitalize()}": str(value) for name, value in self.shown().items()}


@dataclass(eq=False)
class Limits:
    """All buckets. `limits` may be lowered to see what happens at the end of one."""

    limits: dict[str, int] = field(default_factory=lambda: dict(LIMITS))
    enforce_anonymous: bool = False  # nobody on loopback is held to GitHub's 60 an hour unless they want it
    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)

    def bucket(self, identity: str, resource: str) -> Bucket:
        limit = self.limits.get(resource, LIMITS["core"])
        if identity == "anonymous" and self.enforce_anonymous:
            limit = ANONYMOUS_LIMIT
        bucket = self.buckets.setdefault((identity, resource), Bucket(resource, limit))
        bucket.limit = limit
        return bucket


def empty(resource: str, seconds: int) -> Bucket:
    """A bucket with nothing left until `seconds` from now."""
    limit = LIMITS[resource]
    return Bucket(resource, limit, used=limit, reset=int(time.time()) + seconds)
