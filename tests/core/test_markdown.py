"""Content stays content: held against a Markdown renderer, over names that people with bad intentions would choose."""

from __future__ import annotations

import re
from collections.abc import Collection
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from telefonistka import templates
from telefonistka.core import comments, markdown, parts
from telefonistka.core.comments import Words
from telefonistka.core.config import Finding, Severity
from telefonistka.core.drift import Content, Divergence, Drift, LastCommit
from telefonistka.core.guards import Deletion
from telefonistka.core.lineage import Hop, Lineage
from telefonistka.core.promotion import Conflict, Pair, Plan, Promotion, Refusal, Skip, Untaken
from telefonistka.core.trees import Difference, Sha
from tests.core.values import blob

WORDS = Words(templates.load())
SHA = Sha("0123456789abcdef" * 2 + "01234567")
PAGE = "https://github.example/acme/iac"

HOSTILE = [
    "@scope",
    "#12",
    "GH-3",
    "acme/iac#4",
    "fixes #5",
    "closes: acme/iac#6",
    "a" * 40,
    f"acme/iac@{'b' * 40}",
    "https://evil.example/x",
    "www.evil.example",
    "<b>",
    "</code></summary></details><h1>",
    "<!-- telefonistka plan -->",
    "-->",
    "&lt;b&gt; &#64;alice",
    "[a](javascript:x)",
    "![a](https://evil.example/x.png)",
    "```",
    "`a``b",
    "\\`@alice`",
    "\\| @alice |",
    "| a | b |\n|---|---|",
    "\n\n# Heading\n\n@alice",
    "\u202e@alice\u2066",
    "*a* _b_ ~~c~~ $d$",
    "- [ ] a",
    "~~~",
    "\f\v",
    "1) a",
    "2. b",
    "{{ 7 * 7 }}",
    '"] --> x["',
    "\udcff",
]
NAMES = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from([*HOSTILE, "a", " ", "/", "\\", "`", "|", "@", "#", "\n", "<", "~"]), max_size=5).map(
        "".join
    ),
    st.text(max_size=20),
).filter(bool)

# What GitHub makes something of, wherever it stands in text: mentions, references, commits, links.
ALIVE = re.compile(r"@\w|#\d|\bGH-\d|[0-9a-f]{40}|://\w|\bwww\.\w", re.IGNORECASE)
BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Shown(HTMLParser):
    """What a browser gets: text outside of code, and everything that is not text."""

    def __init__(self, body: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags, self.links, self.comments = "", set[str](), list[str](), list[str]()
        self._code = 0
        renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        self.feed(renderer.render(body))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._code += tag in ("code", "pre")
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre")

    def handle_data(self, data: str) -> None:
        self.text += " " if self._code else data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data.strip())


TAGS = {"p", "code", "pre", "ul", "li", "strong", "h3", "h4", "table", "thead", "tbody", "tr", "th", "td", "a"}
FOLDS = TAGS | {"details", "summary"}


def judge(body: str, *, tags: Collection[str] = TAGS, marks: Collection[str], numbers: Collection[int] = ()) -> None:
    """Nothing of the content is more than text."""
    shown = Shown(body)
    assert shown.tags <= set(tags)
    assert shown.comments == list(marks)
    assert all(link.startswith(f"{PAGE}/") for link in shown.links)
    own = re.compile("|".join([r"\b(?!)", *(f"#{number} is open" for number in numbers)]))
    assert not ALIVE.search(own.sub("", shown.text)), shown.text
    assert not BIDI.search(body)


def kind(name: str) -> list[str]:
    return ["telefonistka_tag", f"telefonistka {name}"]


@pytest.mark.parametrize("name", HOSTILE)
def test_each_way_to_show_content_keeps_it_content(name: str) -> None:
    """Alone at the start of a line, and amid others."""
    for way in (markdown.code, markdown.inert, markdown.cell):
        judge(way(name), marks=[])
        judge(f"see {way(name)} and {way(name)}.", marks=[])
    judge(markdown.fenced(name, "diff"), marks=[])
    judge(f"<details><summary>{markdown.html(name)}</summary>\n\n</details>", tags=FOLDS, marks=[])


@given(NAMES, NAMES)
@example("@scope", "a|b")
def test_a_plan_of_hostile_names_is_text(one: str, other: str) -> None:
    """Components, paths, reasons, labels and files may be called anything."""
    pair = Pair(target=f"{other}/{one}", source=f"{one}/{other}", component=one, becomes=blob("1"), current=blob("2"))
    promotion = Promotion(
        source=one,
        source_path=one,
        line=1,
        targets=(other,),
        description=other,
        key="0" * 12,
        components=(one, other),
        pairs=(pair,),
        skipped=(Skip(component=one, target=other, reason=one, place=other),),
        auto_merge=True,
        held=one,
        deletions=(Deletion(target=one, count=3, of=4, files=(other,), components=(one,)),),
    )
    plan = Plan(
        promotions=(promotion,),
        refusals=(Refusal(subject=one, reason=other),),
        conflicts=(Conflict(target=one, sources=(one, other)),),
        untaken=(Untaken(flow=0, line=1, source_path=one, labels=(other,), files=1),),
        strays=(one, other),
        warnings=(one, other),
    )
    (body,) = WORDS.plan(plan)
    judge(body, marks=kind("plan"))
    chart = body.partition("```mermaid\n")[2].partition("\n```\n")[0]
    labels = re.findall(r'\["(.*?)"\]', chart)
    assert len(labels) >= 2
    assert all(re.fullmatch(r"(?:[\w /.-]|#\d+;)*", label) for label in labels)


