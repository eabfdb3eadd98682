"""The hidden metadata and the texts around it, to the character."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telefonistka.core import comments, lineage
from telefonistka.core.lineage import Hop, Lineage
from telefonistka.core.promotion import Pair, Promotion, Skip
from tests.core.values import blob

EXAMPLE = (
    "eyJvcmlnaW5hbFByQXV0aG9yIjoidSIsIm9yaWdpbmFsUHJOdW1iZXIiOjAsInByb21vdGVkUGF0aHMiOlsicHJvZC94Il0sInByZXZpb3VzUHJv"
    "bW90aW9uUGF0aHMiOnsiNyI6eyJzb3VyY2VQYXRoIjoiZGV2LyIsInRhcmdldFBhdGhzIjpbInByb2QvIl19fX0="
)
WORKED = Lineage(author="u", promoted_paths=("prod/x",), hops={7: Hop("dev/", ("prod/",))})


def promotion(**fields: object) -> Promotion:
    pair = Pair(target="prod/x", source="dev/x", component="x", becomes=blob("1"), current=None)
    whole = Promotion(
        source="dev/", source_path="dev/", line=1, targets=("prod/",), description="", key="0" * 12, components=("x",)
    )
    return replace(whole, pairs=(pair,), **fields)  # type: ignore[arg-type]


def test_the_worked_example_is_written_as_the_original_writes_it() -> None:
    """Contract, section 1.5: the same bytes, so that either program reads the other's pull requests."""
    assert lineage.marker(WORKED) == f"<!--|Telefonistka data, do not delete|{EXAMPLE}|-->"


def test_the_worked_example_is_read() -> None:
    """Among other text, in a body with Windows line ends."""
    assert lineage.parse(f"Promotion path(x):\r\n\r\n<!--|anything|{EXAMPLE}|-->\r\nmore") == WORKED


def encoded(value: object) -> str:
    return f"<!--|x|{base64.b64encode(orjson.dumps(value)).decode()}|-->"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", Lineage()),
        ("<!--|Telefonistka data, do not delete||-->", Lineage()),
        ("<!--|x|no base64!|-->", Lineage()),
        ("<!--|x|aGVsbG8=|-->", Lineage()),
        (encoded([1]), Lineage()),
        (encoded({"ORIGINALPRAUTHOR": "u", "promotedPaths": None}), Lineage(author="u")),
        (encoded({"originalPrAuthor": 7, "originalPrNumber": 3}), Lineage(number=3)),
        (
            encoded({"previousPromotionPaths": {"1": {"sourcePath": "a/", "targetPaths": None}, "x": {}, "2": 3}}),
            Lineage(hops={1: Hop("a/", ())}),
        ),
    ],
)
def test_what_cannot_be_read_is_left_out(body: str, expected: Lineage) -> None:
    """People edit bodies; a promotion never fails over its display."""
    assert lineage.parse(body) == expected


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "trace", [7, "x", f"{TRACE}\n", TRACE.upper(), TRACE.replace("00-", "01-"), f"{TRACE} <b>", TRACE[:-1]]
)
def test_a_trace_that_is_none_is_left_out(trace: object) -> None:
    """It is compared with the W3C's form to the letter; the rest is read all the same."""
    assert lineage.parse(encoded({"originalPrAuthor": "u", "traceparent": trace})) == Lineage(author="u")
    assert lineage.parse(encoded({"originalPrAuthor": "u", "traceparent": TRACE})) == Lineage(author="u", trace=TRACE)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LINEAGES = st.builds(
    Lineage,
    author=TEXT,
    number=st.integers(0, 10**6),
    promoted_paths=st.sets(TEXT).map(lambda paths: tuple(sorted(paths))),
    hops=st.dictionaries(st.integers(1, 10**6), st.builds(Hop, TEXT, st.lists(TEXT).map(tuple)), max_size=4),
    trace=st.sampled_from(["", TRACE]),
)


@given(LINEAGES)
def test_what_is_written_is_read_again(whole: Lineage) -> None:
    """Whatever characters are in it; and it stays within its comment and its line."""
    text = lineage.marker(whole)
    assert lineage.parse(f"before\n{text}\nafter") == whole
    assert re.fullmatch(r"<!--\|Telefonistka data, do not delete\|[A-Za-z0-9+/=]+\|-->", text)


def test_the_next_stage_carries_the_first_author_on() -> None:
    """The person who began the chain is assigned at every stage."""
    first = Lineage().followed_by(7, "alice", Hop("dev/", ("lab/",)), ["lab/x"])
    second = first.followed_by(9, "the-bot", Hop("lab/", ("prod/",)), ["prod/x"])
    assert (second.author, second.number) == ("alice", 7)
    assert sorted(second.hops) == [7, 9]


