"""`telefonistka.yaml` text → configuration, with every finding at its line and column.

A file is decoded by what each key wants, from YAML's nodes, as the original's YAML library does it: YAML 1.1
booleans, strings by their literal text, the last of two equal keys, the first document only. The models are the
reference of the keys; the JSON Schemas under config/ are generated from them.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import difflib
import functools
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue, SkipJsonSchema
from pydantic_core import CoreSchema, ErrorDetails
from ruamel.yaml import YAML, MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import Node
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.scanner import Scanner
from ruamel.yaml.tag import Tag

from telefonistka.core import patterns

FILE = "telefonistka.yaml"

SIZE = 256 << 10  # bytes; the largest configuration known to us has 30 KiB
DEPTH = 32  # levels; the keys need 6
VALUES = 50_000  # keys and values after aliases are expanded; a file of that size without aliases has 25,000
EXPRESSIONS = 5_000  # in one file; each costs some 20 µs to compile
PROGRAMS = 500_000  # instructions of all expressions of a file: 10 MB
FINDINGS = 200  # of one file; people read the first ten
SHOWN = 60  # characters of an offending value

TOO_MANY: Final = f"the file has more than {VALUES:,} keys and values once its aliases are expanded"
TOO_DEEP: Final = f"nested deeper than {DEPTH} levels, or a mapping that contains itself"


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong at one place of one file."""

    file: str
    line: int
    column: int
    severity: Severity
    message: str

    def __str__(self) -> str:
        file = self.file.encode("utf-8", "backslashreplace").decode()
        return f"{file}:{self.line}:{self.column}: {self.severity}: {self.message}"


Key = tuple[str | int, ...]


class Place(NamedTuple):
    line: int
    column: int


T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed(Generic[T]):
    """A file's configuration, or None if one of the findings is an error; and where each of its keys stands."""

    value: T | None
    findings: tuple[Finding, ...]  # sorted by place
    places: Mapping[Key, Place] = field(repr=False, default_factory=dict)


def repository(text: bytes, *, file: str = FILE) -> Parsed[RepoConfig]:
    """The root file's configuration. An empty text is an empty configuration."""
    return _parse(text, RepoConfig, file)


def component(text: bytes, *, file: str) -> Parsed[ComponentConfig]:
    """The configuration of one component's file."""
    return _parse(text, ComponentConfig, file)


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON Schema, for editors."""
    described = model.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


# The models. A key is forever: its name here is its name in the file, in snake case, unless `alias` says otherwise.


@dataclass(slots=True)
class _Budget:
    """What the expressions of one file may still cost."""

    expressions: int = EXPRESSIONS
    instructions: int = PROGRAMS

    @property
    def is_spent(self) -> bool:
        return self.expressions < 0 or self.instructions < 0

    def compile(self, expression: str) -> None:
        """Compile and count; once too much is spent, nothing more is compiled: the file is refused."""
        if self.is_spent:
            return
        self.expressions -= 1
        try:
            self.instructions -= patterns.compile(expression).size
        except patterns.TooLarge:
            self.instructions -= patterns.PROGRAM  # the attempt is what costs
            raise
        if self.is_spent:
            raise ValueError("the expressions of this file are too many or too large together")


def _budget(info: ValidationInfo) -> _Budget:
    return info.context if isinstance(info.context, _Budget) else _Budget()


def _expression(text: str, info: ValidationInfo) -> str:
    try:
        _budget(info).compile(text)
    except patterns.InvalidPattern as error:
        raise ValueError(f"{_shown(text)} is no regular expression (RE2): {error}") from error
    return text


Expression = Annotated[str, AfterValidator(_expression)]
Line = SkipJsonSchema[int]


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
        field_title_generator=lambda name, info: info.alias or name,
    )


class Rule(_Model):
    """One expression of a component's list, and the line where it stands."""

    text: Expression
    line: Line = 0

    @property
    def pattern(self) -> patterns.Pattern:
        return patterns.compile(self.text)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string"}


class Conditions(_Model):
    """When a flow applies, and what else it may do."""

    pr_has_labels: tuple[str, ...] | SkipJsonSchema[None] = None
    """The flow applies if the pull request has any of these labels; absent: always; an empty list: never."""
    auto_merge: bool = False
    """Merge the flow's promotion pull requests by themselves."""