@given(NAMES, NAMES)
@example("```\n</details>\n@alice", "-->")
def test_a_drift_of_hostile_names_and_contents_is_text(one: str, other: str) -> None:
    """Whatever files are called and hold, whoever changed them."""
    pair = Pair(target=one, source=other, component=one, becomes=blob("1"), current=blob("2"))
    before, after = blob(repr(one)), blob(repr(other) * 2)
    contents = {entry.oid: Content(size=1, text=text) for entry, text in ((before, one), (after, f"{other}\n{other}"))}
    differences = (Difference(one, before, after), Difference(other, before, None), Difference("", None, after))
    last = LastCommit(sha=SHA, author=one, date="2026-01-01T00:00:00Z")
    unexplained = Divergence(pair=pair, differences=differences, touched_by=(7,), last=last)
    flying = Divergence(pair=pair, differences=differences, brought_by=(8,))
    drift = Drift(commit=SHA, divergences=(unexplained, flying))
    (body,) = WORDS.drift(drift, contents, page=PAGE, branch=one)
    judge(body, tags=FOLDS, marks=kind("drift"), numbers=(7, 8))


@given(NAMES, NAMES)
def test_what_else_is_said_of_hostile_names_is_text(one: str, other: str) -> None:
    finding = Finding(file=one, line=1, column=1, severity=Severity.ERROR, message=other)
    judge(WORDS.broken_config([finding]), marks=kind("broken_config"))
    judge(WORDS.no_drift(branch=one), marks=kind("drift"))
    judge(WORDS.merge(one, waits=True), marks=kind("merge"))
    judge(WORDS.ceiling([one, other]), marks=kind("ceiling"))
    promotion = Promotion(
        source=one, source_path=one, line=1, targets=(other,), description=other * 30, key="", components=(one,)
    )
    # GitHub has no names that are not UTF-8, and so no metadata.
    hop = Hop(one.encode(errors="replace").decode(), (other.encode(errors="replace").decode(),))
    text = comments.body(promotion, Lineage(hops={7: hop}))
    shown = Shown(text)
    assert not ALIVE.search(shown.text.replace("#7", ""))
    assert not BIDI.search(text)


@given(NAMES, NAMES)
def test_titles_and_commit_messages_refer_to_nothing(one: str, other: str) -> None:
    """GitHub reads them, too; a squash merge makes a commit's message of a title."""
    promotion = Promotion(
        source=one, source_path="", line=1, targets=(other,), description="", key="", components=(one, other)
    )
    for text in (comments.title(promotion), comments.commit_message(promotion)):
        assert not ALIVE.search(text)
        assert not BIDI.search(text)
        assert "\n" not in text
        assert len(text) <= 256


@pytest.mark.parametrize("count", [1, 3, 40, 400])
def test_a_text_is_torn_between_sections_only(count: int) -> None:
    """In their order; all of them, or as many as comments hold, with the number of the others."""
    text = "".join(f"{parts.start(f'section {n}')}\n" + f"{n} {'x' * 997}\n" * 9 for n in range(count))
    told = parts.packed(text, "HEAD\n", "AGAIN\n", lambda names, left: f"{left} left, first {names[0]}")
    shown = [int(found) for found in re.findall(r"^(\d+) x", "".join(told), re.MULTILINE)]
    whole = len(shown) // 9
    assert shown == [n for n in range(whole) for _ in range(9)]
    assert all(one.startswith("HEAD\n") and len(one) <= parts.BUDGET for one in told)
    assert (whole == count) == ("left" not in told[-1])
    assert whole == count or told[-1].endswith(f"{count - whole} left, first section {whole}\n")


def test_a_section_that_is_too_long_is_cut_and_closed() -> None:
    text = f"{parts.start('a')}<details><summary>a</summary>\n\n````diff\n" + "+x\n" * 40_000 + "````\n\n</details>\n"
    (told,) = parts.packed(text, "", "", lambda names, left: "")
    assert len(told) <= parts.BUDGET
    assert re.search(r"\+x\n````\n\n</details>\n\n… \d+ more lines are left out", told)


def test_a_trace_is_no_news() -> None:
    """Nor are the line ends that a browser sends."""
    assert comments.says_the_same("a\nb\n<!-- trace 0af7 -->", "a\r\nb\n\n<!-- trace 1b2c -->\n")
    assert comments.says_the_same("a", "a\n<!-- trace 1b2c -->")
    assert not comments.says_the_same("a\n<!-- trace 0af7 -->", "b\n<!-- trace 0af7 -->")
