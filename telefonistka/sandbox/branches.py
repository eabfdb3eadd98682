"""REST: branches, their protection, and the rules that apply to them.

https://docs.github.com/en/rest/branches/branch-protection, https://docs.github.com/en/rest/repos/rules
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from telefonistka.sandbox import gitobjects, lifecycle, objects, rules
from telefonistka.sandbox.git import valid_ref
from telefonistka.sandbox.gitdata import REPO, stale
from telefonistka.sandbox.objects import Json
from telefonistka.sandbox.rest import Answer, Ask, Refused, not_found, route, want
from telefonistka.sandbox.rules import Rules, Ruleset
from telefonistka.sandbox.state import Access, Repo

BRANCH = REPO + "/branches/{branch:.+}"

# Protections that the sandbox does not have.
OFF = (
    "required_linear_history",
    "allow_force_pushes",
    "allow_deletions",
    "block_creations",
    "required_conversation_resolution",
    "lock_branch",
    "allow_fork_syncing",
)


@route("GET", REPO + "/branches", "contents:read")
async def list_branches(ask: Ask) -> Answer:
    part, headers = ask.page(sorted(ask.repo.git.branches().items()))
    url = objects.repo_api(ask.box, ask.repo)
    shown = [
        {
            "name": name,
            "commit": {"sha": sha, "url": f"{url}/commits/{sha}"},
            "protected": rules.ruled(ask.repo, name),
        }
        for name, sha in part
    ]
    return Answer(shown, headers=headers)


@route("GET", BRANCH, "contents:read")
async def get_branch(ask: Ask) -> Answer:
    """With the checks that are asked for, whoever asks: more is for administrators only, by `/protection`."""
    name = ask.path("branch")
    if ask.repo.git.branch(name) is None and name in ask.repo.renamed_branches:
        there = f"{address(ask, ask.repo.renamed_branches[name])}"
        raise Refused(301, "Moved Permanently", headers={"Location": there})
    return Answer(shown_branch(ask, name))


def address(ask: Ask, name: str) -> str:
    return f"{objects.repo_api(ask.box, ask.repo)}/branches/{name}"


def shown_branch(ask: Ask, name: str) -> Json:
    sha = ask.repo.git.branch(name)
    if sha is None:
        raise Refused(404, "Branch not found")
    url = address(ask, name)
    classic = ask.repo.protection.get(name)
    return {
        "name": name,
        "commit": gitobjects.commit(ask.box, ask.repo, ask.repo.git.commit(stale(ask, sha))),
        "_links": {"self": url, "html": f"{ask.box.url}/{ask.repo.full_name}/tree/{name}"},
        "protected": rules.ruled(ask.repo, name),
        "protection": {"enabled": classic is not None, "required_status_checks": levelled(classic or Rules())},
        "protection_url": f"{url}/protection",
    }


def levelled(asked: Rules) -> Json:
    level = "everyone" if asked.enforce_admins else "non_admins"
    return {"enforcement_level": level if asked.checks else "off", **contexts(asked)}


def contexts(asked: Rules) -> Json:
    checks = [{"context": name, "app_id": None} for name in asked.checks]
    return {"contexts": list(asked.checks), "checks": checks}


@route("POST", REPO + "/branches/{branch:.+}/rename", "contents:write")
async def rename_branch(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/branches/branches#rename-a-branch: the default one by administrators only"""
    old, new = ask.path("branch"), want(await ask.json(), "new_name", str, resource="Branch")
    if old == ask.repo.default_branch:
        ask.require(Access.ADMIN)
    if ask.repo.git.branch(old) is None:
        raise Refused(404, "Branch not found")
    if ask.repo.git.branch(new) is not None or not valid_ref(f"refs/heads/{new}"):
        raise Refused(422, f"Cannot rename to {new}: there is such a branch, or there cannot be one.")
    await lifecycle.rename_branch(ask.box, ask.repo, old, new, by=ask.user)
    return Answer(shown_branch(ask, new), 201)


# Protection


def protected(ask: Ask) -> str:
    """The branch of the path. Raises 404 for those who do not administer the repository."""
    token = ask.identity.token
    if token is None or (token.installation is None and ask.box.access(ask.user, ask.repo) is not Access.ADMIN):
        raise not_found()
    if ask.repo.git.branch(ask.path("branch")) is None:
        raise Refused(404, "Branch not found")
    return ask.path("branch")