def test_the_next_stage_has_a_trace_of_its_own() -> None:
    """That of the merge which leads to it; without traces the metadata is the original's to the letter."""
    first = Lineage(trace=TRACE)
    assert first.followed_by(9, "bot", Hop("lab/", ()), []).trace == ""
    assert first.followed_by(9, "bot", Hop("lab/", ()), [], trace="00-1").trace == "00-1"


def test_the_chain_is_shown_as_the_original_shows_it() -> None:
    """The golden example of the contract, whose third target is hidden."""
    chain = Lineage(
        hops={
            2: Hop("sourcePath2", ("targetPath4",)),
            1: Hop("sourcePath1", ("targetPath2", "targetPath1", "targetPath3", "targetPath1")),
        }
    )
    assert comments.flow(chain, {"targetPath3"}) == (
        "↘️  #1  `sourcePath1` ➡️  \n"
        "&nbsp;&nbsp;&nbsp;&nbsp;`targetPath1`  \n"
        "&nbsp;&nbsp;&nbsp;&nbsp;`targetPath2`  \n"
        "&nbsp;&nbsp;&nbsp;&nbsp;↘️  #2  `sourcePath2` ➡️  \n"
        "&nbsp;&nbsp;&nbsp;&nbsp;&nbsp;&nbsp;&nbsp;&nbsp;`targetPath4`  \n"
    )


def test_a_whole_body() -> None:
    """Heading, chain, marker."""
    item = promotion(skipped=(Skip(component="x", target="eu/", reason="", place=""),), targets=("eu/", "prod/"))
    whole = Lineage(author="u", promoted_paths=("prod/x",), hops={7: Hop("dev/", ("eu/", "prod/"))})
    assert comments.body(item, whole) == (
        "Promotion path(x):\n\n↘️  #7  `dev/` ➡️  \n&nbsp;&nbsp;&nbsp;&nbsp;`prod/`  \n\n" + lineage.marker(whole)
    )


def test_a_title_is_the_originals() -> None:
    """Components, two spaces after the arrow, the description or the targets."""
    assert comments.title(promotion(components=("a", "b"))) == "🚀 Promotion: a,b ➡️  prod/"
    assert comments.title(promotion(description="Production")) == "🚀 Promotion: x ➡️  Production"


def test_a_long_title_goes_on_in_the_body() -> None:
    """250 characters and an ellipsis; the body starts with the rest."""
    item = promotion(description="n" * 300)
    title, body = comments.title(item), comments.body(item, WORKED)
    assert len(title) == 253
    assert title.endswith("nnn...")
    assert body.startswith("..." + "n" * (len("🚀 Promotion: x ➡️  ") + 300 - 250) + "\nPromotion path(x):")


@pytest.mark.parametrize(
    "whole",
    [
        Lineage(hops={number: Hop(f"stage-{number}/" * 20, ("t/" * 100,) * 20) for number in range(1, 300)}),
        Lineage(hops={1: Hop("s/", tuple(f"target/{number}/" * 10 for number in range(2000)))}),
        Lineage(hops={1: Hop("s/", ("t/",))}, promoted_paths=tuple(f"path/{number}" * 5 for number in range(5000))),
    ],
    ids=["hops", "targets", "paths"],
)
def test_a_body_fits_what_github_takes(whole: Lineage) -> None:
    """The oldest hops go first; the marker stays readable."""
    text = comments.body(promotion(), whole)
    assert len(text) <= comments.BUDGET
    assert max(lineage.parse(text).hops) == max(whole.hops)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", "`a`"), ("a`b", "`` a`b ``"), ("```", "```` ``` ````"), ("a\nb", "`a\ufffdb`"), ("\u202eab", "`\ufffdab`")],
)
def test_code_spans_cannot_be_left(text: str, expected: str) -> None:
    """The fence is longer than what is in it, and there is no line end or bidirectional control."""
    assert comments.code(text) == expected


@pytest.mark.parametrize(
    "text", ["@scope", "#12", "GH-3", "https://x.example", "<b>", "a" * 40, "<!-- x -->", "[a](b)"]
)
def test_content_in_prose_is_inert(text: str) -> None:
    """No mention, reference, link, markup or marker is left as GitHub would read it."""
    shown = comments.inert(text).replace("&#8203;", "\u200b")
    assert not re.search(r"@\w|#\d|GH-\d|://\w|<\w|<!--|[0-9a-f]{7}|(?<!\\)\[", shown)


def test_a_status_is_one_plain_line() -> None:
    """GitHub takes 140 characters."""
    assert comments.status("\n**opened** [#1](https://x) for `a`\nmore") == "opened #1 for a"
    assert len(comments.status("x" * 200)) == comments.STATUS_LIMIT
