"""What GitHub's own descriptions say of a request, an answer or a webhook: every fault found, as text.

The descriptions are the slices beside this file (cut.py); a call or an event that they do not hold is a fault, too.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import graphql
import jsonschema_rs

HERE = Path(__file__).parent
SDL = HERE.parents[1] / "telefonistka" / "sandbox" / "schema.graphql"
OPENAPI = json.loads((HERE / "openapi.json").read_text())
WEBHOOKS = json.loads((HERE / "webhooks.json").read_text())
SCHEMA = graphql.build_schema(SDL.read_text())

SPANNING = {"basehead", "path", "ref"}  # path parameters that may hold slashes, whatever OpenAPI 3.0 can say of it

# Answers that any operation may give, although GitHub lists them for some only:
# https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api
EVERYWHERE = {301, 302, 304, 307, 308, 400, 401, 403, 404, 415, 422, 429, 500, 502, 503, 504}
BODYLESS = {204, 301, 302, 304, 307, 308}


@dataclass(frozen=True)
class Operation:
    """One described call: its path template, method and the description's words on it."""

    template: str
    method: str
    described: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.template}"


@cache
def templates() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Every described path as an expression; those that fix more of the text come first."""
    found = [(re.compile(_expression(template)), template) for template in OPENAPI["paths"]]
    return tuple(sorted(found, key=lambda pair: -len(re.sub(r"\{\w+\}", "", pair[1]))))


def _expression(template: str) -> str:
    parts = re.split(r"\{(\w+)\}", template)
    wild = (".*" if name in SPANNING else "[^/]+" for name in parts[1::2])
    return "".join(re.escape(fixed) + next(wild, "") for fixed in parts[0::2]) + r"\Z"


def operation(method: str, path: str) -> Operation | None:
    """The described operation that a request is; the prefix of an Enterprise server is left aside."""
    path = path.removeprefix("/api/v3")
    for expression, template in templates():
        described = OPENAPI["paths"][template].get(method.lower())
        if described and expression.match(path):
            return Operation(template, method.lower(), described)
    return None


def request(method: str, path: str, query: str = "", body: Any = None) -> list[str]:
    """What is wrong with a REST request: unknown, missing or ill-typed parameters and body fields."""
    found = operation(method, path)
    if found is None:
        return [f"{method} {path}: GitHub has no such operation, or cut.py does not list it"]
    faults = [*_query_faults(found, query), *_body_faults(found, body)]
    return [f"{found}: request: {fault}" for fault in faults]


def _query_faults(found: Operation, query: str) -> Iterator[str]:
    described = {p["name"]: p for p in map(_resolve, found.described.get("parameters", ())) if p["in"] == "query"}
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in given.items():
        if name not in described:
            yield f"query parameter {name!r} is not described"
            continue
        schema = described[name]["schema"]
        yield from (f"query {name}: {fault}" for fault in _faults(schema, _typed(value, schema)))
    yield from (
        f"query parameter {n!r} is missing" for n, p in described.items() if p.get("required") and n not in given
    )


def _typed(value: str, schema: Mapping[str, Any]) -> Any:
    """A query parameter's text as the type that its schema names."""
    if schema.get("type") == "integer" and re.fullmatch(r"-?\d+", value):
        return int(value)
    if schema.get("type") == "boolean" and value in {"true", "false"}:
        return value == "true"
    return value


def _body_faults(found: Operation, body: Any) -> Iterator[str]:
    described = found.described.get("requestBody")
    if described is None:
        if body not in (None, {}):
            yield "a body, where none is described"
        return
    schema = described["content"]["application/json"]["schema"]
    if body is None:
        if described.get("required"):
            yield "the body is missing"
        return
    known = _properties(schema)
    if known and isinstance(body, dict):
        # GitHub ignores what it does not know, so a misspelt field would go unnoticed.
        yield from (f"field {name!r} is not described" for name in body if name not in known)
    yield from _faults(schema, body)


def _properties(schema: Mapping[str, Any]) -> set[str]:
    schema = _resolve(schema)
    names = set(schema.get("properties", ()))
    for part in (*schema.get("oneOf", ()), *schema.get("anyOf", ()), *schema.get("allOf", ())):
        names |= _properties(part)
    return names


