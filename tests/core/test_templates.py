"""An operator's own words in the place of ours, and whole texts of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from telefonistka import templates
from telefonistka.core import comments
from telefonistka.core.comments import Words
from telefonistka.core.promotion import Plan
from telefonistka.core.results import Result, Standing

OURS = templates.load()
HEAD = "<!-- telefonistka_tag -->\n<!-- telefonistka {} -->\n"


def result(standing: Standing, number: int | None = 7, *, reason: str = "", remarks: tuple[str, ...] = ()) -> Result:
    return Result(
        source="lab/",
        description="prod/",
        components=("@scope", "b`c"),
        standing=standing,
        number=number,
        reason=reason,
        remarks=remarks,
    )


def test_the_result_says_what_became_of_each() -> None:
    """Whatever names there are, they stay names."""
    results = (
        result(Standing.OPEN, reason="waits for @alice and #12"),
        result(Standing.MERGED, 8),
        result(Standing.CLOSED, 9, remarks=("#10 took its place",)),
        result(Standing.REFUSED, None, reason="no pull request for `x`"),
        result(Standing.TO_COME, None),
    )
    (text,) = Words(OURS).result(results, Plan())
    assert text == HEAD.format("result") + (
        "### What came of this merge\n"
        "\n"
        "- #7: `@scope`, `` b`c `` from `lab/` to `prod/`, **open**: waits for @&#8203;alice and #&#8203;12\n"
        "- #8: `@scope`, `` b`c `` from `lab/` to `prod/`, **merged**\n"
        "- #9: `@scope`, `` b`c `` from `lab/` to `prod/`, **closed** without a merge, so these targets stay as they"
        " are\n"
        "  - #&#8203;10 took its place\n"
        "- no pull request: `@scope`, `` b`c `` from `lab/` to `prod/`, **refused**: no pull request for \\`x\\`\n"
        "- no pull request: `@scope`, `` b`c `` from `lab/` to `prod/`, **not opened yet**\n"
        "\n"
        "This comment follows what happens to them.\n"
    )


def test_a_refused_command_says_why_and_what_might_be_meant() -> None:
    """What is to be copied is code, without anything in it that cannot be seen."""
    text = Words(OURS).command(
        "command-5", help=False, line="/freeze <b>", reason="it was for @you", instead="/freeze 89abcdef0123"
    )
    assert text == HEAD.format("command-5") + (
        "`/freeze <b>` was not done: it was for @&#8203;you.\n\nIf it is what you want, write `/freeze 89abcdef0123`.\n"
    )


LEFT = (
    "The source of this promotion has moved on: what it is now is in #4. Somebody has changed this pull request, so "
    "Telefonistka leaves it as it is. Please close it, or bring the newer content into it yourself.\n"
)
REPLACED = (
    "#4 takes the place of this pull request: the source has moved on, and that one has all that this one had. It is "
    "closed because the configuration says so (`onNewer: close`, or a second one of the kind with `onNewer: update`).\n"
)
NEEDLESS = (
    "The source of this promotion became what the target is already, so there is nothing left to promote. It is closed "
    "because the configuration says so (`onNewer`).\n"
)


@pytest.mark.parametrize(("by", "changed", "text"), [(4, True, LEFT), (4, False, REPLACED), (None, False, NEEDLESS)])
def test_what_was_overtaken_says_by_what(by: int | None, changed: bool, text: str) -> None:
    assert Words(OURS).newer(by, changed=changed) == HEAD.format("newer") + text


# An operator's own


def test_an_operators_template_takes_the_place_of_ours() -> None:
    """The marker stays: the comment is found again by it."""
    words = Words(OURS, {"newer.md": "Look at #{{ by }}."})
    assert words.newer(4, changed=False) == HEAD.format("newer") + "Look at #4."


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("fine\n{% if by %}\n", "newer.md:2: Unexpected end of template."),
        ("{{ by|shout }}", "newer.md:1: No filter named 'shout'."),
        ("\n\n{{ bye }}", "newer.md:3: nothing is called 'bye' here"),
        ("{% include 'other.md' %}", "newer.md:1: there is no template 'other.md'"),
    ],
)
def test_a_broken_template_is_told_with_file_and_line(text: str, fault: str) -> None:
    (found,) = comments.faults(OURS, {"newer.md": text})
    assert found.startswith(fault)


def test_all_of_ours_are_sound() -> None:
    assert list(comments.faults(OURS, OURS)) == []


def test_one_that_fails_with_what_there_is_to_say_gives_way_to_ours() -> None:
    """And its operator learns of it."""
    told: list[str] = []
    words = Words(OURS, {"newer.md": "{{ by.number.upper() }}"}, told.append)
    assert "#4 takes the place" in words.newer(4, changed=False)
    assert len(told) == 1
    assert told[0].startswith("newer.md: UndefinedError: ")


def test_a_template_reaches_nothing_beyond_its_facts() -> None:
    told: list[str] = []
    words = Words(OURS, {"newer.md": "{{ by.__class__.__mro__ }}"}, told.append)
    assert "takes the place" in words.newer(4, changed=False)
    assert told


def test_the_originals_files_are_found_and_told_apart(tmp_path: Path) -> None:
    """D92: they are Go templates, and are not carried out."""
    for name in ("drift-pr-comment.gotmpl", "newer.md", "own.md", "README"):
        (tmp_path / name).write_text("text")
    found = templates.found(tmp_path)
    assert dict(found.texts) == {"newer.md": "text"}
    assert (found.originals, found.unknown) == (("drift-pr-comment.gotmpl",), ("own.md",))
