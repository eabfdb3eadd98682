"""Targets that are not what their sources are, before anything of a pull request is merged: a comment on it.

Only the default branch is looked at; of the pull request only which components it touches.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import anyio

from telefonistka.core import comments, drift, lineage, promotion
from telefonistka.core.drift import Content, Divergence, Drift, OpenPromotion
from telefonistka.core.events import PullRequest
from telefonistka.core.lineage import Lineage
from telefonistka.core.promotion import Pair
from telefonistka.core.trees import Oid, Sha, Snapshot
from telefonistka.errors import Rejected
from telefonistka.github.repo import Promoting, Repo
from telefonistka.handlers import facts
from telefonistka.handlers.facts import Context, Done, Proposal

SHOWN = 1_000  # blobs whose contents are compared; comments hold fewer


async def run(event: PullRequest, given: Context) -> Done:
    """The drift of the components that a pull request touches is on it."""
    return await tell(event.number, given)


async def tell(number: int, given: Context) -> Done:
    """What differs is on the pull request as of now; nothing is said where nothing differs, or ever did.

    Raises Rejected where the configuration cannot be used.
    """
    repo = given.repo
    found = await facts.proposal(repo, number)
    if isinstance(found, Done):
        return found
    if found.config.value is None:
        raise Rejected(f"drift cannot be told, the configuration is broken: {found.config.findings[0]}")
    seen = await _drift(found, given)
    branch = found.pull.default_branch
    if not seen.divergences:
        text = given.words.no_drift(branch=branch)
        await repo.ensure_comment(number, comments.marker("drift"), text, create=False)
        return Done("no drift")
    contents = await _contents(seen, repo)
    # Diffs of many files take a while: not on the event loop.
    bodies = await anyio.to_thread.run_sync(lambda: given.words.drift(seen, contents, page=repo.page, branch=branch))
    await repo.ensure_comment(number, comments.marker("drift"), *bodies)
    loud = len(seen.unexplained)
    return Done(f"drift in {loud} target{'s' * (loud != 1)}, {len(seen.divergences) - loud} in flight")


async def _drift(found: Proposal, given: Context) -> Drift:
    """The divergences of the plan's pairs, all read at one commit of the default branch."""
    repo, config, base = given.repo, found.config.value, found.base
    assert config is not None
    plan = await facts.plan(
        repo, found.snapshot, config, found.files, found.pull.labels, before=base.sha, ceiling=given.ceiling
    )
    pairs = drift.pairs(plan)
    if not pairs:
        return Drift(commit=base.sha)
    paths = [path for pair in pairs for path in (pair.source, pair.target)]
    snapshot = await repo.widen(found.snapshot, paths)
    promotions = await repo.open_promotions(found.pull.default_branch)
    return Drift(commit=base.sha, divergences=tuple(await _explained(repo, base.sha, snapshot, pairs, promotions)))


async def _explained(
    repo: Repo, commit: Sha, snapshot: Snapshot, pairs: Collection[Pair], promotions: Collection[Promoting]
) -> list[Divergence]:
    """Each pair with who changed its target last, and with the open promotions that say they are for it."""
    claims = {pair.target: _claiming(pair.target, promotions) for pair in pairs}
    asked = [pair for pair in pairs if pair.current is not None or claims[pair.target]]
    # A name that is no text cannot be asked about.
    targets = {pair.target: claims[pair.target].values() for pair in asked if _is_text(pair.target)}
    seen = await repo.seen(commit, targets)
    divergences = []
    for pair in pairs:
        known = seen.get(pair.target)
        holding = known.elsewhere if known else {}
        open_ones = [
            OpenPromotion(number=number, holds={pair.target: holding[sha]})
            for number, sha in claims[pair.target].items()
            if sha in holding
        ]
        divergences.append(drift.between(snapshot, pair, open_ones, known.last if known else None))
    return divergences


def _claiming(target: str, promotions: Collection[Promoting]) -> Mapping[int, Sha]:
    """The open promotions that may bring something to a target. What they say is only a hint where to look."""
    return {
        one.number: one.head_sha
        for one in promotions
        if one.head_ref.startswith(promotion.BRANCH_PREFIX) and _names(lineage.parse(one.body), target)
    }


def _names(known: Lineage, target: str) -> bool:
    if known.promoted_paths or not known.hops:
        return target in known.promoted_paths
    # A body that was too long has lost its paths; the last hop is the promotion's own.
    return target.startswith(known.hops[max(known.hops)].targets)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


async def _contents(seen: Drift, repo: Repo) -> Mapping[Oid, Content]:
    """What the files that are shown have in them; those beyond what comments hold are not read."""
    wanted = list(dict.fromkeys(drift.contents_of(seen.unexplained)))
    return await repo.contents(wanted[:SHOWN])
