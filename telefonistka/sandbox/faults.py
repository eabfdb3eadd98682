"""Faults by rule: which requests are slowed, cut, held, refused or answered falsely, and how often.

A rule as JSON, for `POST /_sandbox/rules` (all keys but `action` are optional):

    {"method": "POST", "path": "/git/refs$", "operation": "Merged", "first": 2, "nth": 3,
     "action": "answer", "when": "after", "status": 502, "headers": {}, "body": {"message": "…"}}

`path` and `operation` are regular expressions that are searched for. `nth` (counted from 1) or `first` limits which
of the matching requests are hit; without both it is every one. Actions:

    answer      this status, headers and body, before the effect or after it (`when`)
    reset       the connection is cut, before the effect or after it
    hold        the request waits until `POST /_sandbox/release`, before the effect or after it
    delay       `ms` milliseconds pass first
    secondary   403 with Retry-After (`seconds`), before the effect
    primary     403, nothing remaining, reset in `seconds`; by GraphQL 200 with RATE_LIMITED
    truncated   a recursive tree listing stops after `entries` and says so
    stale       reads of refs answer what they pointed to before their last change
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import anyio

Action = Literal["answer", "reset", "hold", "delay", "secondary", "primary", "truncated", "stale"]
ACTIONS = ("answer", "reset", "hold", "delay", "secondary", "primary", "truncated", "stale")
When = Literal["before", "after"]


class BadRule(ValueError):  # noqa: N818
    """The rule cannot be understood; the text says why."""


@dataclass(eq=False, slots=True, kw_only=True)
class Rule:
    """What happens to which requests; the module's text explains the fields."""

    action: Action
    id: int = 0
    method: str | None = None
    path: str = ""
    operation: str | None = None
    nth: int | None = None
    first: int | None = None
    when: When = "before"
    status: int = 502
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    ms: int = 0
    seconds: int = 60
    entries: int = 0
    matched: int = 0

    def matches(self, method: str, path: str, operation: str | None) -> bool:
        if self.method is not None and self.method.upper() != method:
            return False
        if self.operation is not None and not re.search(self.operation, operation or ""):
            return False
        return re.search(self.path, path) is not None

    def hits(self) -> bool:
        """Counts one more match; whether this one is to be hit."""
        self.matched += 1
        if self.nth is not None:
            return self.matched == self.nth
        return self.first is None or self.matched <= self.first


@dataclass(eq=False, slots=True, kw_only=True)
class Held:
    """A request that waits."""

    id: int
    rule: int
    call: int
    when: When
    method: str
    path: str
    operation: str | None
    released: anyio.Event
    dropped: bool = False

    def shown(self) -> dict[str, Any]:
        names = ("id", "rule", "call", "when", "method", "path", "operation")
        return {name: getattr(self, name) for name in names}


@dataclass(eq=False)
class Rules:
    """The rules in force, and the requests that they hold."""

    rules: list[Rule] = field(default_factory=list)
    held: dict[int, Held] = field(default_factory=dict)
    last: int = 0
    changed: anyio.Event | None = None

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def add(self, action: Action, **settings: Any) -> Rule:
        """A new rule, in force from now on: `box.rules.add("hold", method="POST", path="/pulls$")`."""
        rule = parse({"action": action, **settings})
        self.last += 1
        rule.id = self.last
        self.rules.append(rule)
        return rule

    def remove(self, rule: Rule | int) -> None:
        self.rules = [one for one in self.rules if one is not rule and one.id != rule]

    def clear(self) -> None:
        """No rules, and nothing held any more."""
        self.rules = []
        self.release()

    def hitting(self, method: str, path: str, operation: str | None) -> list[Rule]:
        """The rules that hit this request, in the order of their making."""
        return [rule for rule in self.rules if rule.matches(method, path, operation) and rule.hits()]

    async def hold(self, rule: Rule, call: int, method: str, path: str, operation: str | None) -> bool:
        """Returns when released: whether the request goes on (False: it was dropped)."""
        self.last += 1
        held = Held(
            id=self.last,
            rule=rule.id,
            call=call,
            when=rule.when,
            method=method,
            path=path,
            operation=operation,
            released=anyio.Event(),
        )
        self.held[held.id] = held
        self._wake()
        try:
            await held.released.wait()
        finally:
            self.held.pop(held.id, None)
            self._wake()
        return not held.dropped

    def release(self, held: int | None = None, *, drop: bool = False) -> int:
        """How many requests go on now (or are cut, with `drop`): the one named, or all."""
        chosen = [one for one in self.held.values() if held is None or one.id == held]
        for one in chosen:
            one.dropped = drop
            one.released.set()
        return len(chosen)

    async def wait_held(self, count: int, seconds: float) -> list[Held]:
        """What is held as soon as it is `count` requests, or after that time."""
        with anyio.move_on_after(seconds):
            while len(self.held) < count:
                if self.changed is None:
                    self.changed = anyio.Event()
                await self.changed.wait()
        return list(self.held.values())

    def _wake(self) -> None:
        changed, self.changed = self.changed, None
        if changed is not None:
            changed.set()


def parse(values: Mapping[str, Any]) -> Rule:
    known = {one.name for one in fields(Rule)} - {"id", "matched"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise BadRule(f"unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if values.get("action") not in ACTIONS:
        raise BadRule(f"`action` must be one of {', '.join(ACTIONS)}")
    if values.get("when", "before") not in ("before", "after"):
        raise BadRule("`when` must be before or after")
    for name in ("path", "operation"):
        try:
            re.compile(values.get(name) or "")
        except re.error as error:
            raise BadRule(f"`{name}` is no regular expression: {error}") from error
    return Rule(**values)