class PromotionPr(_Model):
    """One pull request of a flow."""

    target_paths: tuple[str, ...] = ()
    """Where components are promoted to: plain text that the component's name is appended to, with its end slash."""
    target_description: str = ""
    """The targets in the pull request's title; absent: the target paths."""
    labels: tuple[str, ...] = ()
    """Labels for this pull request, beside `promotion`."""
    reviewers: tuple[str, ...] = ()
    """People (`login`) and teams (`organisation/team`) who are asked to review it."""
    line: Line = 0


class Flow(_Model):
    """From where components are promoted, when, and where to."""

    source_path: Expression = ""
    """Regular expression for the directory that holds components, with its end slash."""
    component_path_extra_depth: Annotated[int, Field(ge=0, le=255)] = 0
    """A component is a directory this many levels below those right under the source."""
    conditions: Conditions = Conditions()
    """When the flow applies; absent: always."""
    promotion_prs: tuple[PromotionPr, ...] = ()
    """The pull requests to open, each with its targets."""
    on_newer: Literal["keep", "update", "close"] = "keep"
    """What becomes of an open promotion pull request when its source has moved on."""
    line: Line = 0

    @model_validator(mode="after")
    def _is_splittable(self, info: ValidationInfo) -> Self:
        """Whether source and component's name make one expression: they do not if a `\\Q` is left open."""
        try:
            _budget(info).compile(self._splitter)
        except patterns.InvalidPattern as error:
            raise ValueError(f"sourcePath {_shown(self.source_path)} cannot precede a component: {error}") from error
        return self

    @property
    def splitter(self) -> patterns.Pattern:
        """What matches the files of the flow's components; the last group is the component's name."""
        return patterns.compile(self._splitter)

    @property
    def _splitter(self) -> str:
        return f"^(?:{self.source_path})([^/]*(?:/[^/]*){{{self.component_path_extra_depth}}})/"


class RelayRule(_Model):
    """Which changed files call which URLs."""

    expression: Expression = ""
    """Regular expression that is searched in each changed path; the first rule that matches counts."""
    replacements: tuple[str, ...] = ()
    """URLs; `${1}` is the expression's first group. What the expression leaves of the path stays in the URL."""
    branches: tuple[str, ...] = ()
    """Branches whose pushes are relayed; empty: the default branch."""
    events: tuple[Literal["push", "pull_request"], ...] = ("push",)
    """GitHub events that are relayed."""
    line: Line = 0


class Relay(_Model):
    """The relay as a whole."""

    on_unknown_files: Literal["all", "none"] = "all"
    """Which endpoints are called for a push whose changed files cannot be known."""


class Argocd(_Model):
    """What Argo CD is asked on a pull request."""

    comment_diff_on_pr: Annotated[bool, Field(alias="commentDiffonPR")] = False
    """Comment the difference that a pull request makes in the clusters."""
    auto_merge_no_diff_prs: Annotated[bool, Field(alias="autoMergeNoDiffPRs")] = False
    """Merge promotion pull requests that make no difference."""
    allow_sync_from_branch_path_regex: Annotated[Expression, Field(alias="allowSyncfromBranchPathRegex")] = ""
    """Components whose application may be synced from a pull request's branch; empty: none."""
    use_sha_label_for_app_discovery: Annotated[bool, Field(alias="useSHALabelForAppDiscovery")] = False
    """Find applications by the label telefonistka.io/component-path-sha1, not by annotation."""
    create_temp_app_object_from_new_apps: bool = False
    """Show what an application that does not exist yet would deploy."""


