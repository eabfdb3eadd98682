"""Bumps change what they are told to change, and not a byte beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML, MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node

from telefonistka.core import address, bump, quoting, yamltext
from telefonistka.core.address import Each, Index, InvalidAddress, Key, Select
from telefonistka.core.bump import Bump, NoMatch, Overwrite, SetScalar, Substitute
from telefonistka.errors import Rejected

CORPUS = {path.name: path.read_bytes().decode() for path in sorted(Path(__file__).with_name("bump").iterdir())}
CRLF = {f"{name}, CRLF": text.replace("\n", "\r\n") for name, text in CORPUS.items()}
VALUES = ("v2.0.0", "17", "a: b # c", "", "naïve 🚀", "it's", "x\ny", "- [", "true")

Path_ = tuple[str | int, ...]


def changed(text: str, where: str, value: str) -> str | None:
    return yamltext.change(text, address.parse(where), value)


# Addresses


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (".a.b", (Key("a"), Key("b"))),
        (".a-b", (Key("a-b"),)),
        (".a/b@c_1", (Key("a/b@c_1"),)),
        (".8080", (Key("8080"),)),
        ('."k"', (Key("k"),)),
        ('."a \\"b\\" \\\\"', (Key('a "b" \\'),)),
        ('.["a.b"]', (Key("a.b"),)),
        ('.a["b c"].["d"]', (Key("a"), Key("b c"), Key("d"))),
        (".a[0]", (Key("a"), Index(0))),
        (".[2][1]", (Index(2), Index(1))),
        (".a[]", (Key("a"), Each())),
        (".a.[]", (Key("a"), Each())),
        (".a | .b", (Key("a"), Key("b"))),
        ("(.a[]).b", (Key("a"), Each(), Key("b"))),
        (
            '.db.[] | select(.name == "postgres").image.tag',
            (Key("db"), Each(), Select((Key("name"),), "postgres"), Key("image"), Key("tag")),
        ),
        ('(.l[]|select(.a.b=="x"))|.c', (Key("l"), Each(), Select((Key("a"), Key("b")), "x"), Key("c"))),
        ('.l[] | select(. == "x")', (Key("l"), Each(), Select((), "x"))),
        (".l[] | select(.port == 80).x", (Key("l"), Each(), Select((Key("port"),), "80"), Key("x"))),
        ('select(.kind == "B").x', (Select((Key("kind"),), "B"), Key("x"))),
    ],
)
def test_an_address_is_a_path_of_yq(text: str, steps: tuple[Any, ...]) -> None:
    """The part of yq's language that names places."""
    assert address.parse(text) == steps


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "a.b", "[0].a", ".a[-1]", ".a[1:2]", ".a[0", ".a[x]", ".a..b", ".a.", ".a?", ".a*", ".a b",
        '.a"b"', '."a', '."a\\nb"', ".a = 1", ".a | length", ".a | ", "(.a", ".a)", "del(.a)", "env(X)", ".a + .b",
        ".a // .b", 'select(.a == "b")', '.a | select(.b != "x")', '.a | select(.b == "x" and .c == "y")',
        ".a | select(.b)", '.a[] | select(.b[] == "x").c', '.a\\(env(HOME))', '.a") | .b = ("x',
    ],
)  # fmt: skip
def test_what_is_no_path_is_a_clear_error(text: str) -> None:
    """It quotes the address and shows what one looks like; nothing is evaluated."""
    with pytest.raises(InvalidAddress) as refused:
        address.parse(text)
    assert repr(text) in str(refused.value)


# The table of the contract. Where yq would format the file anew, ours leaves it (D104).


