"""Cuts the slices of GitHub's published descriptions that our contract tests need, without their prose.

    cd "$(mktemp -d)"
    npm pack @octokit/openapi @octokit/graphql-schema @octokit/webhooks-schemas
    python …/tests/contract/cut.py .

The packages are read from their archives: @octokit/openapi alone is 385 MB unpacked. The same packages give the
same bytes. What is cut is said by the lists below; NOTICE beside this file names the sources and their licence.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphql import language as gql

HERE = Path(__file__).parent
SANDBOX = HERE.parents[1] / "telefonistka" / "sandbox"

# The REST operations that the daemon calls or the sandbox answers.
OPERATIONS = {
    "/user": "get",
    "/users/{username}": "get",
    "/rate_limit": "get",
    "/meta": "get",
    "/app": "get",
    "/apps/{app_slug}": "get",
    "/app-manifests/{code}/conversions": "post",
    "/app/hook/config": "get patch",
    "/app/hook/deliveries": "get",
    "/app/hook/deliveries/{delivery_id}": "get",
    "/app/hook/deliveries/{delivery_id}/attempts": "post",
    "/app/installations": "get",
    "/app/installations/{installation_id}": "get",
    "/app/installations/{installation_id}/access_tokens": "post",
    "/installation/repositories": "get",
    "/repos/{owner}/{repo}": "get patch",
    "/repos/{owner}/{repo}/installation": "get",
    "/repos/{owner}/{repo}/assignees/{assignee}": "get",
    "/repos/{owner}/{repo}/branches": "get",
    "/repos/{owner}/{repo}/branches/{branch}": "get",
    "/repos/{owner}/{repo}/branches/{branch}/protection": "get put delete",
    "/repos/{owner}/{repo}/branches/{branch}/rename": "post",
    "/repos/{owner}/{repo}/check-runs": "post",
    "/repos/{owner}/{repo}/check-runs/{check_run_id}": "get patch",
    "/repos/{owner}/{repo}/check-runs/{check_run_id}/annotations": "get",
    "/repos/{owner}/{repo}/collaborators": "get",
    "/repos/{owner}/{repo}/collaborators/{username}": "get put",
    "/repos/{owner}/{repo}/collaborators/{username}/permission": "get",
    "/repos/{owner}/{repo}/commits": "get",
    "/repos/{owner}/{repo}/commits/{ref}": "get",
    "/repos/{owner}/{repo}/commits/{commit_sha}/pulls": "get",
    "/repos/{owner}/{repo}/commits/{ref}/check-runs": "get",
    "/repos/{owner}/{repo}/commits/{ref}/status": "get",
    "/repos/{owner}/{repo}/commits/{ref}/statuses": "get",
    "/repos/{owner}/{repo}/compare/{basehead}": "get",
    "/repos/{owner}/{repo}/contents/{path}": "get put delete",
    "/repos/{owner}/{repo}/git/blobs": "post",
    "/repos/{owner}/{repo}/git/blobs/{file_sha}": "get",
    "/repos/{owner}/{repo}/git/commits": "post",
    "/repos/{owner}/{repo}/git/commits/{commit_sha}": "get",
    "/repos/{owner}/{repo}/git/matching-refs/{ref}": "get",
    "/repos/{owner}/{repo}/git/ref/{ref}": "get",
    "/repos/{owner}/{repo}/git/refs": "post",
    "/repos/{owner}/{repo}/git/refs/{ref}": "patch delete",
    "/repos/{owner}/{repo}/git/trees": "post",
    "/repos/{owner}/{repo}/git/trees/{tree_sha}": "get",
    "/repos/{owner}/{repo}/hooks": "get post",
    "/repos/{owner}/{repo}/hooks/{hook_id}": "get patch delete",
    "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries": "get",
    "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}": "get",
    "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}/attempts": "post",
    "/repos/{owner}/{repo}/hooks/{hook_id}/pings": "post",
    "/repos/{owner}/{repo}/issues": "get",
    "/repos/{owner}/{repo}/issues/{issue_number}": "get patch",
    "/repos/{owner}/{repo}/issues/{issue_number}/assignees": "post delete",
    "/repos/{owner}/{repo}/issues/{issue_number}/comments": "get post",
    "/repos/{owner}/{repo}/issues/comments/{comment_id}": "get patch delete",
    "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions": "post",
    "/repos/{owner}/{repo}/issues/{issue_number}/labels": "get post put delete",
    "/repos/{owner}/{repo}/issues/{issue_number}/labels/{name}": "delete",
    "/repos/{owner}/{repo}/labels": "get post",
    "/repos/{owner}/{repo}/labels/{name}": "get",
    "/repos/{owner}/{repo}/pulls": "get post",
    "/repos/{owner}/{repo}/pulls/{pull_number}": "get patch",
    "/repos/{owner}/{repo}/pulls/{pull_number}/commits": "get",
    "/repos/{owner}/{repo}/pulls/{pull_number}/files": "get",
    "/repos/{owner}/{repo}/pulls/{pull_number}/merge": "get put",
    "/repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers": "get post delete",
    "/repos/{owner}/{repo}/pulls/{pull_number}/reviews": "get post",
    "/repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}": "get",
    "/repos/{owner}/{repo}/pulls/{pull_number}/reviews/{review_id}/dismissals": "put",
    "/repos/{owner}/{repo}/pulls/{pull_number}/update-branch": "put",
    "/repos/{owner}/{repo}/rules/branches/{branch}": "get",
    "/repos/{owner}/{repo}/statuses/{sha}": "post",
}

# The GraphQL types and their fields. Scalars, enums and inputs follow from what refers to them.
TYPES = {
    "Query": "node nodes rateLimit repository user viewer",
    "Mutation": "dequeuePullRequest disablePullRequestAutoMerge enablePullRequestAutoMerge enqueuePullRequest "
    "minimizeComment unminimizeComment",
    "Node": "id",
    "Actor": "avatarUrl login resourcePath url",
    "GitObject": "abbreviatedOid commitResourcePath commitUrl id oid repository",
    "RepositoryOwner": "avatarUrl id login resourcePath url",
    "Minimizable": "isMinimized minimizedReason viewerCanMinimize",
    "User": "databaseId email name",
    "Bot": "databaseId id",
    "Organization": "databaseId name",
    "Mannequin": "id",
    "RateLimit": "cost limit nodeCount remaining resetAt used",
    "PageInfo": "endCursor hasNextPage hasPreviousPage startCursor",
    "Repository": "autoMergeAllowed createdAt databaseId defaultBranchRef deleteBranchOnMerge id isArchived isEmpty "
    "isFork isPrivate label labels mergeCommitAllowed mergeQueue name nameWithOwner object owner pullRequest "
    "pullRequests pushedAt rebaseMergeAllowed ref refs squashMergeAllowed updatedAt url viewerDefaultMergeMethod "
    "viewerPermission visibility",
    "Ref": "associatedPullRequests id name prefix refUpdateRule repository target",
    "RefUpdateRule": "allowsDeletions allowsForcePushes blocksCreations pattern requiredApprovingReviewCount "
    "requiredStatusCheckContexts requiresCodeOwnerReviews requiresConversationResolution requiresLinearHistory "
    "requiresSignatures viewerAllowedToDismissReviews viewerCanPush",
    "RefConnection": "nodes pageInfo totalCount",
    "Blob": "byteSize isBinary isTruncated text",
    "Tree": "entries",
    "TreeEntry": "mode name object oid type",
    "Commit": "associatedPullRequests author authoredDate committedDate committer "
    "history message messageBody messageHeadline parents status statusCheckRollup tree url",
    "CommitConnection": "nodes pageInfo totalCount",
    "CommitHistoryConnection": "nodes pageInfo totalCount",
    "GitActor": "date email name user",
    "Status": "commit context contexts id state",
    "StatusContext": "commit context createdAt creator description id state targetUrl",
    "StatusCheckRollup": "commit id state",
    "PullRequest": "additions assignees author authorAssociation autoMergeRequest baseRef baseRefName baseRefOid "
    "baseRepository body changedFiles closed closedAt comments commits createdAt databaseId deletions files headRef "
    "headRefName headRefOid headRepository id isCrossRepository isDraft isInMergeQueue isMergeQueueEnabled labels "
    "locked mergeCommit mergeQueue mergeQueueEntry mergeStateStatus mergeable merged mergedAt mergedBy number "
    "permalink potentialMergeCommit repository reviewDecision reviews state title updatedAt url",
    "PullRequestConnection": "nodes pageInfo totalCount",
    "PullRequestChangedFile": "additions changeType deletions path",
    "PullRequestChangedFileConnection": "nodes pageInfo totalCount",
    "PullRequestCommit": "commit id",
    "PullRequestCommitConnection": "nodes pageInfo totalCount",
    "PullRequestReview": "author body commit createdAt id state submittedAt url",
    "PullRequestReviewConnection": "nodes pageInfo totalCount",
    "AutoMergeRequest": "authorEmail commitBody commitHeadline enabledAt enabledBy mergeMethod pullRequest",
    "MergeQueue": "entries id repository resourcePath url",
    "MergeQueueEntry": "baseCommit enqueuedAt enqueuer estimatedTimeToMerge headCommit id jump mergeQueue position "
    "pullRequest solo state",
    "MergeQueueEntryConnection": "nodes pageInfo totalCount",
    "UserConnection": "nodes pageInfo totalCount",
    "Label": "color description id isDefault name url",
    "LabelConnection": "nodes pageInfo totalCount",
    "IssueComment": "author authorAssociation body createdAt databaseId id pullRequest repository updatedAt url "
    "viewerDidAuthor",
    "IssueCommentConnection": "nodes pageInfo totalCount",
    "DequeuePullRequestPayload": "clientMutationId mergeQueueEntry",
    "EnqueuePullRequestPayload": "clientMutationId mergeQueueEntry",
    "EnablePullRequestAutoMergePayload": "actor clientMutationId pullRequest",
    "DisablePullRequestAutoMergePayload": "actor clientMutationId pullRequest",
    "MinimizeCommentPayload": "clientMutationId minimizedComment",
    "UnminimizeCommentPayload": "clientMutationId unminimizedComment",
}

# The webhook events that the sandbox sends; `pull_request` stands for all its actions.
EVENTS = (
    "installation",
    "issue_comment",
    "ping",
    "pull_request",
    "pull_request_review",
    "push",
    "repository",
    "status",
)


def cut_graphql(sdl: str) -> str:
    """The schema's listed types and fields, with the scalars, enums and inputs they use, as SDL."""
    document = gql.parse(sdl, no_location=True)
    nodes: list[Any] = [node for node in document.definitions if getattr(node, "name", None)]
    known: dict[str, Any] = {node.name.value: node for node in nodes}
    kept: dict[str, gql.Node] = {}
    for name in TYPES:
        kept[name] = _cut_type(known[name], known)
    for node in list(kept.values()):
        _follow(node, known, kept)
    return "\n\n".join(gql.print_ast(kept[name]) for name in sorted(kept)) + "\n"


