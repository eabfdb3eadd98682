"""REST: what pull requests have as issues — labels, assignees, comments. https://docs.github.com/en/rest/issues"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from telefonistka.sandbox import objects, pulls
from telefonistka.sandbox.gitdata import REPO
from telefonistka.sandbox.pulls import BODY_LIMIT
from telefonistka.sandbox.repos import ensure_label
from telefonistka.sandbox.rest import Answer, Ask, Refused, invalid, not_found, route, texts, want
from telefonistka.sandbox.state import RANKS, Access, Comment, Label, Pull, Reaction, User, now

ASSIGNEE_LIMIT = 10
ISSUE = REPO + "/issues/{number}"
READ = "issues,pull_requests:read"
WRITE = "issues,pull_requests:write"


@route("GET", ISSUE, READ)
async def get_issue(ask: Ask) -> Answer:
    return Answer(objects.issue(ask.box, ask.repo, ask.pull()))


@route("GET", REPO + "/issues", READ)
async def list_issues(ask: Ask) -> Answer:
    state, labels = ask.query("state", "open"), {name.lower() for name in ask.query("labels").split(",") if name}
    chosen = [
        pull
        for pull in reversed(ask.repo.pulls.values())
        if state in ("all", pull.state) and labels <= {label.name.lower() for label in pull.labels}
    ]
    part, headers = ask.page(chosen)
    return Answer([objects.issue(ask.box, ask.repo, pull) for pull in part], headers=headers)


@route("PATCH", ISSUE, WRITE)
async def update_issue(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/issues/issues#update-an-issue"""
    fields, pull = await ask.json(), ask.pull()
    trusted = may_triage(ask)
    if not trusted and ask.user is not pull.user:
        raise Refused(403, "Must have admin rights to Repository.")
    pulls.check_texts(fields.get("title"), fields.get("body"))
    labels = label_names(fields["labels"]) if trusted and fields.get("labels") is not None else None
    assignees = assignable(ask, fields) if trusted and fields.get("assignees") is not None else None
    changes = pulls.edit_texts(pull, fields)
    if changes:
        pull.updated_at = now()
        await ask.box.tell("pull_request", "edited", repo=ask.repo, sender=ask.user, pull=pull, changes=changes)
    if labels is not None:
        await set_labels(ask, pull, [await ensure_label(ask, name) for name in labels])
    if assignees is not None:
        await set_assignees(ask, pull, assignees)
    if "state" in fields:
        await pulls.set_state(ask, pull, want(fields, "state", str, resource="Issue"))
    return Answer(objects.issue(ask.box, ask.repo, pull))


def may_triage(ask: Ask) -> bool:
    """Whether labels and assignees may be set; of others, GitHub drops them without a word."""
    if ask.identity.token is not None and ask.identity.token.installation is not None:
        return True
    return RANKS.index(ask.box.access(ask.user, ask.repo)) >= RANKS.index(Access.TRIAGE)


# Labels


def label_names(given: Any) -> list[str]:
    """Labels are given as names, or as objects with a name."""
    if isinstance(given, dict):
        given = given.get("labels")
    names = [one.get("name") if isinstance(one, dict) else one for one in given] if isinstance(given, list) else [None]
    kept = [name for name in names if isinstance(name, str) and name]
    if len(kept) < len(names):
        raise invalid("Label", "name")
    return list(dict.fromkeys(kept))


async def set_labels(ask: Ask, pull: Pull, labels: Sequence[Label]) -> None:
    """The pull request has exactly these labels."""
    added = [label for label in labels if label not in pull.labels]
    removed = [label for label in pull.labels if label not in labels]
    pull.labels = sorted(set(labels), key=lambda label: label.id)
    if added or removed:
        pull.updated_at = now()
    for label in removed:
        await ask.box.tell("pull_request", "unlabeled", repo=ask.repo, sender=ask.user, pull=pull, label=label)
    for label in added:
        await ask.box.tell("pull_request", "labeled", repo=ask.repo, sender=ask.user, pull=pull, label=label)


