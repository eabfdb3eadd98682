"""What the merge of an open pull request would lead to, as a comment on it: for those who ask by label or command."""

from __future__ import annotations

from dataclasses import replace

from telefonistka.core import comments, promotion
from telefonistka.core.events import PullRequest
from telefonistka.core.promotion import Plan
from telefonistka.errors import Rejected
from telefonistka.handlers import facts
from telefonistka.handlers.facts import Context, Done, Proposal

LABEL = "show-plan"
OTHER_CONFIG = (
    "This pull request changes telefonistka.yaml. The plan goes by the file on the default branch; "
    "the merge will go by the changed one."
)


async def run(event: PullRequest, given: Context) -> Done:
    """The plan is on the pull request that was labelled."""
    return await tell(event.number, given)


async def tell(number: int, given: Context) -> Done:
    """The plan of a pull request is on it, as of now; raises Rejected where the configuration cannot be used."""
    found = await facts.proposal(given.repo, number)
    if isinstance(found, Done):
        return found
    if found.config.value is None:
        text = given.words.no_plan(found.config.findings)
        await given.repo.ensure_comment(number, comments.marker("plan"), text)
        raise Rejected(f"there is no plan, the configuration is broken: {found.config.findings[0]}")
    made = await _plan(found, given)
    await given.repo.ensure_comment(number, comments.marker("plan"), *given.words.plan(made))
    return Done("the plan is in a comment")


async def _plan(found: Proposal, given: Context) -> Plan:
    """Sources as the pull request's head has them, targets as the default branch has them."""
    repo, config = given.repo, found.config.value
    assert config is not None
    sources = await repo.snapshot(await repo.commit_tree(found.pull.head_sha))
    plan = await facts.plan(
        repo,
        found.snapshot,
        config,
        found.files,
        found.pull.labels,
        before=found.base.sha,
        ceiling=given.ceiling,
        sources=sources,
    )
    warnings = tuple(str(finding) for finding in found.config.findings)
    if promotion.CONFIG_FILE in found.files:
        warnings = (OTHER_CONFIG, *warnings)
    return replace(plan, warnings=warnings + plan.warnings)
