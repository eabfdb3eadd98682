"""`telefonistka.yaml` text → configuration, with every finding at its line and column.

The models are the reference of the keys; the JSON Schemas under config/ are generated from them. How YAML is read is
the matter of `documents`.
"""

from __future__ import annotations

import difflib
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar

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

from telefonistka.core import documents, patterns
from telefonistka.core.documents import SIZE, Document, Each, Keys, Plain, Shape
from telefonistka.core.findings import FINDINGS, SHOWN, Finding, Findings, Key, Place, Severity, named, nearest, shown

__all__ = [
    "FILE",
    "FINDINGS",
    "INERT",
    "SIZE",
    "Argocd",
    "ComponentConfig",
    "Conditions",
    "Finding",
    "Flow",
    "Key",
    "Parsed",
    "Place",
    "PromotionPr",
    "Relay",
    "RelayRule",
    "RepoConfig",
    "Rule",
    "Severity",
    "component",
    "repository",
    "schema",
]

FILE = "telefonistka.yaml"

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed(Generic[T]):
    """A file's configuration, or None if one of the findings is an error; and where each of its keys stands."""

    value: T | None
    findings: tuple[Finding, ...]  # sorted by place
    places: Mapping[Key, Place] = field(repr=False, default_factory=dict)


def repository(text: bytes, *, file: str = FILE) -> Parsed[RepoConfig]:
    """The root file's configuration. An empty text is an empty configuration."""
    return _parsed(text, RepoConfig, file)


def component(text: bytes, *, file: str) -> Parsed[ComponentConfig]:
    """The configuration of one component's file."""
    return _parsed(text, ComponentConfig, file)


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON Schema, for editors."""
    described = model.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


# The models. A key is forever: its name here is its name in the file, in snake case, unless `alias` says otherwise.


def _budget(info: ValidationInfo) -> patterns.Budget:
    return info.context if isinstance(info.context, patterns.Budget) else patterns.Budget()


def _expression(text: str, info: ValidationInfo) -> str:
    try:
        _budget(info).compile(text)
    except patterns.InvalidPattern as error:
        raise ValueError(f"{shown(text)} is no regular expression (RE2): {error}") from error
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
            raise ValueError(f"sourcePath {shown(self.source_path)} cannot precede a component: {error}") from error
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


# From text to model


@functools.cache
def _keys(model: type[BaseModel]) -> Keys:
    """The keys of a mapping, by their names in YAML, and what each is decoded to."""
    fields = model.model_fields.items()
    shapes = {info.alias or name: _shape(info.annotation) for name, info in fields if name != "line"}
    return Keys(shapes, wants_line="line" in model.model_fields)


_PLAIN: Final = {str: Plain.TEXT, bool: Plain.BOOLEAN, int: Plain.NUMBER, Rule: Plain.LINE}


def _shape(annotation: Any) -> Shape:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Annotated, types.UnionType, typing.Union):
        return _shape(arguments[0])
    if origin is tuple:
        return Each(_shape(arguments[0]))
    if origin is Literal:
        return Plain.TEXT
    if origin is dict:
        return Plain.TEXTS
    return _PLAIN.get(annotation) or _keys(annotation)


def _parsed(text: bytes, model: type[T], file: str) -> Parsed[T]:
    findings = Findings(file)
    document = documents.read(text, _keys(model), findings, functools.partial(_remark, findings))
    value = None
    if document.data is not None:
        _advise(document, findings)
        value = _validated(document, model, findings)
    if findings.has_errors:
        value = None
    return Parsed(value=value, findings=findings.sorted(), places=document.places)


def _validated(document: Document, model: type[T], findings: Findings) -> T | None:
    try:
        return model.model_validate(document.data, context=patterns.Budget())
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            findings.error(nearest(document.places, error["loc"]), _fault(error))
        return None


def _fault(error: ErrorDetails) -> str:
    name = named(tuple(part for part in error["loc"] if part != "text"))
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"{name} must be {context['expected']}, not {shown(str(error['input']))}"
        case "less_than_equal":
            return f"{name} must be at most {context['le']}, not {error['input']}"
        case "greater_than_equal":
            return f"{name} must be at least {context['ge']}, not {error['input']}"
    return f"{name}: {error['msg']}"


# Advice on keys


def _remark(findings: Findings, name: str, keys: Keys, place: Place) -> None:
    """Warn of a key that has no effect."""
    if name in INERT and name in keys.of:
        findings.warning(place, f"{name!r} {INERT[name]}")
    if name in keys.of or (keys is _keys(RepoConfig) and name.startswith("x-")):
        return  # x-… is where people keep what their aliases refer to
    # A hint takes long to find; one that nobody is going to see is not looked for.
    hint = "" if findings.is_full or len(name) > SHOWN else _hint(name, keys)
    findings.warning(place, f"unknown key {shown(name)} is ignored{hint}")


def _hint(name: str, keys: Keys) -> str:
    homes = _homes()
    if name in homes:
        return f" — it belongs {f'under {homes[name]!r}' if homes[name] else 'at the top of the root file'}"
    if name in _keys(ComponentConfig).of:
        return f" — it belongs in a component's {FILE}"
    known = {key.casefold(): key for key in keys.of if key not in INERT}
    close = difflib.get_close_matches(name.casefold(), known, n=1)
    return f" — did you mean {known[close[0]]!r}?" if close else ""


@functools.cache
def _homes() -> dict[str, str]:
    """Each key that has one place in the root file → the key that it belongs under; "" is the top."""
    homes: dict[str, str] = {}

    def visit(keys: Keys, parent: str) -> None:
        for name, shape in keys.of.items():
            homes[name] = parent
            path = f"{parent}.{name}".lstrip(".")
            match shape:
                case Keys():
                    visit(shape, path)
                case Each(Keys() as items):
                    visit(items, f"{path}[]")

    visit(_keys(RepoConfig), "")
    return homes


# Advice on what is legal and seldom meant


def _advise(document: Document, findings: Findings) -> None:
    for key, message in _doubts(document.data or {}):
        findings.warning(nearest(document.places, key), message)


def _doubts(data: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    for number, flow in enumerate(data.get("promotionPaths", ())):
        yield from _doubts_of_flow(flow, ("promotionPaths", number))
    if data.get("promotionTargetAllowList") == []:
        yield ("promotionTargetAllowList",), "promotionTargetAllowList is an empty list: nothing is promoted"


def _doubts_of_flow(flow: Mapping[str, Any], at: Key) -> Iterator[tuple[Key, str]]:
    source = flow.get("sourcePath", "")
    if source and not patterns.ends_with(source, "/"):
        what = f"sourcePath {shown(source)} has no end slash: the directory as a whole is one component"
        yield (*at, "sourcePath"), what
    if flow.get("conditions", {}).get("prHasLabels") == []:
        yield (*at, "conditions", "prHasLabels"), "prHasLabels is an empty list: this flow never applies"
    for pull, promotion in enumerate(flow.get("promotionPrs", ())):
        for number, target in enumerate(promotion.get("targetPaths", ())):
            if target and not target.endswith("/"):
                what = f"target path {shown(target)} has no end slash: a component x goes to {shown(target + 'x')}"
                yield (*at, "promotionPrs", pull, "targetPaths", number), what
