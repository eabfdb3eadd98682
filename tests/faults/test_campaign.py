"""The fault campaign as part of the gate: at writes alone. `python -m tests.faults` is the whole of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import campaign
from tests.faults.place import CHAIN, PROMOTIONS, SCENARIOS, Scenario

scenarios = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@scenarios
async def test_a_kill_at_any_write_changes_nothing(scenario: Scenario, tmp_path: Path) -> None:
    """Before the call's effect and between effect and answer: the next daemon ends where one without a kill does."""
    wanted = await campaign.clean(scenario, tmp_path / "clean")
    jobs = campaign.kills(scenario, tmp_path, wanted, reads=False)
    assert len(jobs) >= 2 * 3
    runs = await campaign.carried_out(jobs)
    assert not any(run.deviations for run in runs), campaign.table(runs)


async def test_a_delivery_that_is_lost_with_the_daemon_is_made_up_for(tmp_path: Path) -> None:
    """GitHub saw it fail, whether or not it is stored; sent again, it leads to the same and to nothing twice."""
    wanted = await campaign.clean(PROMOTIONS, tmp_path / "clean")
    runs = await campaign.carried_out(campaign.losses(PROMOTIONS, tmp_path, wanted))
    assert not any(run.deviations for run in runs), campaign.table(runs)


@scenarios
async def test_a_bad_answer_to_any_write_changes_nothing(scenario: Scenario, tmp_path: Path) -> None:
    """A server error after the effect, and a limit, are waited out."""
    wanted = await campaign.clean(scenario, tmp_path / "clean")
    faults = ("502 after the effect", "secondary limit")
    runs = await campaign.carried_out(campaign.answers(scenario, tmp_path, wanted, reads=False, faults=faults))
    assert not any(run.deviations for run in runs), campaign.table(runs)


@pytest.mark.parametrize("ending", ["/comments", "/merge", "/reviews"])
async def test_a_kill_around_what_a_chain_does_by_itself_changes_nothing(ending: str, tmp_path: Path) -> None:
    """Approved and merged once at each of three stages; every other call is killed in the whole campaign."""
    wanted = await campaign.clean(CHAIN, tmp_path / "clean")
    jobs = campaign.kills(CHAIN, tmp_path, wanted, ending=ending)
    assert len(jobs) >= 2 * 3
    runs = await campaign.carried_out(jobs)
    assert not any(run.deviations for run in runs), campaign.table(runs)


async def test_creating_without_looking_is_found(tmp_path: Path) -> None:
    """The campaign can fail: a daemon with this bug deviates wherever it dies after it created something."""
    wanted = await campaign.clean(PROMOTIONS, tmp_path / "clean", module="tests.faults.seeded")
    created = ("POST /repos/{owner}/{repo}/git/refs", "POST /repos/{owner}/{repo}/pulls")
    jobs = campaign.kills(PROMOTIONS, tmp_path, wanted, module="tests.faults.seeded", whens=("after",), ending=created)
    runs = await campaign.carried_out(jobs)
    assert [bool(run.deviations) for run in runs] == [True] * 4, campaign.table(runs)
