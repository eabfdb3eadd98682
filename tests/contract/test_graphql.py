"""GraphQL: every field of the schema's slice answers, and the answers fit the schema."""

from __future__ import annotations

from typing import Any

import graphql
import pytest
from graphql import GraphQLInterfaceType, GraphQLObjectType

from telefonistka.sandbox.box import Box
from telefonistka.sandbox.rules import Rules, Ruleset
from telefonistka.sandbox.state import AutoMerge, Queued
from tests.contract import schemas
from tests.contract.acts import pull
from tests.contract.conftest import REPO, GitHub

DEPTH = 3  # of the questions below an object; deeper ones ask the same types again
CONNECTION = "(first: 5)"
ARGUMENTS = {
    "Repository.pullRequest": "(number: 1)",
    "Repository.label": '(name: "promotion")',
    "Repository.ref": '(qualifiedName: "refs/heads/work")',
    "Repository.refs": '(refPrefix: "refs/heads/", first: 5)',
    "Repository.object": '(expression: "main")',
    "Ref.compare": '(headRef: "main")',
    "Status.context": '(name: "ci")',
}


def everything(type_: Any, depth: int = DEPTH) -> str:
    """A selection of all fields of a type; what lies deeper than `depth` is left out."""
    type_ = graphql.get_named_type(type_)
    own = [field for name in sorted(type_.fields) if (field := selected(type_, name, depth))]
    if isinstance(type_, GraphQLInterfaceType):
        for concrete in schemas.SCHEMA.get_implementations(type_).objects:
            more = [n for n in sorted(concrete.fields) if n not in type_.fields]
            fields = [f"{concrete.name}_{n}: {f}" for n in more if (f := selected(concrete, n, depth))]
            own.append(f"... on {concrete.name} {{ {' '.join(fields) or '__typename'} }}")
    return "{ __typename " + " ".join(own) + " }"


def selected(type_: Any, name: str, depth: int) -> str:
    field = type_.fields[name]
    target = graphql.get_named_type(field.type)
    asked = ARGUMENTS.get(f"{type_.name}.{name}", CONNECTION if "first" in field.args else "")
    if not isinstance(target, GraphQLObjectType | GraphQLInterfaceType):
        return f"{name}{asked}"
    return f"{name}{asked} {everything(target, depth - 1)}" if depth else ""


@pytest.fixture
async def opened(box: Box, github: GitHub) -> dict[str, Any]:
    """A pull request with one of everything."""
    opened = await pull(github, "work")
    issue = f"{REPO}/issues/{opened['number']}"
    await github("PATCH", issue, {"labels": ["promotion"], "assignees": ["ada"]})
    await github("POST", f"{issue}/comments", {"body": "Hm."})
    grace = github.as_(box.person("grace", access="write").value)
    await grace("POST", f"{REPO}/pulls/{opened['number']}/reviews", {"event": "APPROVE"})
    await github("POST", f"{REPO}/statuses/{opened['head']['sha']}", {"state": "success", "context": "ci"})
    queue(box, opened["number"])
    return opened


def queue(box: Box, number: int) -> None:
    """The pull request waits to be merged, in the queue and by auto-merge at once: more than GitHub would allow."""
    repo, ada = box.repos["acme/iac"], box.users["ada"]
    repo.switches.hold_merges = True
    repo.rulesets = {7: Ruleset(id=7, rules=Rules(queue="merge", checks=("ci",)))}
    pull = repo.pulls[number]
    pull.auto_merge = AutoMerge(by=ada, method="merge", title="Title", body="")
    repo.queue.append(Queued(id=9, pull=pull, by=ada, head=pull.head_sha))


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(
    "question",
    [
        "rateLimit",
        "viewer",
        'user(login: "ada")',
        'repository(owner: "acme", name: "iac")',
    ],
)
async def test_every_field_answers(github: GitHub, question: str) -> None:
    """A field that the slice promises and the sandbox cannot answer would be an error here."""
    name = question.partition("(")[0]
    selection = everything(schemas.SCHEMA.query_type.fields[name].type) if schemas.SCHEMA.query_type else ""
    reply = await github.graphql(f"query Everything {{ {question} {selection} }}")
    assert "errors" not in reply.body, reply.body["errors"][:3]


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("expression", ["main", "main:lab", "main:lab/web/run.sh", "work"])
async def test_every_field_of_an_object_answers(github: GitHub, expression: str) -> None:
    """Commits, trees and blobs, by expression."""
    selection = everything(schemas.SCHEMA.type_map["GitObject"], 2)
    query = (
        f'query Thing {{ repository(owner: "acme", name: "iac") {{ object(expression: "{expression}") {selection} }} }}'
    )
    reply = await github.graphql(query)
    assert "errors" not in reply.body, reply.body["errors"][:3]
    assert reply.body["data"]["repository"]["object"]


async def test_a_comment_is_minimized_and_shown_again(github: GitHub, opened: dict[str, Any]) -> None:
    """https://docs.github.com/en/graphql/reference/mutations#minimizecomment"""
    [comment] = (await github("GET", f"{REPO}/issues/{opened['number']}/comments")).body
    minimize = (
        "mutation Minimize($id: ID!) { minimizeComment(input: {subjectId: $id, classifier: OUTDATED})"
        " { minimizedComment { isMinimized minimizedReason } } }"
    )
    reply = await github.graphql(minimize, id=comment["node_id"])
    shown = reply.body["data"]["minimizeComment"]["minimizedComment"]
    assert (shown["isMinimized"], shown["minimizedReason"]) == (True, "outdated")


async def test_variables_of_a_wrong_type_are_told_with_200(github: GitHub) -> None:
    """https://docs.github.com/en/graphql/guides/forming-calls-with-graphql#working-with-variables"""
    query = (
        'query Number($number: Int!) { repository(owner: "acme", name: "iac") { pullRequest(number: $number) { id } } }'
    )
    reply = await github.send("POST", "/api/graphql", {"query": query, "variables": {"number": "one"}}, None)
    assert reply.status == 200
    assert reply.body["errors"]


async def test_a_query_that_does_not_fit_the_schema_is_told_with_200(github: GitHub) -> None:
    """https://docs.github.com/en/graphql/guides/forming-calls-with-graphql"""
    reply = await github.send("POST", "/api/graphql", {"query": "query { viewer { nothing } }"}, None)
    assert (reply.status, "errors" in reply.body) == (200, True)
