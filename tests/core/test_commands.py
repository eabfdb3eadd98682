"""A comment's first line as a command, and nothing else of it."""

from __future__ import annotations

import pytest

from telefonistka.core import commands
from telefonistka.core.commands import Act, Command, Toggle, Unclear

LINES = {
    "/retrigger": Command(Act.RETRIGGER),
    "  /retrigger \r\nplease": Command(Act.RETRIGGER),
    "/retrigger 0123ABC": Command(Act.RETRIGGER, "0123abc"),
    "/retrigger now": Unclear("/retrigger now"),
    "/retrigger 0123abc 0123abc": Unclear("/retrigger 0123abc 0123abc"),
    "/retrigger 0123": Unclear("/retrigger 0123"),
    "/telefonistka": Command(Act.HELP),
    "/telefonistka help": Command(Act.HELP),
    "/telefonistka plan": Command(Act.PLAN),
    "/telefonistka drift": Command(Act.DRIFT),
    "/telefonistka promote": Command(Act.PROMOTE),
    "/telefonistka  retrigger  " + "a" * 40: Command(Act.RETRIGGER, "a" * 40),
    "/telefonistka merge": Unclear("/telefonistka merge"),
    "/telefonistkas": Toggle("telefonistkas"),
    "/deploy freeze": Toggle("deploy freeze"),
    "/override abcdef0": Toggle("override", "abcdef0"),
    "": None,
    "please /retrigger": None,
    "> /retrigger": None,
    "\n/retrigger": None,
    "retrigger": None,
}


@pytest.mark.parametrize("body", LINES, ids=repr)
def test_the_whole_first_line_is_the_command(body: str) -> None:
    """D89: not a word somewhere in a sentence, and not what is quoted."""
    assert commands.parse(body) == LINES[body]


def test_a_word_toggles_only_where_it_is_configured() -> None:
    assert Toggle("freeze").context({"freeze": "ci/freeze"}) == "ci/freeze"
    assert Toggle("freezer").context({"freeze": "ci/freeze"}) is None


def test_toggling_a_success_gives_a_failure_and_anything_else_a_success() -> None:
    """As the original has it."""
    states = ("success", "failure", "error", "pending")
    assert [commands.toggled(state) for state in states] == ["failure", "success", "success", "success"]