def _cut_type(node: Any, known: dict[str, Any]) -> Any:
    """A type or interface with the listed fields, and those of the listed interfaces that it has."""
    interfaces = tuple(i for i in node.interfaces or () if i.name.value in TYPES)
    wanted = set(TYPES[node.name.value].split())
    for interface in interfaces:
        wanted |= set(TYPES[interface.name.value].split())
    missing = wanted - {field.name.value for field in node.fields}
    if missing:
        raise SystemExit(f"{node.name.value} has no field {', '.join(sorted(missing))}")
    fields = [_cut_field(field, known) for field in node.fields if field.name.value in wanted]
    return type(node)(
        name=node.name,
        interfaces=interfaces,
        directives=(),
        fields=tuple(sorted(fields, key=lambda f: str(f.name.value))),
    )


def _cut_field(field: Any, known: dict[str, Any]) -> gql.FieldDefinitionNode:
    arguments = tuple(_bare_input(argument) for argument in field.arguments or ())
    target = _base(field.type)
    if not _is_leaf(known.get(target)) and target not in TYPES:
        raise SystemExit(f"{field.name.value} is a {target}, which is not listed")
    return gql.FieldDefinitionNode(name=field.name, arguments=arguments, directives=(), type=field.type)


def _bare_input(node: Any) -> gql.InputValueDefinitionNode:
    return gql.InputValueDefinitionNode(name=node.name, type=node.type, default_value=node.default_value, directives=())