@pytest.mark.parametrize(
    ("before", "where", "value", "after"),
    [
        ('\ntag: "16.1"\n', ".tag", "16.2", '\ntag: "16.2"\n'),
        (
            "db:\n- name: mysql\n  image: {tag: '8'}\n- name: postgres\n  image:\n    tag: 16.1\n",
            '.db.[] | select(.name == "postgres").image.tag',
            "16.2",
            "db:\n- name: mysql\n  image: {tag: '8'}\n- name: postgres\n  image:\n    tag: \"16.2\"\n",
        ),
        ("a: 1\n", ".image.tag", "16.2", 'a: 1\nimage:\n  tag: "16.2"\n'),
        ("a: 1\n", ".new.deep[0].k", "x", "a: 1\nnew:\n  deep:\n    - k: x\n"),
        ("tag: v1\n", ".tag", "v2", "tag: v2\n"),
        ("tag: 'v1'\n", ".tag", "v2", "tag: 'v2'\n"),
        ("tag: v1 # keep\n", ".tag", "v2", "tag: v2 # keep\n"),
        ("tag: 16.1\n", ".tag", "2", 'tag: "2"\n'),
        ("tag: 1\n", ".tag", "2", 'tag: "2"\n'),
        ("tag: true\n", ".tag", "2", 'tag: "2"\n'),
        ("tag: x\n", ".tag", "null", 'tag: "null"\n'),
        ("tag: x\n", ".tag", "1e3", 'tag: "1e3"\n'),
        ("tag: x\n", ".tag", "2024-01-01", 'tag: "2024-01-01"\n'),
        ("tag: x\n", ".tag", "", 'tag: ""\n'),
        ("tag: x\n", ".tag", "on", "tag: on\n"),
        ("a: |\n  one\n  two\nb: 1\n", ".a", "v2", "a: |-\n  v2\nb: 1\n"),
        ("a:\n  b: 1\n  # gone\n  c: 2\nd: 1\n", ".a", "v2", "a: v2\nd: 1\n"),
        ("a:\n- b\n- c\nd: 1\n", ".a", "v2", "a: v2\nd: 1\n"),
        ("a: &x v1\nb: *x\n", ".b", "v2", "a: &x v1\nb: v2\n"),
        ("image: [a, b]\n", ".image[5]", "v", "image: [a, b, null, null, null, v]\n"),
        ("image:\n- a\n- b # two\n", ".image[3]", "v", "image:\n- a\n- b # two\n- null\n- v\n"),
        ("image: [a, b]\n", ".image[]", "v", "image: [v, v]\n"),
        ("tag: a\n---\ntag: b\n", ".tag", "v", "tag: v\n---\ntag: v\n"),
        ("tag: x\n", ".tag", 'say "hi"', 'tag: say "hi"\n'),
        ("tag: x\n", ".tag", "\\(env(HOME))", "tag: \\(env(HOME))\n"),
    ],
)
def test_the_contract_holds(before: str, where: str, value: str, after: str) -> None:
    """compatibility of bump-yaml, case by case."""
    assert changed(before, where, value) == after


@pytest.mark.parametrize(
    ("before", "where"),
    [
        ("", ".tag"),
        ("# nothing yet\n", ".tag"),
        ("a: b\n", ".a.c"),
        ("l:\n- name: x\n", '.l[] | select(.name == "y").tag'),
        ("l:\n- name: x\n", '.l[] | select(.other == "y").tag'),
        ("l: []\n", ".l[]"),
        ("l: []\n", ".l[].tag"),
        ("a: 1\n", ".l[]"),
        ("l: [a]\n", ".l.name"),
        ("a: {b: 1}\n", ".a[0]"),
    ],
)
def test_an_address_may_lead_nowhere(before: str, where: str) -> None:
    """Then there is no match, and nothing is invented."""
    assert changed(before, where, "v") is None
    with pytest.raises(NoMatch, match=re.escape(where)):
        SetScalar(file="f.yaml", address=where, value="v").applied(before.encode())


