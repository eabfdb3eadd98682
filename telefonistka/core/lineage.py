"""The hidden metadata that a promotion pull request carries, in both directions.

It tells people and the next stage where a change came from. It is display, never authority: whoever can edit the
pull request can edit it. Format and spelling are the original's, so that its open pull requests are read and ours
could be read by it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

_MARKER = re.compile(r"<!--\|.*\|(.*)\|-->")
_TRACE = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # https://www.w3.org/TR/trace-context/


@dataclass(frozen=True, slots=True)
class Hop:
    """One promotion of the chain: from where to where."""

    source: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The chain that led to a pull request; `hops` maps each merged pull request's number to its promotion."""

    author: str = ""
    number: int = 0
    promoted_paths: tuple[str, ...] = ()
    hops: Mapping[int, Hop] = field(default_factory=dict)
    trace: str = ""  # the W3C trace context in which the pull request was opened; the original does not know it

    def followed_by(
        self, number: int, author: str, hop: Hop, promoted_paths: Collection[str], trace: str = ""
    ) -> Lineage:
        """The lineage of the promotion that the merged pull request `number` leads to."""
        return Lineage(
            author=self.author or author,
            number=self.number or min(self.hops, default=number),
            promoted_paths=tuple(sorted(promoted_paths)),
            hops={**self.hops, number: hop},
            trace=trace,
        )

    def without_oldest_hop(self) -> Lineage:
        return replace(self, hops=dict(sorted(self.hops.items())[1:]))


def parse(body: str) -> Lineage:
    """The lineage in a pull request's body; what cannot be read is left out, never an error."""
    for line in body.split("\n"):
        match = _MARKER.search(line)
        if match is not None and match.group(1):
            return _decoded(match.group(1))
    return Lineage()


def _decoded(text: str) -> Lineage:
    try:
        data = orjson.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return Lineage()
    if not isinstance(data, dict):
        return Lineage()
    fields = {str(key).lower(): value for key, value in data.items()}
    author, number = fields.get("originalprauthor"), fields.get("originalprnumber")
    trace = fields.get("traceparent")
    return Lineage(
        author=author if isinstance(author, str) else "",
        number=number if type(number) is int and number > 0 else 0,
        promoted_paths=tuple(sorted(_strings(fields.get("promotedpaths")))),
        hops=_hops(fields.get("previouspromotionpaths")),
        trace=trace if isinstance(trace, str) and _TRACE.fullmatch(trace) else "",
    )


def _hops(value: Any) -> dict[int, Hop]:
    hops = {}
    for key, entry in value.items() if isinstance(value, dict) else ():
        if not (key.isascii() and key.isdigit() and isinstance(entry, dict)):
            continue
        fields = {str(name).lower(): item for name, item in entry.items()}
        source = fields.get("sourcepath")
        hops[int(key)] = Hop(source if isinstance(source, str) else "", _strings(fields.get("targetpaths")))
    return hops


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def marker(lineage: Lineage) -> str:
    """The hidden comment for a pull request's body."""
    data: dict[str, Any] = {
        "originalPrAuthor": lineage.author,
        "originalPrNumber": lineage.number,
        "promotedPaths": list(lineage.promoted_paths),
        "previousPromotionPaths": {
            number: {"sourcePath": hop.source, "targetPaths": list(hop.targets)}
            for number, hop in sorted((str(number), hop) for number, hop in lineage.hops.items())
        },
    }
    if lineage.trace:
        data["traceparent"] = lineage.trace
    text = orjson.dumps(data)
    for character in b"<>&":  # as Go's JSON writes them
        text = text.replace(bytes([character]), b"\\u%04x" % character)
    return f"<!--|Telefonistka data, do not delete|{base64.b64encode(text).decode()}|-->"