def _follow(node: Any, known: dict[str, Any], kept: dict[str, gql.Node]) -> None:
    """Adds the scalars, enums and inputs that a kept type refers to."""
    for name in _references(node):
        target = known.get(name)
        if target is None or name in kept:
            continue
        kept[name] = _bare(target)
        _follow(kept[name], known, kept)


def _references(node: Any) -> Iterator[str]:
    for field in getattr(node, "fields", None) or ():
        yield _base(field.type)
        yield from (_base(argument.type) for argument in getattr(field, "arguments", None) or ())


def _bare(node: Any) -> Any:
    """A scalar, enum or input without descriptions and directives."""
    match node:
        case gql.EnumTypeDefinitionNode():
            values = tuple(gql.EnumValueDefinitionNode(name=v.name, directives=()) for v in node.values or ())
            return gql.EnumTypeDefinitionNode(name=node.name, directives=(), values=values)
        case gql.InputObjectTypeDefinitionNode():
            fields = tuple(_bare_input(field) for field in node.fields or ())
            return gql.InputObjectTypeDefinitionNode(name=node.name, directives=(), fields=fields)
        case gql.ScalarTypeDefinitionNode():
            return gql.ScalarTypeDefinitionNode(name=node.name, directives=())
    raise SystemExit(f"{node.name.value} is not listed")


