"""An operator's own words in the place of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from telefonistka import templates
from telefonistka.core import comments
from telefonistka.core.comments import Words

OURS = templates.load()
HEAD = "<!-- telefonistka_tag -->\n<!-- telefonistka {} -->\n"


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