@route("GET", REPO + "/branches/{branch:.+}/protection", "administration:read")
async def get_protection(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/branches/branch-protection#get-branch-protection"""
    name = protected(ask)
    if name not in ask.repo.protection:
        raise Refused(404, "Branch not protected")
    return Answer(shown_protection(ask, name, ask.repo.protection[name]))


@route("PUT", REPO + "/branches/{branch:.+}/protection", "administration:write")
async def put_protection(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/branches/branch-protection#update-branch-protection"""
    name, fields = protected(ask), await ask.json()
    ask.repo.protection[name] = parsed(fields)
    shown = shown_protection(ask, name, ask.repo.protection[name])
    return Answer({key: value for key, value in shown.items() if key != "enabled"})


@route("DELETE", REPO + "/branches/{branch:.+}/protection", "administration:write")
async def delete_protection(ask: Ask) -> Answer:
    if ask.repo.protection.pop(protected(ask), None) is None:
        raise Refused(404, "Branch not protected")
    return Answer(status=204)


def parsed(fields: dict[str, Any]) -> Rules:
    checks = fields.get("required_status_checks") or {}
    reviews = fields.get("required_pull_request_reviews") or {}
    named = [one["context"] for one in checks.get("checks", ())]
    return Rules(
        checks=tuple(dict.fromkeys((*checks.get("contexts", ()), *named))),
        strict=checks.get("strict", False),
        reviews=fields.get("required_pull_request_reviews") is not None,
        approvals=reviews.get("required_approving_review_count", 0 if not reviews else 1),
        dismiss_stale=reviews.get("dismiss_stale_reviews", False),
        code_owners=reviews.get("require_code_owner_reviews", False),
        last_push=reviews.get("require_last_push_approval", False),
        enforce_admins=fields.get("enforce_admins") is True,
    )


def shown_protection(ask: Ask, name: str, asked: Rules) -> Json:
    url = f"{address(ask, name)}/protection"
    shown: Json = {
        "url": url,
        "enabled": True,
        "enforce_admins": {"url": f"{url}/enforce_admins", "enabled": asked.enforce_admins},
        "required_signatures": {"url": f"{url}/required_signatures", "enabled": False},
        **{key: {"enabled": False} for key in OFF},
    }
    if asked.checks or asked.strict:
        one = f"{url}/required_status_checks"
        shown["required_status_checks"] = {"url": one, "strict": asked.strict, **contexts(asked)}
        shown["required_status_checks"]["contexts_url"] = f"{one}/contexts"
    if asked.reviewed:
        shown["required_pull_request_reviews"] = {
            "url": f"{url}/required_pull_request_reviews",
            "dismiss_stale_reviews": asked.dismiss_stale,
            "require_code_owner_reviews": asked.code_owners,
            "required_approving_review_count": asked.approvals,
            "require_last_push_approval": asked.last_push,
        }
    return shown


# Rules of rulesets, which everybody may read


@route("GET", REPO + "/rules/branches/{branch:.+}", "metadata:read")
async def branch_rules(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/repos/rules#get-rules-for-a-branch"""
    found = [
        rule for one in rules.rulesets(ask.repo, ask.path("branch")) for rule in shown_rules(ask.repo, one, one.rules)
    ]
    part, headers = ask.page(found)
    return Answer(part, headers=headers)


def shown_rules(repo: Repo, ruleset: Ruleset, asked: Rules) -> Iterator[Json]:
    source = {"ruleset_source_type": "Repository", "ruleset_source": repo.full_name, "ruleset_id": ruleset.id}
    if asked.reviewed or asked.methods:
        yield {"type": "pull_request", **source, "parameters": review_parameters(asked)}
    if asked.checks:
        parameters = {
            "required_status_checks": [{"context": name} for name in asked.checks],
            "strict_required_status_checks_policy": asked.strict,
            "do_not_enforce_on_create": False,
        }
        yield {"type": "required_status_checks", **source, "parameters": parameters}
    if asked.queue:
        yield {"type": "merge_queue", **source, "parameters": queue_parameters(asked)}


def review_parameters(asked: Rules) -> Json:
    return {
        "required_approving_review_count": asked.approvals,
        "dismiss_stale_reviews_on_push": asked.dismiss_stale,
        "require_code_owner_review": asked.code_owners,
        "require_last_push_approval": asked.last_push,
        "required_review_thread_resolution": False,
        "allowed_merge_methods": list(asked.methods) or ["merge", "squash", "rebase"],
    }


def queue_parameters(asked: Rules) -> Json:
    return {
        "check_response_timeout_minutes": 60,
        "grouping_strategy": "ALLGREEN",
        "max_entries_to_build": 5,
        "max_entries_to_merge": 5,
        "merge_method": asked.queue.upper(),
        "min_entries_to_merge": 1,
        "min_entries_to_merge_wait_minutes": 5,
    }