def response(method: str, path: str, status: int, body: Any, *, content_type: str = "application/json") -> list[str]:
    """What is wrong with a REST answer: its status, whether it has a body, the body's shape."""
    found = operation(method, path)
    if found is None:
        return []  # the request's faults say so
    described = _resolve(found.described["responses"].get(str(status), {}))
    if str(status) not in found.described["responses"] and status not in EVERYWHERE:
        return [f"{found}: answer {status} is not described"]
    if content_type.startswith("application/vnd.github."):
        return []  # asked for by media type: the file itself
    content = described.get("content", {}).get("application/json")
    if content is None and status in BODYLESS:
        return [] if body in (None, "") or status != 204 else [f"{found}: answer {status} with a body"]
    schema = content["schema"] if content else {"$ref": "#/components/schemas/basic-error"}
    return [f"{found}: answer {status}: {fault}" for fault in _faults(schema, body)]


def webhook(event: str, payload: Mapping[str, Any]) -> list[str]:
    """What is wrong with a webhook's payload."""
    name = f"{event}${payload.get('action', 'event')}"
    if name not in WEBHOOKS["definitions"]:
        return [f"webhook {name} is not described"]
    return [f"webhook {name}: {fault}" for fault in _errors(_webhook_validator(name), payload)]


def query(text: str, variables: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with a GraphQL document, and with the values for its variables if some are given."""
    try:
        document = graphql.parse(text)
    except graphql.GraphQLSyntaxError as error:
        return [f"GraphQL: {error}"]
    faults = [f"GraphQL: {error}" for error in graphql.validate(SCHEMA, document)]
    if faults or variables is None:
        return faults
    for definition in document.definitions:
        if isinstance(definition, graphql.OperationDefinitionNode):
            values = graphql.get_variable_values(SCHEMA, definition.variable_definitions or (), dict(variables))
            faults += [f"GraphQL: {error}" for error in values if isinstance(values, list)]
    return faults


def queries_in(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Every GraphQL document that stands whole in these Python files, with its place; not those with gaps to fill."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_document(node.value):
                yield f"{file.name}:{node.lineno}", node.value


def _is_document(text: str) -> bool:
    return re.match(r"\s*(query|mutation)\b[^{]*\{", text) is not None and "%s" not in text


def _resolve(node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        target: Any = OPENAPI
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def _faults(schema: Any, value: Any) -> list[str]:
    return _errors(_validator(json.dumps(schema, sort_keys=True)), value)


def _errors(validator: jsonschema_rs.Draft7Validator, value: Any) -> list[str]:
    found = ((_place(error.instance_path), error.message) for error in validator.iter_errors(value))
    return [f"{place}: {message[:500]}" for place, message in found if not _misdescribed(place, message)]


def _misdescribed(place: str, message: str) -> bool:
    """A label without description has null there, as the label's own description says; a listed pull's forgets it."""
    return re.search(r"\blabels/\d+/description$", place) is not None and message.startswith("null ")


def _place(steps: Iterable[str | int]) -> str:
    return "/".join(map(str, steps)) or "the whole"


@cache
def _components() -> Any:
    return {"schemas": {name: _draft7(schema) for name, schema in OPENAPI["components"]["schemas"].items()}}


@cache
def _validator(schema: str) -> jsonschema_rs.Draft7Validator:
    root = {"allOf": [_draft7(json.loads(schema))], "components": _components()}
    return jsonschema_rs.Draft7Validator(root, validate_formats=True)


@cache
def _webhook_validator(name: str) -> jsonschema_rs.Draft7Validator:
    root = {"$ref": f"#/definitions/{name}", "definitions": WEBHOOKS["definitions"]}
    return jsonschema_rs.Draft7Validator(root, validate_formats=True)


def _draft7(node: Any) -> Any:
    """A schema of OpenAPI 3.0 as JSON Schema draft 7: `nullable` becomes the type null.

    `oneOf` becomes `anyOf`, for GitHub's alternatives overlap: a submodule in `contents` is also a file. So does the
    one `allOf` beside a `nullable`: no installation's account is a user and an enterprise at once.
    """
    if isinstance(node, list):
        return [_draft7(item) for item in node]
    if not isinstance(node, dict):
        return node
    loose = {"oneOf", "allOf"} if "nullable" in node else {"oneOf"}
    schema = {("anyOf" if key in loose else key): _draft7(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [{"type": "null"}, schema]} if node.get("nullable") is True else schema