def labels_answer(ask: Ask, pull: Pull) -> Answer:
    part, headers = ask.page(pull.labels)
    return Answer([objects.label(ask.box, ask.repo, label) for label in part], headers=headers)


@route("GET", ISSUE + "/labels", READ)
async def list_labels(ask: Ask) -> Answer:
    return labels_answer(ask, ask.pull())


@route("POST", ISSUE + "/labels", WRITE)
async def add_labels(ask: Ask) -> Answer:
    return await change_labels(ask, keep=True)


@route("PUT", ISSUE + "/labels", WRITE)
async def replace_labels(ask: Ask) -> Answer:
    return await change_labels(ask, keep=False)


async def change_labels(ask: Ask, *, keep: bool) -> Answer:
    """The body is `{"labels": […]}` or, of old, the bare list."""
    pull = ask.pull()
    ask.require(Access.TRIAGE)
    labels = [await ensure_label(ask, name) for name in label_names(await ask.value())]
    await set_labels(ask, pull, [*pull.labels, *labels] if keep else labels)
    return labels_answer(ask, pull)


@route("DELETE", ISSUE + "/labels", WRITE)
async def remove_labels(ask: Ask) -> Answer:
    ask.require(Access.TRIAGE)
    await set_labels(ask, ask.pull(), [])
    return Answer(status=204)


@route("DELETE", ISSUE + "/labels/{name}", WRITE)
async def remove_label(ask: Ask) -> Answer:
    pull = ask.pull()
    ask.require(Access.TRIAGE)
    label = ask.repo.labels.get(ask.path("name").lower())
    if label is None or label not in pull.labels:
        raise Refused(404, "Label does not exist")
    await set_labels(ask, pull, [one for one in pull.labels if one is not label])
    return labels_answer(ask, pull)


# Assignees


def assignable(ask: Ask, fields: dict[str, Any]) -> list[User]:
    """Those of the named whom one may assign; the others are dropped, or refused where the switch says so."""
    found = []
    for login in dict.fromkeys(texts(fields, "assignees", "Issue")):
        user = ask.box.user(login)
        if user is not None and user.type == "User" and ask.box.is_collaborator(user, ask.repo):
            found.append(user)
        elif ask.repo.switches.unknown_assignee == "refuse":
            error = {"value": login, "resource": "Issue", "field": "assignees", "code": "invalid"}
            raise Refused(422, "Validation Failed", errors=[error])
    return found


async def set_assignees(ask: Ask, pull: Pull, users: Sequence[User]) -> None:
    """The pull request is assigned to these, ten at most."""
    wanted = list(dict.fromkeys(users))[:ASSIGNEE_LIMIT]
    added = [user for user in wanted if user not in pull.assignees]
    removed = [user for user in pull.assignees if user not in wanted]
    pull.assignees = wanted
    if added or removed:
        pull.updated_at = now()
    facts = {"repo": ask.repo, "sender": ask.user, "pull": pull}
    for user in removed:
        await ask.box.tell("pull_request", "unassigned", **facts, assignee=user)  # type: ignore[arg-type]
    for user in added:
        await ask.box.tell("pull_request", "assigned", **facts, assignee=user)  # type: ignore[arg-type]


@route("GET", REPO + "/assignees/{assignee}", READ)
async def check_assignee(ask: Ask) -> Answer:
    user = ask.box.user(ask.path("assignee"))
    if user is None or not ask.box.is_collaborator(user, ask.repo):
        raise not_found()
    return Answer(status=204)


@route("POST", ISSUE + "/assignees", WRITE)
async def add_assignees(ask: Ask) -> Answer:
    fields, pull = await ask.json(), ask.pull()
    if may_triage(ask):
        await set_assignees(ask, pull, [*pull.assignees, *assignable(ask, fields)])
    return Answer(objects.issue(ask.box, ask.repo, pull), 201)


