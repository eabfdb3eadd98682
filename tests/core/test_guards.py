"""How much may be deleted without people, and what the operator's ceiling covers."""

from __future__ import annotations

import pytest

from telefonistka.core import guards
from telefonistka.core.guards import Ceiling, Deletion
from tests.core.values import snapshot


def deleted(source: dict[str, str], target: dict[str, str], *, whole: bool = False) -> Deletion | None:
    """What goes from t/ when it becomes s/."""
    files = {f"s/{name}": text for name, text in source.items()} | {f"t/{name}": text for name, text in target.items()}
    before = snapshot(files)
    return guards.deletion(before, "t", before.entry("s"), "s", whole=whole)


def test_files_that_only_the_target_has_are_deleted() -> None:
    """Wherever they stand; what is replaced is not deleted."""
    found = deleted({"a": "1", "d/b": "1"}, {"a": "0", "d/b": "0", "d/c": "0", "e": "0"})
    assert found == Deletion(target="t", count=2, of=4, files=("t/d/c", "t/e"))


def test_nothing_deleted_is_no_deletion() -> None:
    assert deleted({"a": "1", "b": "1"}, {"a": "0"}) is None


def test_a_source_that_is_gone_deletes_everything() -> None:
    before = snapshot({"t/a": "1", "t/b": "1"})
    found = guards.deletion(before, "t", None, "s", whole=False)
    assert found is not None
    assert (found.count, found.of) == (2, 2)


def test_a_long_list_is_cut_and_counted() -> None:
    found = deleted({"a": "1"}, {f"f{number:04}": "0" for number in range(1000)})
    assert found is not None
    assert (found.count, len(found.files)) == (1000, guards.SHOWN)


def deletion(count: int, of: int, *components: str) -> Deletion:
    return Deletion(target="t", count=count, of=of, files=(), components=components)


@pytest.mark.parametrize(
    ("deletions", "says"),
    [
        ([], ""),
        ([deletion(1, 2)], ""),
        ([deletion(2, 3)], "it deletes 2 of 3 files in t"),
        ([deletion(50, 1000)], ""),
        ([deletion(51, 1000)], "it deletes 51 files, more than 50"),
        ([deletion(30, 1000), deletion(30, 1000)], "it deletes 60 files, more than 50"),
        ([deletion(1, 1000, "t/x")], "a whole directory is promoted and deletes the component t/x"),
        ([deletion(1, 9, "t/x", "t/y")], "a whole directory is promoted and deletes the component t/x and 1 more"),
    ],
)
def test_what_is_too_much_has_a_reason(deletions: list[Deletion], says: str) -> None:
    """More than fifty files of a promotion, more than half of a target, or a component with a whole directory."""
    assert guards.too_much(deletions) == says


def test_a_whole_directory_names_the_components_it_deletes() -> None:
    found = deleted({"x/f": "1"}, {"x/f": "1", "own/f": "1", "file": "1"}, whole=True)
    assert found is not None
    assert found.components == ("t/own",)


def test_no_ceiling_allows_everything() -> None:
    none = Ceiling()
    assert none.serves("acme/iac")
    assert none.writable("prod/x")
    assert none.auto_merge
    assert none.auto_approve


@pytest.mark.parametrize(
    ("target", "allowed"),
    [("prod", True), ("prod/x", True), ("production/x", False), ("staging", False), ("Prod/x", False)],
)
def test_a_target_is_allowed_by_whole_names(target: str, allowed: bool) -> None:
    """`prod/` is not `production/`."""
    assert Ceiling(targets=("prod/", "lab")).writable(target) is allowed


@pytest.mark.parametrize(
    ("ceiling", "all_passes"),
    [
        (Ceiling(), True),
        (Ceiling(max_deletions=0, repositories=("acme/*",)), True),
        (Ceiling(auto_merge=False), False),
        (Ceiling(auto_approve=False), False),
        (Ceiling(targets=("staging",)), False),
    ],
)
def test_a_ceiling_that_no_configuration_can_reach_lets_all_pass(ceiling: Ceiling, all_passes: bool) -> None:
    """Then no configuration is looked at for its sake."""
    assert ceiling.lets_all_pass is all_passes