class RepoConfig(_Model):
    """telefonistka.yaml in the root of a repository."""

    model_config = ConfigDict(title=FILE, json_schema_extra={"patternProperties": {"^x-": {}}})

    promotion_paths: tuple[Flow, ...] = ()
    """The flows: a changed file belongs to the first whose source and labels match."""
    promotion_pr_labels: tuple[str, ...] = ()
    """Labels for every promotion pull request, beside `promotion`."""
    promtion_pr_labels: Annotated[tuple[str, ...], Field(alias="promtionPRlables", deprecated=True)] = ()
    """Accepted and never used, as ever; the key that works is promotionPrLabels."""
    dry_run_mode: bool = False
    """Comment the plan on merged pull requests, open nothing."""
    auto_approve_promotion_prs: bool = False
    """Approve promotion pull requests with the second identity."""
    toggle_commit_status: dict[str, str] = Field(default_factory=dict)
    """Comment text, without its slash → context of the commit status that it toggles."""
    webhook_endpoint_regexs: tuple[RelayRule, ...] = ()
    """The relay's rules."""
    wh_proxt_skip_tls_verify_upstream: Annotated[bool, Field(alias="whProxtSkipTLSVerifyUpstream")] = False
    """Relay without checking certificates, where the operator allows it."""
    relay: Relay = Relay()
    """The relay as a whole."""
    argocd: Argocd = Argocd()
    """What Argo CD is asked on a pull request."""


class ComponentConfig(_Model):
    """telefonistka.yaml in the directory of a component."""

    model_config = ConfigDict(title=f"{FILE} of a component")

    promotion_target_block_list: tuple[Rule, ...] = ()
    """Regular expressions; a configured target path that one of them matches is skipped."""
    promotion_target_allow_list: tuple[Rule, ...] | SkipJsonSchema[None] = None
    """Regular expressions; only target paths that one of them matches are promoted to. An empty list: none."""
    disable_argocd_diff: Annotated[bool, Field(alias="disableArgoCDDiff")] = False
    """List changed objects in comments, but not what changed in them."""


INERT: Final = {
    "promtionPRlables": "does nothing, as ever; the key that puts labels on promotions is 'promotionPrLabels'"
}


def _keys_of(model: type[BaseModel]) -> dict[str, Any]:
    """The keys of a mapping, by their names in YAML, and the type that each wants."""
    fields = model.model_fields.items()
    return {info.alias or name: _wanted(info.annotation) for name, info in fields if name != "line"}


def _wanted(annotation: Any) -> Any:
    """str, int, bool, a model, or a generic tuple or dict of these: what a node is decoded to."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _wanted(arguments[0])
    if origin is Literal:
        return str
    if origin in (types.UnionType, typing.Union):
        return _wanted(arguments[0])
    return annotation


_KEYS: Final[dict[type[BaseModel], dict[str, Any]]] = {
    model: _keys_of(model)
    for model in (RepoConfig, Flow, Conditions, PromotionPr, RelayRule, Relay, Argocd, ComponentConfig)
}


@functools.cache
def _homes() -> dict[str, str]:
    """Each key that has one place in the root file → the key that it belongs under; "" is the top."""
    homes: dict[str, str] = {}

    def visit(model: type[BaseModel], parent: str) -> None:
        for name, wanted in _KEYS[model].items():
            homes[name] = parent
            is_list = typing.get_origin(wanted) is tuple
            inner = _wanted(typing.get_args(wanted)[0]) if is_list else wanted
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                visit(inner, f"{parent}.{name}".lstrip(".") + "[]" * is_list)

    visit(RepoConfig, "")
    return homes


# Reading. The original's library is gopkg.in/yaml.v2 2.4.0; tests/core/go_yaml_cases.json holds its answers.


class _Refused(Exception):  # noqa: N818
    """The file as a whole is refused; more of it is not read."""

    def __init__(self, message: str, place: Place = Place(1, 1)) -> None:  # noqa: B008
        super().__init__(message)
        self.place = place


class _Mistyped(Exception):  # noqa: N818
    """A value is not what its key wants; the finding is made, the value is left out."""


_PLAIN: Final = Tag(suffix="?")


class _Tabbed(Scanner):
    """Lets tabs stand between a key and its value, as the original's scanner does."""

    def scan_to_next_token(self) -> None:
        super().scan_to_next_token()
        while self.reader.peek() == "\t" and not self.allow_simple_key:
            self.reader.forward()
            super().scan_to_next_token()


class _Bounded(Composer):
    """Refuses what is nested too deep or has too many nodes."""

    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        if self.nodes > VALUES or self.depth > DEPTH:
            message = TOO_MANY if self.nodes > VALUES else TOO_DEEP
            raise _Refused(message, _place(self.parser.peek_event().start_mark))
        return super().compose_node(parent, index)


