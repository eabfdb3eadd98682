"""Expressions and templates mean what they mean to Go, whatever the text holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telefonistka.core import patterns

CASES: list[list[Any]] = json.loads((Path(__file__).parent / "go_regexp_cases.json").read_text("utf-8"))
names = st.binary(max_size=30).map(lambda name: name.decode("utf-8", "surrogateescape"))


def test_every_answer_is_gos() -> None:
    """What Go's regexp package matched, captured and replaced, and what it refused (go_regexp_cases.go)."""
    assert not [case for case in CASES if (answer := _answer(case)) != case and print(case, answer) is None]
    assert len([case for case in CASES if len(case) == 2]) > 60
    assert len([case for case in CASES if len(case) == 5 and case[2]]) > 200


def _answer(case: list[Any]) -> list[Any]:
    expression = case[0]
    try:
        pattern = patterns.compile(expression)
    except patterns.InvalidPattern:
        return [expression, None]
    if len(case) == 2:
        return [expression, "compiled"]
    _, text, _, template, _ = case
    match = pattern.search(text)
    spans = match and [[match.start(n), match.end(n)] for n in range(pattern.groups + 1)]
    return [expression, text, spans, template, pattern.replace_all(text, template)]


def test_a_refusal_says_why() -> None:
    """The reason is RE2's, readable."""
    with pytest.raises(patterns.InvalidPattern, match=r"^missing \): src/\($"):
        patterns.compile("src/(")
    with pytest.raises(patterns.InvalidPattern, match=r"invalid escape sequence: \\C"):
        patterns.compile(r"a\C")
    with pytest.raises(patterns.InvalidPattern, match="no argument for repetition operator"):
        patterns.compile("*")


@pytest.mark.parametrize("expression", [r"\pL{1000}", r"(?:\pL{50}){20}", "a" * 200_000, "[^/]{1,1000}" * 10])
def test_an_expression_that_is_too_large_is_refused(expression: str) -> None:
    """A small text can stand for a program of any size."""
    with pytest.raises(patterns.InvalidPattern, match="too large"):
        patterns.compile(expression)


@pytest.mark.parametrize(
    "expression", ["(" * 100_000, "[[:" * 50_000, r"\p{" * 50_000, "{1" * 50_000, "(?" * 50_000, "\ud800"]
)
def test_hostile_text_is_refused_at_once(expression: str) -> None:
    """Neither a crash nor a long wait."""
    with pytest.raises(patterns.InvalidPattern):
        patterns.compile(expression)


@given(names, names)
def test_names_pass_through_as_they_are(component: str, rest: str) -> None:
    """A path's bytes survive the split, UTF-8 or not; a component's characters are data."""
    component = component.replace("/", "")
    found = patterns.compile("^(?:src/)([^/]*)/").search(f"src/{component}/{rest}")
    assert found is not None
    assert found.group(1) == component
    assert patterns.compile("^src/").replace_all(f"src/{component}/{rest}", "$$/") == f"$/{component}/{rest}"


@given(names, names)
def test_a_template_without_dollars_is_inserted_as_it_is(text: str, template: str) -> None:
    """Only the dollar is special."""
    template = template.replace("$", "")
    assert patterns.compile("").replace_all("", template) == template
    assert patterns.compile("^").replace_all(text, template) == template + text


@given(st.text(alphabet="ab()|*+?[]^$\\{}1,/.QEC:-", max_size=20), names)
def test_any_expression_is_refused_or_slices_the_text(expression: str, text: str) -> None:
    """Offsets are those of the text given."""
    try:
        pattern = patterns.compile(expression)
    except patterns.InvalidPattern:
        return
    match = pattern.search(text)
    if match is None:
        return
    for group in range(pattern.groups + 1):
        assert match.group(group) in (None, text[match.start(group) : match.end(group)])
    assert pattern.replace_all(text, "$0") == text


@pytest.mark.parametrize(
    ("expression", "literal", "prefix", "ends"),
    [
        ("src/", "src/", "src/", True),
        ("^src/", "src/", "src/", True),
        (r"a\.b/", "a.b/", "a.b/", True),
        (r"\Qa.b/\E", "a.b/", "a.b/", True),
        ("src", "src", "src", False),
        ("a.b/", None, "a", True),
        ("env/[^/]*/", None, "env/", True),
        ("env/[^/]*", None, "env/", False),
        ("[/]", None, "", False),
        ("(?:dev|lab)/", None, "", True),
        ("(?:dev/|lab/)", None, "", True),
        ("(?:dev/|lab)", None, "", False),
        ("dev/|lab/", None, "", True),
        ("(?i)src/", None, "", True),
        ("src/?", None, "src", False),
        ("src/+", None, "src", True),
        ("src/$", None, "src/", True),
        ("a{,2}/", "a{,2}/", "a{,2}/", True),
        ("", "", "", False),
        ("(" * 500 + "/" + ")" * 500, None, "", False),
    ],
)
def test_what_an_expression_looks_like(expression: str, literal: str | None, prefix: str, *, ends: bool) -> None:
    """The advice's view of an expression."""
    assert (patterns.literal(expression), patterns.prefix(expression)) == (literal, prefix)
    assert patterns.ends_with(expression, "/") is ends


@given(st.text(alphabet="ab()|*+?[]^$\\{}1,/.QE", max_size=20))
def test_what_is_literal_matches_itself(expression: str) -> None:
    """A literal is the only text that the expression matches at the start; a prefix is part of every match."""
    try:
        pattern = patterns.compile(f"^(?:{expression})")
        patterns.compile(expression)
    except patterns.InvalidPattern:
        return
    literal = patterns.literal(expression)
    if literal is not None:
        match = pattern.search(literal)
        assert match is not None
        assert match.group() == literal
        assert patterns.prefix(expression) == literal


def test_of_several_expressions_the_first_that_matches_counts() -> None:
    """As if one were searched after the other."""
    expressions = ("^a/", "b", "^a", "")
    choice = patterns.Choice(expressions)
    assert [choice.first(text) for text in ("a/b", "ab", "a", "\udcff")] == [0, 1, 2, 3]
    assert patterns.Choice(expressions[:3]).first("c") is None
    assert patterns.Choice(()).first("c") is None


def test_more_expressions_than_fit_into_one_automaton_still_match() -> None:
    """One after the other, then."""
    expressions = [f"({number}[^/]*){{20}}(.*){{20}}x$" for number in range(400)]
    choice = patterns.Choice([*expressions, "^y"])
    assert choice.first("y") == 400
    assert choice.first("z") is None