def _is_leaf(node: Any) -> bool:
    return node is None or isinstance(node, gql.ScalarTypeDefinitionNode | gql.EnumTypeDefinitionNode)


def _base(node: Any) -> str:
    while not isinstance(node, gql.NamedTypeNode):
        node = node.type
    return str(node.name.value)


# What people read and programs do not.
PROSE = {"description", "example", "examples", "externalDocs", "headers", "summary", "tags", "title"}
# Below these keys stand names that somebody gave, not keywords of the format.
NAMED = {"definitions", "parameters", "patternProperties", "properties", "responses", "schemas"}


def cut_openapi(description: dict[str, Any]) -> dict[str, Any]:
    """The listed operations with every component they refer to."""
    paths: dict[str, Any] = {}
    for path, methods in OPERATIONS.items():
        paths[path] = {method: _without_prose(description["paths"][path][method]) for method in methods.split()}
    components = _referred(paths, description, prefix="#/components/")
    return {"openapi": description["openapi"], "paths": paths, "components": components}


def cut_webhooks(schema: dict[str, Any]) -> dict[str, Any]:
    """The listed events, each as `<event>` or `<event>$<action>`, with every definition they refer to."""
    names = [name for name in schema["definitions"] if name.partition("$")[0] in EVENTS and "$" in name]
    wanted = {name: _without_prose(schema["definitions"][name]) for name in names}
    referred = _referred(wanted, schema, prefix="#/")
    return {"$schema": schema["$schema"], "definitions": {**referred.get("definitions", {}), **wanted}}


def _without_prose(node: Any, *, names: bool = False) -> Any:
    if isinstance(node, list):
        return [_without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_prose(value, names=not names and key in NAMED and isinstance(value, dict))
        for key, value in node.items()
        if names or not (key in PROSE or key.startswith(("x-", "tsAdditional")))
    }


def _referred(node: Any, source: dict[str, Any], *, prefix: str) -> dict[str, Any]:
    """What a node refers to, directly or not, in the places where the source holds it."""
    found: dict[str, Any] = {}
    waiting = list(_pointers(node, prefix))
    while waiting:
        section, _, name = waiting.pop().rpartition("/")
        held = found.setdefault(section, {})
        if name in held:
            continue
        target = source
        for step in f"{prefix[2:]}{section}/{name}".split("/"):
            target = target[step]
        held[name] = _without_prose(target)
        waiting.extend(_pointers(held[name], prefix))
    return found


def _pointers(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(pointer := node.get("$ref"), str):
            yield pointer.removeprefix(prefix)
        for value in node.values():
            yield from _pointers(value, prefix)
    elif isinstance(node, list):
        for item in node:
            yield from _pointers(item, prefix)


@dataclass(frozen=True)
class Package:
    """One packed npm package: its version, and the files in it."""

    archive: Path

    def read(self, member: str) -> bytes:
        with tarfile.open(self.archive) as packed:
            file = packed.extractfile(f"package/{member}")
            assert file is not None
            return file.read()

    def json(self, member: str) -> Any:
        return json.loads(self.read(member))


def package(directory: Path, name: str) -> Package:
    """The package's only archive in the directory, as `npm pack` named it."""
    found = sorted(directory.glob(f"octokit-{name}-[0-9]*.tgz"))
    if len(found) != 1:
        raise SystemExit(f"{directory} holds {len(found)} archives of @octokit/{name}; one is needed: npm pack")
    return Package(found[0])


def write(path: Path, value: Any) -> None:
    """Keys sorted, the upper levels one entry a line: small, and what a new version changes can be read in a diff."""
    path.write_text(_packed(value, levels=3) + "\n")


def _packed(value: Any, *, levels: int) -> str:
    if not (levels and isinstance(value, dict) and value):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    entries = [f"{json.dumps(key)}:{_packed(part, levels=levels - 1)}" for key, part in sorted(value.items())]
    return "{\n" + ",\n".join(entries) + "\n}"


def main(directory: Path) -> None:
    openapi, graphql, webhooks = (package(directory, n) for n in ("openapi", "graphql-schema", "webhooks-schemas"))
    write(HERE / "openapi.json", cut_openapi(openapi.json("generated/api.github.com.json")))
    write(HERE / "webhooks.json", cut_webhooks(webhooks.json("schema.json")))
    (SANDBOX / "schema.graphql").write_text(cut_graphql(graphql.read("schema.graphql").decode()))
    for cut_from in (openapi, graphql, webhooks):
        manifest = cut_from.json("package.json")
        print(manifest["name"], manifest["version"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