class _Undecided(VersionedResolver):
    """Leaves untagged plain scalars undecided: what they mean depends on the key that they stand under."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is ScalarNode:
            return _PLAIN if implicit[0] else self.DEFAULT_SCALAR_TAG
        return super().resolve(kind, value, implicit)


def _parse(text: bytes, model: type[T], file: str) -> Parsed[T]:
    reader = _Reader(file)
    value = reader.parse(text, model)
    findings = reader.sorted()
    if any(finding.severity is Severity.ERROR for finding in findings):
        value = None
    return Parsed(value=value, findings=findings, places=reader.places)


def _decoded(text: bytes) -> str:
    if len(text) > SIZE:
        raise _Refused(f"the file has {len(text):,} bytes; {SIZE:,} are allowed")
    encoding = "utf-16" if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        before = text[: error.start]
        line_start = before.rfind(b"\n") + 1
        place = Place(before.count(b"\n") + 1, len(before[line_start:].decode(encoding, "replace")) + 1)
        message = f"the file is no {encoding.removesuffix('-sig').upper()} text: byte {text[error.start]:#04x}"
        raise _Refused(message, place) from error


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _reason(error: Exception) -> str:
    """What the YAML parser says, in one line."""
    if isinstance(error, MarkedYAMLError):
        said = " ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, _Refused):
        return str(error)
    elif isinstance(error, ReaderError):
        said = f"{error.reason}: {_shown(chr(error.character))}" if isinstance(error.character, int) else error.reason
    else:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"not valid YAML: {' '.join(said.split())}"


def _spot(error: Exception, text: str) -> Place:
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        return _place(mark)
    if isinstance(error, ReaderError):
        before = text[: error.position]
        return Place(before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1)
    return Place(1, 1)


def _shown(text: str) -> str:
    """The text in quotes, shortened, on one line."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")