@route("DELETE", ISSUE + "/assignees", WRITE)
async def remove_assignees(ask: Ask) -> Answer:
    fields, pull = await ask.json(), ask.pull()
    ask.require(Access.TRIAGE)
    gone = {login.lower() for login in texts(fields, "assignees", "Issue")}
    await set_assignees(ask, pull, [user for user in pull.assignees if user.login.lower() not in gone])
    return Answer(objects.issue(ask.box, ask.repo, pull))


# Comments


def comment_body(fields: dict[str, Any]) -> str:
    body = want(fields, "body", str, resource="IssueComment")
    if not body.strip():
        raise invalid("IssueComment", "body", code="missing_field")
    if len(body) > BODY_LIMIT:
        raise invalid("IssueComment", "body", message=f"body is too long (maximum is {BODY_LIMIT} characters)")
    return body


@route("GET", ISSUE + "/comments", READ)
async def list_comments(ask: Ask) -> Answer:
    pull = ask.pull()
    part, headers = ask.page(list(pull.comments.values()))
    return Answer([objects.comment(ask.box, ask.repo, pull, one) for one in part], headers=headers)


@route("POST", ISSUE + "/comments", WRITE)
async def create_comment(ask: Ask) -> Answer:
    body, pull = comment_body(await ask.json()), ask.pull()
    installation = ask.identity.token.installation if ask.identity.token is not None else None
    app = None if installation is None else installation.app
    comment = Comment(id=ask.box.next_id(), user=ask.user, body=body, app=app)
    pull.comments[comment.id] = comment
    pull.updated_at = now()
    await ask.box.tell("issue_comment", "created", repo=ask.repo, sender=ask.user, pull=pull, comment=comment)
    shown = objects.comment(ask.box, ask.repo, pull, comment)
    return Answer(shown, 201, {"Location": shown["url"]})


def find_comment(ask: Ask) -> tuple[Pull, Comment]:
    number = ask.number("comment_id")
    for pull in ask.repo.pulls.values():
        if number in pull.comments:
            return pull, pull.comments[number]
    raise not_found()


COMMENT = REPO + "/issues/comments/{comment_id}"


@route("POST", COMMENT + "/reactions", WRITE)
async def react(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/reactions/reactions#create-reaction-for-an-issue-comment"""
    content = want(await ask.json(), "content", str, resource="Reaction")
    if content not in objects.REACTIONS:
        raise invalid("Reaction", "content")
    _, comment = find_comment(ask)
    for one in comment.reactions.values():
        if (one.user, one.content) == (ask.user, content):
            return Answer(objects.reaction(ask.box, one))
    made = Reaction(id=ask.box.next_id(), user=ask.user, content=content)
    comment.reactions[made.id] = made
    return Answer(objects.reaction(ask.box, made), 201)


@route("GET", COMMENT, READ)
async def get_comment(ask: Ask) -> Answer:
    pull, comment = find_comment(ask)
    return Answer(objects.comment(ask.box, ask.repo, pull, comment))


@route("PATCH", COMMENT, WRITE)
async def update_comment(ask: Ask) -> Answer:
    body = comment_body(await ask.json())
    pull, comment = find_comment(ask)
    if comment.user is not ask.user:
        ask.require(Access.WRITE)
    changes = {"body": {"from": comment.body}}
    comment.body, comment.updated_at = body, now()
    facts: dict[str, Any] = {"pull": pull, "comment": comment, "changes": changes}
    await ask.box.tell("issue_comment", "edited", repo=ask.repo, sender=ask.user, **facts)
    return Answer(objects.comment(ask.box, ask.repo, pull, comment))


@route("DELETE", COMMENT, WRITE)
async def delete_comment(ask: Ask) -> Answer:
    pull, comment = find_comment(ask)
    if comment.user is not ask.user:
        ask.require(Access.WRITE)
    del pull.comments[comment.id]
    await ask.box.tell("issue_comment", "deleted", repo=ask.repo, sender=ask.user, pull=pull, comment=comment)
    return Answer(status=204)