@pytest.mark.parametrize(
    ("before", "where", "after"),
    [
        ("a:\n  b: 1\n  # of a\n\nc: 1\n", ".a.d", "a:\n  b: 1\n  d: v\n  # of a\n\nc: 1\n"),
        ("a:\n    b:\n        c: 1", ".a.d.e", "a:\n    b:\n        c: 1\n    d:\n        e: v"),
        ("a: # why\nb: 1\n", ".a", "a: v # why\nb: 1\n"),
        ("a: # why\nb: 1\n", ".a.x", "a: # why\n  x: v\nb: 1\n"),
        ("a: ~ # why\nb: 1\n", ".a[1]", "a: # why\n  - null\n  - v\nb: 1\n"),
        ("- a\n-\n", ".[1]", "- a\n- v\n"),
        ("a: {b: 1}\n", ".a.c.d", "a: {b: 1, c: {d: v}}\n"),
        ("a: {}\n", ".a.c[1]", "a: {c: [null, v]}\n"),
        ('{"a": {"b": 1}}\n', ".a.c", '{"a": {"b": 1, "c": "v"}}\n'),
        ('{"a": true}\n', ".a", '{"a": "v"}\n'),
        ("---\n", ".a", "---\na: v\n"),
        ("a: 1\r\nb:\r\n  c: 1\r\n", ".b.d.e", "a: 1\r\nb:\r\n  c: 1\r\n  d:\r\n    e: v\r\n"),
        ("\ufeffa: 1\n", ".b", "\ufeffa: 1\nb: v\n"),
        ("a: |+\n  x\n\n", ".b", "a: |+\n  x\n\nb: v\n"),
        ("a: 1\n", '."b: c"', "a: 1\n'b: c': v\n"),
    ],
)
def test_what_is_missing_is_created_in_the_style_of_its_place(before: str, where: str, after: str) -> None:
    """Behind what is there, with its indentation, line ends and brackets."""
    assert changed(before, where, "v") == after


@pytest.mark.parametrize(
    ("before", "where", "after"),
    [
        ("a: &x v1 # k\nb: *x\n", ".a", "a: &x v # k\nb: *x\n"),
        ("d: &d {t: 1}\np: *d\n", ".p.t", "d: &d {t: v}\np: *d\n"),
        ("d: &d\n  t: 1\np:\n  <<: *d\n", ".p.t", "d: &d\n  t: 1\np:\n  <<: *d\n  t: v\n"),
        ("a: !!int 5 # k\n", ".a", "a: v # k\n"),
        ("a: !!str 5\n", ".a", "a: !!str v\n"),
        ("a: !vault 5\n", ".a", "a: !vault v\n"),
        ("a: &i !!map\n  b: 1\n", ".a", "a: &i v\n"),
        ("a: >+ # note\n  x\n\nb: 1\n", ".a", "a: >- # note\n  v\nb: 1\n"),
        ("a: >1\n   x\n", ".a", "a: >1-\n v\n"),
        ("a:\n  'x'   # k\n", ".a", "a:\n  'v'   # k\n"),
        ("? a\n: b\n", ".a", "? a\n: v\n"),
        ("a: 1\na: 2\n", ".a", "a: 1\na: v\n"),
        ("kind: A\nt: 1\n---\nkind: B\n", ".t", "kind: A\nt: v\n---\nkind: B\n"),
        ("l: [{n: ab, t: 1}, {n: b, t: 1}]\n", '.l[] | select(.n == "a*").t', "l: [{n: ab, t: v}, {n: b, t: 1}]\n"),
        ("l: [{n: ab, t: 1}, {n: b, t: 1}]\n", '.l[] | select(.n == "?").t', "l: [{n: ab, t: 1}, {n: b, t: v}]\n"),
        ("l: [1, 2]\n", ".l.1", "l: [1, v]\n"),
    ],
)
def test_anchors_tags_and_styles_stay(before: str, where: str, after: str) -> None:
    """A standard tag that the text would contradict goes; a merged key is overridden where it is merged."""
    assert changed(before, where, "v") == after