class _Reader:
    """One reading of one file: the findings so far, the budget left, and where the values stand."""

    def __init__(self, file: str) -> None:
        self.places: dict[Key, Place] = {}
        self._file = file
        self._findings: dict[Finding, None] = {}
        self._left_out = 0
        self._values = VALUES
        self._depth = 0

    # Findings

    def sorted(self) -> tuple[Finding, ...]:
        findings = sorted(self._findings, key=lambda finding: (finding.line, finding.column, finding.message))
        if self._left_out:
            more = f"{self._left_out:,} more findings are not shown"
            findings.append(replace(findings[-1], severity=Severity.WARNING, message=more))
        return tuple(findings)

    def find(self, severity: Severity, place: Place, message: str) -> None:
        finding = Finding(file=self._file, line=place.line, column=place.column, severity=severity, message=message)
        if finding in self._findings:
            return
        if self._is_full(severity):
            self._left_out += 1
        else:
            self._findings[finding] = None

    def _is_full(self, severity: Severity) -> bool:
        """Whether a further finding is only counted. The first error is always told: it decides."""
        if len(self._findings) < FINDINGS:
            return False
        return severity is Severity.WARNING or any(f.severity is Severity.ERROR for f in self._findings)

    def error(self, node: Node, message: str) -> None:
        self.find(Severity.ERROR, _place(node.start_mark), message)

    def warning(self, node: Node, message: str) -> None:
        self.find(Severity.WARNING, _place(node.start_mark), message)

    # From text to model

    def parse(self, text: bytes, model: type[T]) -> T | None:
        try:
            root = self._compose(_decoded(text))
            data = {} if root is None or self._is_null(root) else self._mapping(root, model, {}, ())
        except _Refused as refused:
            self.find(Severity.ERROR, refused.place, str(refused))
            return None
        except _Mistyped:
            return None
        self._advise(data)
        return self._validated(data, model)

    def _compose(self, text: str) -> Node | None:
        """The first document's root."""
        yaml = YAML(typ="safe", pure=True)
        yaml.version = (1, 1)
        yaml.Resolver = _Undecided
        yaml.Scanner = _Tabbed
        yaml.Composer = _Bounded
        yaml.composer.warn_double_anchors = False
        documents = yaml.compose_all(text)
        try:
            root: Node | None = next(documents, None)
        except _Refused:
            raise
        # The parser is not ours and the text is anybody's: whatever it trips over is a fault of the file.
        except Exception as error:
            raise _Refused(_reason(error), _spot(error, text)) from error
        self._warn_of_what_follows(documents, text)
        return root

    def _warn_of_what_follows(self, documents: Iterator[Node], text: str) -> None:
        try:
            if further := next(documents, None):
                self.warning(further, "a second document starts here; only the first one counts")
        except Exception as error:
            place = error.place if isinstance(error, _Refused) else _spot(error, text)
            self.find(
                Severity.WARNING, place, f"only the first document counts, and it ends before this: {_reason(error)}"
            )

    def _validated(self, data: dict[str, Any], model: type[T]) -> T | None:
        try:
            return model.model_validate(data, context=_Budget())
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False):
                self.find(Severity.ERROR, self._nearest(error["loc"]), _fault(error))
            return None

    def _nearest(self, key: Key) -> Place:
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, Place(1, 1))

    # From nodes to plain values

    def _spend(self, node: Node) -> None:
        self._values -= 1
        if self._values < 0:
            raise _Refused(TOO_MANY, _place(node.start_mark))

    def _descend(self, node: Node) -> None:
        self._depth += 1
        if self._depth > DEPTH:
            raise _Refused(TOO_DEEP, _place(node.start_mark))

    def _mapping(self, node: Node, model: type[BaseModel], into: dict[str, Any], at: Key) -> dict[str, Any]:
        """`into` with the node's keys: a second mapping under one key adds to the first."""
        if not isinstance(node, MappingNode):
            raise self._mistyped(node, at, "a mapping")
        self._descend(node)
        if "line" in model.model_fields:
            into.setdefault("line", _place(node.start_mark).line)
        wanted = _KEYS[model]
        for name, key_node, value_node in self._pairs(node, lambda merged: self._mapping(merged, model, into, at)):
            if name not in wanted:
                self._unknown(name, key_node, model)
                continue
            if name in INERT:
                self.warning(key_node, f"{name!r} {INERT[name]}")
            self._set(into, name, value_node, wanted[name], at)
        self._depth -= 1
        return into

    def _set(self, into: dict[str, Any], name: str, node: Node, wanted: Any, at: Key) -> None:
        if self._is_null(node):
            self._spend(node)
            into.pop(name, None)
            return
        try:
            into[name] = self._value(node, wanted, into.get(name), (*at, name))
        except _Mistyped:
            return

    def _pairs(self, node: MappingNode, merge: Any) -> Iterator[tuple[str, Node, Node]]:
        """The keys of a mapping in the file's order; what `<<` brings takes its place among them."""
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            self._spend(key_node)
            if _is_merge(key_node):
                self._warn_of_replaced(key_node, value_node, lines)
                for merged in self._merged(value_node):
                    merge(merged)
                continue
            try:
                name = self._text(key_node, ())
            except _Mistyped:
                continue
            if name in lines:
                self.warning(
                    key_node, f"duplicate key {_shown(name)}, also in line {lines[name]}: the later one counts"
                )
            lines[name] = _place(key_node.start_mark).line
            yield name, key_node, value_node

    def _merged(self, node: Node) -> list[Node]:
        """The mappings that a `<<` brings, the weakest first."""
        brought = node.value[::-1] if isinstance(node, SequenceNode) else [node]
        for one in brought:
            self._spend(one)
            if not isinstance(one, MappingNode):
                raise _Refused("'<<' takes a mapping or a list of mappings", _place(one.start_mark))
        return brought

    def _warn_of_replaced(self, key_node: Node, value_node: Node, lines: Mapping[str, int]) -> None:
        if not lines or not isinstance(value_node, MappingNode):
            return
        for inner, _ in value_node.value:
            self._spend(inner)
            if isinstance(inner, ScalarNode) and inner.value in lines:
                name, line = _shown(inner.value), lines[inner.value]
                self.warning(key_node, f"this '<<' replaces {name} of line {line}, which stands before it")

    def _value(self, node: Node, wanted: Any, into: Any, at: Key) -> Any:
        self._spend(node)
        self.places[at] = _place(node.start_mark)
        if wanted is str:
            return self._text(node, at)
        if wanted is bool:
            return self._bool(node, at)
        if wanted is int:
            return self._int(node, at)
        if wanted is Rule:
            return {"text": self._text(node, at), "line": _place(node.start_mark).line}
        if typing.get_origin(wanted) is tuple:
            return self._list(node, _wanted(typing.get_args(wanted)[0]), at)
        if typing.get_origin(wanted) is dict:
            return self._texts(node, into or {}, at)
        return self._mapping(node, wanted, into or {}, at)

    def _list(self, node: Node, wanted: Any, at: Key) -> list[Any]:
        if not isinstance(node, SequenceNode):
            raise self._mistyped(node, at, "a list")
        found: list[Any] = []
        for one in node.value:
            key = (*at, len(found))
            null = self._is_null(one) and wanted not in (str, Rule)
            try:
                found.append(self._empty(one, key) if null else self._value(one, wanted, None, key))
            except _Mistyped:
                continue
        return found

    def _empty(self, node: Node, at: Key) -> dict[str, Any]:
        """What `-` without anything behind it stands for in a list of mappings: one with no key."""
        self._spend(node)
        self.places[at] = _place(node.start_mark)
        return {"line": self.places[at].line}

    def _texts(self, node: Node, into: dict[str, str], at: Key) -> dict[str, str]:
        if not isinstance(node, MappingNode):
            raise self._mistyped(node, at, "a mapping")
        self._descend(node)
        for name, _, value_node in self._pairs(node, lambda merged: self._texts(merged, into, at)):
            try:
                into[name] = self._value(value_node, str, None, (*at, name))
            except _Mistyped:
                continue
        self._depth -= 1
        return into

    # Scalars: https://yaml.org/spec/1.1/, as far as gopkg.in/yaml.v2 follows it

    def _is_null(self, node: Node) -> bool:
        return isinstance(node, ScalarNode) and node.value in _NULLS and str(node.tag) in ("?", _NULL)

    def _text(self, node: Node, at: Key) -> str:
        """The scalar's literal text, whatever it would be elsewhere; null is empty."""
        if not isinstance(node, ScalarNode):
            raise self._mistyped(node, at, "text")
        if self._is_null(node):
            return ""
        if node.tag == _BINARY:
            try:
                return base64.b64decode("".join(node.value.split()), validate=True).decode()
            except (binascii.Error, ValueError):
                raise self._mistyped(node, at, "text in base64") from None
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            raise self._mistyped(node, at, "Unicode text")
        if (reads := _BY_TAG.get(str(node.tag))) and reads(node.value) is None:
            raise self._mistyped(node, at, f"what its tag {_short(node)} says")
        return str(node.value)

    def _bool(self, node: Node, at: Key) -> bool:
        value = _bool(node.value) if isinstance(node, ScalarNode) and str(node.tag) in ("?", _BOOL) else None
        if value is None:
            raise self._mistyped(node, at, "true or false")
        return value

    def _int(self, node: Node, at: Key) -> int:
        value = None
        if isinstance(node, ScalarNode):
            value = _number(node.value) if str(node.tag) in ("?", _FLOAT) else None
            value = _whole(node.value) if node.tag == _INT else value
        if value is None:
            raise self._mistyped(node, at, "a whole number")
        return value

    def _mistyped(self, node: Node, at: Key, wanted: str) -> _Mistyped:
        self.error(node, f"{_named(at)} must be {wanted}, not {_described(node)}")
        return _Mistyped()

    # Advice

    def _unknown(self, name: str, node: Node, model: type[BaseModel]) -> None:
        if model is RepoConfig and name.startswith("x-"):
            return  # where people keep what their aliases refer to
        self.warning(node, f"unknown key {_shown(name)} is ignored{self._hint(name, model)}")

    def _hint(self, name: str, model: type[BaseModel]) -> str:
        if len(name) > SHOWN or self._is_full(Severity.WARNING):
            return ""
        homes = _homes()
        if name in homes:
            return (
                f" — it belongs under {homes[name]!r}" if homes[name] else " — it belongs at the top of the root file"
            )
        if name in _KEYS[ComponentConfig]:
            return f" — it belongs in a component's {FILE}"
        known = {key.casefold(): key for key in _KEYS[model] if key not in INERT}
        close = difflib.get_close_matches(name.casefold(), known, n=1)
        return f" — did you mean {known[close[0]]!r}?" if close else ""

    def _advise(self, data: dict[str, Any]) -> None:
        """Warnings of what is legal and seldom meant."""
        for number, flow in enumerate(data.get("promotionPaths", ())):
            at: Key = ("promotionPaths", number)
            source = flow.get("sourcePath", "")
            if source and not patterns.ends_with(source, "/"):
                what = f"sourcePath {_shown(source)} has no end slash: the directory as a whole is one component"
                self.find(Severity.WARNING, self._nearest((*at, "sourcePath")), what)
            if flow.get("conditions", {}).get("prHasLabels") == []:
                what = "prHasLabels is an empty list: this flow never applies"
                self.find(Severity.WARNING, self._nearest((*at, "conditions", "prHasLabels")), what)
            for pull, promotion in enumerate(flow.get("promotionPrs", ())):
                self._advise_on_targets(promotion.get("targetPaths", ()), (*at, "promotionPrs", pull, "targetPaths"))
        if data.get("promotionTargetAllowList") == []:
            what = "promotionTargetAllowList is an empty list: nothing is promoted"
            self.find(Severity.WARNING, self._nearest(("promotionTargetAllowList",)), what)

    def _advise_on_targets(self, targets: list[str], at: Key) -> None:
        for number, target in enumerate(targets):
            if target and not target.endswith("/"):
                what = f"target path {_shown(target)} has no end slash: a component x goes to {_shown(target + 'x')}"
                self.find(Severity.WARNING, self._nearest((*at, number)), what)


