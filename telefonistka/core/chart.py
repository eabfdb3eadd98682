"""A plan as a chart: which directories it promotes from, which to, and the arrows between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from telefonistka.core.promotion import Plan, Promotion

ARROWS = 100  # GitHub draws 500, people can follow fewer


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Arrow:
    """From one source to one target, by their places in the chart; `label` says why nothing goes along it."""

    source: int
    target: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    arrows: tuple[Arrow, ...]
    left_out: int  # arrows that are too many


def of(plan: Plan) -> Chart:
    """The chart of what will be opened, in the order of the plan; components that share a way share an arrow."""
    ways: dict[tuple[str, str], str] = {}
    for promotion in plan.to_open:
        for source, target, label in _ways(promotion):
            known = ways.setdefault((source, target), label)
            # What is promoted counts for more than what is equal, and that for more than what is skipped.
            ways[source, target] = min(known, label, key=["", "equal", "skipped"].index)
    kept = list(ways.items())[:ARROWS]
    sources = {source: None for (source, _), _ in kept}
    targets = {target: None for (_, target), _ in kept}
    return Chart(
        sources=tuple(sources),
        targets=tuple(targets),
        arrows=tuple(
            Arrow(source=list(sources).index(source), target=list(targets).index(target), label=label)
            for (source, target), label in kept
        ),
        left_out=len(ways) - len(kept),
    )


def _ways(promotion: Promotion) -> Iterator[tuple[str, str, str]]:
    for pair in promotion.pairs:
        fitting = [prefix for prefix in promotion.targets if pair.target.startswith(prefix)]
        prefix = max(fitting, key=len, default=pair.target)
        name = pair.target[len(prefix) :]
        yield pair.source.removesuffix(name), prefix, "equal" if pair.in_sync else ""
    for skip in promotion.skipped:
        yield promotion.source, skip.target, "skipped"