@pytest.mark.parametrize(
    ("before", "where", "reason"),
    [
        ("a: [\n", ".a", "not valid YAML: while parsing"),
        ("a: 1\n b: 2\n", ".a", "not valid YAML"),
        ("a: \x07\n", ".a", "not valid YAML"),
        ("{{- if .x }}\na: 1\n{{- end }}\n", ".a", "not valid YAML"),
        ("d: &d {i: {t: 1}}\np:\n  <<: *d\n", ".p.i.t", "merge key"),
        ("a: {b}\n", ".a.b", "cannot be put there"),
        ("a: [b: c]\n", ".a[0].d", "cannot be put there"),
        ("[" * 400, ".a", "nested too deeply|not valid YAML"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(before: str, where: str, reason: str) -> None:
    """With the file, and the line where there is one."""
    with pytest.raises(Rejected, match=rf"^f\.yaml(:\d+)*: .*(?:{reason})"):
        SetScalar(file="f.yaml", address=where, value="v").applied(before.encode())


def test_a_file_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(Rejected, match=r"f.yaml: not UTF-8 \(byte 3\)"):
        SetScalar(file="f.yaml", address=".a", value="v").applied(b"a: \xff\n")


# Laws, over files as people have them


def places(root: Node, path: Path_ = (), seen: set[int] | None = None) -> Iterator[tuple[Path_, ScalarNode]]:
    """Every scalar of a document by its path; what an alias repeats is left out."""
    seen = set() if seen is None else seen
    if id(root) in seen:
        return
    seen.add(id(root))
    match root:
        case ScalarNode():
            yield path, root
        case MappingNode():
            for key, value in root.value:
                if isinstance(key, ScalarNode) and key.value != "<<":
                    yield from places(value, (*path, key.value), seen)
        case SequenceNode():
            for number, item in enumerate(root.value):
                yield from places(item, (*path, number), seen)


def documents(text: str) -> list[Node]:
    return list(YAML(typ="safe", pure=True).compose_all(text))


def meaning(node: Node) -> Any:
    """What a reader makes of it: tags are those of YAML 1.2."""
    match node:
        case ScalarNode():
            return str(node.tag), node.value
        case MappingNode():
            return [(meaning(key), meaning(value)) for key, value in node.value]
    return [meaning(item) for item in node.value]


def spelled(path: Path_) -> str:
    quoted = (str(part).replace("\\", "\\\\").replace('"', '\\"') for part in path)
    return "".join(
        f"[{part}]" if isinstance(part, int) else f'["{text}"]' for part, text in zip(path, quoted, strict=True)
    )


@pytest.mark.parametrize("name", [*CORPUS, *CRLF])
def test_only_the_addressed_scalar_is_another(name: str) -> None:
    """For every scalar of every file: all bytes beside it stay, and so does what every other value means."""
    text = (CORPUS | CRLF)[name]
    trees = documents(text)
    found = [(path, node) for tree in trees for path, node in places(tree)]
    assert found
    for number, (path, _) in enumerate(found):
        value = VALUES[number % len(VALUES)]
        result = changed(text, f".{spelled(path)}", value)
        assert result is not None
        same = [node for tree in trees for other, node in places(tree) if other == path]
        assert_the_rest_stays(text, result, same)
        aliased = {id(node) for node in same}
        assert [meaning(tree) for tree in documents(result)] == [
            put_everywhere(meaning(tree), tree, aliased, value) for tree in trees
        ]
        assert changed(result, f".{spelled(path)}", value) == result


def put_everywhere(tree: Any, node: Node, nodes: set[int], value: str) -> Any:
    """The meaning with a text in place of these nodes, aliases of them included."""
    if id(node) in nodes:
        tag = str(node.tag)
        return (tag if tag.startswith("!") else "tag:yaml.org,2002:str"), value
    match node:
        case MappingNode():
            pairs = zip(tree, node.value, strict=True)
            return [
                (put_everywhere(key, one[0], nodes, value), put_everywhere(item, one[1], nodes, value))
                for (key, item), one in pairs
            ]
        case SequenceNode():
            return [put_everywhere(item, one, nodes, value) for item, one in zip(tree, node.value, strict=True)]
    return tree


def assert_the_rest_stays(before: str, after: str, nodes: list[ScalarNode]) -> None:
    """What lies between the places is the same, byte for byte; an empty place is one between two of them."""
    pieces, position = [], 0
    for node in nodes:
        start, end = node.start_mark.index, node.end_mark.index
        if before[start:end].strip(" \r\n&!x") == "":  # nothing is there: the parser puts it at what follows
            start = end = len(before[:start].rstrip())
            while before[before.rfind("\n", 0, start) + 1 : start].lstrip().startswith("#"):
                start = end = len(before[: before.rfind("\n", 0, start)].rstrip())
            start = end = start if before[start - 1] == ":" else before.rfind(":", 0, start) + 1
        pieces.append(before[position:start])
        position = end
    pieces.append(before[position:])
    assert re.fullmatch("(?:.*?)".join(map(re.escape, pieces)), after, re.DOTALL), after


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@example("=", "a: x\n")
@given(TEXTS, st.sampled_from(["a: x\n", "a: 'x'\n", 'a: "x"\n', "a: [x]\n", "a: |\n  x\n", "a:\n", "b: [{a: x}]\n"]))
def test_every_text_can_be_a_value(value: str, before: str) -> None:
    """Whatever it holds, it is read back, as a string."""
    where = {"a: [x]\n": ".a[0]", "b: [{a: x}]\n": ".b[].a"}.get(before, ".a")
    result = changed(before, where, value)
    assert result is not None
    (tree,) = documents(result)
    assert [(str(node.tag), node.value) for _, node in places(tree)] == [("tag:yaml.org,2002:str", value)]


@given(TEXTS)
def test_a_plain_scalar_is_one_that_reads_back(value: str) -> None:
    """In block and in flow context; as a key, too."""
    for context, frame in ((quoting.Context.BLOCK, "{}: x\n"), (quoting.Context.FLOW, "{{{}: x}}\n")):
        (tree,) = documents(frame.format(quoting.key(value, context)))
        assert isinstance(tree, MappingNode)
        assert tree.value[0][0].value == value


# The other changes


def test_every_match_of_an_expression_is_replaced() -> None:
    """With Go's template; bytes that are no UTF-8 stay."""
    change = Substitute(file="f", expression=r"(?m)^(version)=(\S+)$", template="$1=v2-${2}")
    assert change.applied(b"\xff\nversion=1\nversion=2\r\n") == b"\xff\nversion=v2-1\nversion=2\r\n"


def test_an_expression_without_a_match_is_refused() -> None:
    with pytest.raises(NoMatch, match="f: nothing matches 'x'"):
        Substitute(file="f", expression="x", template="y").applied(b"abc")
    with pytest.raises(Rejected, match="'\\(' is not a regular expression of RE2: missing \\)"):
        Substitute(file="f", expression="(", template="y").applied(b"abc")


def test_a_file_that_is_not_there_can_only_be_overwritten() -> None:
    assert Overwrite(file="f", content=b"new").applied(None) == b"new"
    for change in (Substitute(file="f", expression="x", template=""), SetScalar(file="f", address=".a", value="")):
        with pytest.raises(Rejected, match="f: there is no such file on the default branch"):
            change.applied(None)


def test_several_changes_are_one_bump() -> None:
    """In order; a file that is as before is not among the results."""
    wanted = Bump(
        repository="acme/api",
        sha="abc",
        changes=(
            SetScalar(file="b.yaml", address=".x", value="1.0"),
            SetScalar(file="a.yaml", address=".x", value="v2"),
            SetScalar(file="b.yaml", address=".y", value="v3"),
            SetScalar(file="c.yaml", address=".x", value="v1"),
        ),
    )
    assert wanted.files == ("b.yaml", "a.yaml", "c.yaml")
    assert wanted.message == "Bumping version @ b.yaml, a.yaml, c.yaml"
    before = {"a.yaml": b"x: v1\n", "b.yaml": b"x: 1\n", "c.yaml": b"x: v1\n"}
    assert wanted.applied(before) == {"a.yaml": b"x: v2\n", "b.yaml": b'x: "1.0"\ny: v3\n'}


def test_a_bump_is_named_as_the_original_names_it() -> None:
    """A second file of the same commit gets a branch of its own."""
    change = Overwrite(file="lab/values.yaml", content=b"")
    wanted = Bump(repository="acme/api", sha="0123abc", actor="alice", changes=(change,))
    assert wanted.branches == (
        "artifact_version_bump/acme/api/0123abc",
        "artifact_version_bump/acme/api/0123abc-630e7fd11cdc",
    )
    assert wanted.title == "acme/api🚠 Bumping version @ lab/values.yaml"
    assert wanted.body == "Bumping version triggered by acme/api@0123abc"
    many = Bump(repository="a/b", sha="0", changes=tuple(Overwrite(file=f"{n}.yaml", content=b"") for n in range(99)))
    assert len(many.title) == 256


def test_a_diff_is_git_s() -> None:
    before = {"a": b"1\n2\n", "b": None, "c": b"x", "d": b"\0"}
    after = {"a": b"1\n3\n", "b": b"new\n", "c": b"y\r\n", "d": b"\1\0"}
    assert bump.diff(before, after) == (
        "--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n"
        "--- /dev/null\n+++ b/b\n@@ -0,0 +1 @@\n+new\n"
        "--- a/c\n+++ b/c\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+y\r\n"
        "Binary files a/d and b/d differ\n"
    )