def _fault(error: ErrorDetails) -> str:
    key = tuple(part for part in error["loc"] if part != "text")
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"{_named(key)} must be {context['expected']}, not {_shown(str(error['input']))}"
        case "less_than_equal":
            return f"{_named(key)} must be at most {context['le']}, not {error['input']}"
        case "greater_than_equal":
            return f"{_named(key)} must be at least {context['ge']}, not {error['input']}"
    return f"{_named(key)}: {error['msg']}"


def _named(key: Key) -> str:
    """How a message calls the value: by its own name, or as a part of a list."""
    if not key:
        return "this"
    if isinstance(key[-1], str):
        return f"{key[-1]!r}"
    return f"each of {key[-2]!r}"


def _described(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if node.value in _NULLS and str(node.tag) == "?":
        return "nothing"
    return f"the text {_shown(node.value)}" if node.tag == _STR else _shown(node.value)


def _is_merge(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value == "<<" and str(node.tag) in ("?", _MERGE)


_CORE: Final = "tag:yaml.org,2002:"
_STR, _BOOL, _INT, _FLOAT, _NULL, _MERGE, _BINARY = (
    _CORE + name for name in ("str", "bool", "int", "float", "null", "merge", "binary")
)
_NULLS: Final = ("", "~", "null", "Null", "NULL")
_BOOLS: Final = {
    spelling: value
    for value, words in ((True, ("y", "yes", "true", "on")), (False, ("n", "no", "false", "off")))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}
_WHOLE: Final = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
_FRACTION: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_DIGITS: Final = 100  # of a number, at most; 64 bits have 64


def _bool(text: str) -> bool | None:
    return _BOOLS.get(text)


def _whole(text: str) -> int | None:
    """The 64-bit integer that Go reads; a leading zero means octal."""
    match = _WHOLE.fullmatch(text.replace("_", "")) if text[:1] in "+-0123456789" else None
    if match is None or len(text) > _DIGITS:
        return None
    sign, *digits = match.groups()
    base = next(base for base, found in zip((16, 2, 8, 10), digits, strict=True) if found)
    number = int(f"{sign}{''.join(found or '' for found in digits)}", base)
    return number if -(1 << 63) <= number < 1 << 63 else None


def _number(text: str) -> int | None:
    """The integer, or what a fraction is cut to."""
    number = _whole(text)
    plain = text.replace("_", "") if text[:1] in "+-.0123456789" else ""
    if number is not None or len(text) > _DIGITS or not _FRACTION.fullmatch(plain):
        return number
    fraction = float(plain)
    return int(fraction) if -(1 << 63) <= fraction < 1 << 63 else None


def _short(node: Node) -> str:
    return str(node.tag).replace(_CORE, "!!")


_BY_TAG: Final[Mapping[str, Callable[[str], object]]] = {
    _BOOL: _bool,
    _INT: _whole,
    _FLOAT: _number,
    _NULL: lambda text: None,
}
