"""Records as GitHub's JSON: people, Apps, repositories, pull requests, issues, comments, labels, reviews, statuses.

The shapes are those of GitHub's OpenAPI description, in full; commits and trees are in gitobjects.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import (
    RANKS,
    Access,
    App,
    CheckRun,
    Comment,
    Installation,
    Label,
    Pull,
    Reaction,
    Repo,
    Review,
    Status,
    User,
)

Json = dict[str, Any]


def api(box: Box) -> str:
    return f"{box.url}/api/v3"


def repo_api(box: Box, repo: Repo) -> str:
    return f"{api(box)}/repos/{repo.full_name}"


def time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# People and Apps

USER_LINKS = {
    "followers_url": "followers",
    "following_url": "following{/other_user}",
    "gists_url": "gists{/gist_id}",
    "starred_url": "starred{/owner}{/repo}",
    "subscriptions_url": "subscriptions",
    "organizations_url": "orgs",
    "repos_url": "repos",
    "events_url": "events{/privacy}",
    "received_events_url": "received_events",
}


def user(box: Box, user: User) -> Json:
    login = quote(user.login)  # a bot's has brackets
    url = f"{api(box)}/users/{login}"
    return {
        "login": user.login,
        "id": user.id,
        "node_id": user.node_id,
        "avatar_url": f"{box.url}/avatars/{user.id}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{box.url}/{login}",
        **{name: f"{url}/{path}" for name, path in USER_LINKS.items()},
        "type": user.type,
        "user_view_type": "public",
        "site_admin": False,
    }


def profile(box: Box, person: User) -> Json:
    """What `/user` and `/users/{login}` say."""
    empty = dict.fromkeys(("company", "location", "hireable", "bio", "twitter_username"))
    owned = sum(1 for repo in box.repos.values() if repo.owner is person)
    return user(box, person) | {
        "name": person.name,
        "blog": "",
        "email": None,
        **empty,
        "public_repos": owned,
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "created_at": time(person.created_at),
        "updated_at": time(person.created_at),
    }


def app(box: Box, app: App) -> Json:
    return {
        "id": app.id,
        "client_id": app.client_id,
        "slug": app.slug,
        "node_id": app.node_id,
        "owner": user(box, app.owner),
        "name": app.name,
        "description": "",
        "external_url": f"{box.url}/apps/{app.slug}",
        "html_url": f"{box.url}/apps/{app.slug}",
        "created_at": time(app.created_at),
        "updated_at": time(app.created_at),
        "permissions": app.permissions,
        "events": app.events,
    }


def installation(box: Box, one: Installation) -> Json:
    url = f"{api(box)}/app/installations/{one.id}"
    return {
        "id": one.id,
        "client_id": one.app.client_id,
        "account": user(box, one.account),
        "repository_selection": "all" if one.repositories is None else "selected",
        "access_tokens_url": f"{url}/access_tokens",
        "repositories_url": f"{api(box)}/installation/repositories",
        "html_url": f"{box.url}/settings/installations/{one.id}",
        "app_id": one.app.id,
        "app_slug": one.app.slug,
        "target_id": one.account.id,
        "target_type": one.account.type,
        "permissions": one.permissions,
        "events": one.app.events,
        "created_at": time(one.created_at),
        "updated_at": time(one.created_at),
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": None if one.suspended_by is None else user(box, one.suspended_by),
        "suspended_at": time(one.suspended_at),
    }


# Repositories

REPO_LINKS = {
    "archive_url": "{archive_format}{/ref}",
    "assignees_url": "assignees{/user}",
    "blobs_url": "git/blobs{/sha}",
    "branches_url": "branches{/branch}",
    "collaborators_url": "collaborators{/collaborator}",
    "comments_url": "comments{/number}",
    "commits_url": "commits{/sha}",
    "compare_url": "compare/{base}...{head}",
    "contents_url": "contents/{+path}",
    "contributors_url": "contributors",
    "deployments_url": "deployments",
    "downloads_url": "downloads",
    "events_url": "events",
    "forks_url": "forks",
    "git_commits_url": "git/commits{/sha}",
    "git_refs_url": "git/refs{/sha}",
    "git_tags_url": "git/tags{/sha}",
    "hooks_url": "hooks",
    "issue_comment_url": "issues/comments{/number}",
    "issue_events_url": "issues/events{/number}",
    "issues_url": "issues{/number}",
    "keys_url": "keys{/key_id}",
    "labels_url": "labels{/name}",
    "languages_url": "languages",
    "merges_url": "merges",
    "milestones_url": "milestones{/number}",
    "notifications_url": "notifications{?since,all,participating}",
    "pulls_url": "pulls{/number}",
    "releases_url": "releases{/id}",
    "stargazers_url": "stargazers",
    "statuses_url": "statuses/{sha}",
    "subscribers_url": "subscribers",
    "subscription_url": "subscription",
    "tags_url": "tags",
    "teams_url": "teams",
    "trees_url": "git/trees{/sha}",
}


def repository(box: Box, repo: Repo) -> Json:
    url = repo_api(box, repo)
    html = f"{box.url}/{repo.full_name}"
    still_open = sum(1 for pull in repo.pulls.values() if pull.state == "open")
    return {
        "id": repo.id,
        "node_id": repo.node_id,
        "name": repo.name,
        "full_name": repo.full_name,
        "private": repo.private,
        "owner": user(box, repo.owner),
        "html_url": html,
        "description": repo.description,
        "fork": False,
        "url": url,
        **{name: f"{url}/{path}" for name, path in REPO_LINKS.items()},
        "created_at": time(repo.created_at),
        "updated_at": time(repo.updated_at),
        "pushed_at": time(repo.pushed_at),
        "git_url": f"{html}.git".replace("http:", "git:", 1),
        "ssh_url": f"{html}.git".replace("http:", "ssh:", 1),
        "clone_url": f"{html}.git",
        "svn_url": html,
        "homepage": None,
        "size": 0,
        "stargazers_count": 0,
        "watchers_count": 0,
        "language": None,
        "has_issues": True,
        "has_projects": False,
        "has_downloads": False,
        "has_wiki": False,
        "has_pages": False,
        "has_discussions": False,
        "forks_count": 0,
        "mirror_url": None,
        "archived": repo.archived,
        "disabled": False,
        "open_issues_count": still_open,
        "license": None,
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": [],
        "visibility": "private" if repo.private else "public",
        "forks": 0,
        "open_issues": still_open,
        "watchers": 0,
        "default_branch": repo.default_branch,
    }


def permissions(access: Access) -> dict[str, bool]:
    at_least = RANKS.index(access)
    names = {"admin": Access.ADMIN, "maintain": Access.MAINTAIN, "push": Access.WRITE, "triage": Access.TRIAGE}
    return {name: at_least >= RANKS.index(needed) for name, needed in (names | {"pull": Access.READ}).items()}


def full_repository(box: Box, repo: Repo, viewer: User | None) -> Json:
    shown = repository(box, repo) | {"network_count": 0, "subscribers_count": 0}
    if viewer is not None:
        shown["permissions"] = permissions(box.access(viewer, repo))
        if box.writes(viewer, repo):  # https://docs.github.com/en/rest/repos/repos#get-a-repository
            shown |= {f"allow_{name}": method in repo.merge_methods for name, method in MERGE_SETTINGS.items()}
            shown |= {name: getattr(repo.switches, name) for name in ("allow_auto_merge", "delete_branch_on_merge")}
    if repo.owner.type == "Organization":
        shown["organization"] = user(box, repo.owner)
    return shown


MERGE_SETTINGS = {"merge_commit": "merge", "squash_merge": "squash", "rebase_merge": "rebase"}


# What hangs on a pull request


def label(box: Box, repo: Repo, label: Label) -> Json:
    return {
        "id": label.id,
        "node_id": label.node_id,
        "url": f"{repo_api(box, repo)}/labels/{label.name}",
        "name": label.name,
        "color": label.color,
        "default": label.default,
        "description": label.description,
    }


def association(repo: Repo, author: User) -> str:
    if author is repo.owner:
        return "OWNER"
    if author.type == "Bot" or author.access is Access.NONE:
        return "NONE"
    return "COLLABORATOR" if author.login.lower() in repo.collaborators else "MEMBER"


def comment(box: Box, repo: Repo, pull: Pull, comment: Comment) -> Json:
    url = f"{repo_api(box, repo)}/issues/comments/{comment.id}"
    return {
        "url": url,
        "html_url": f"{pull_html(box, repo, pull)}#issuecomment-{comment.id}",
        "issue_url": f"{repo_api(box, repo)}/issues/{pull.number}",
        "id": comment.id,
        "node_id": comment.node_id,
        "user": user(box, comment.user),
        "created_at": time(comment.created_at),
        "updated_at": time(comment.updated_at),
        "author_association": association(repo, comment.user),
        "body": comment.body,
        "reactions": reactions(url, [one.content for one in comment.reactions.values()]),
        "performed_via_github_app": None if comment.app is None else app(box, comment.app),
    }


REACTIONS = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")


def reactions(url: str, given: Sequence[str] = ()) -> Json:
    counts = {kind: given.count(kind) for kind in REACTIONS}
    return {"url": f"{url}/reactions", "total_count": len(given), **counts}


def reaction(box: Box, reaction: Reaction) -> Json:
    return {
        "id": reaction.id,
        "node_id": reaction.node_id,
        "user": user(box, reaction.user),
        "content": reaction.content,
        "created_at": time(reaction.created_at),
    }


def check_run(box: Box, repo: Repo, run: CheckRun) -> Json:
    url = f"{repo_api(box, repo)}/check-runs/{run.id}"
    return {
        "id": run.id,
        "node_id": run.node_id,
        "head_sha": run.sha,
        "name": run.name,
        "url": url,
        "html_url": f"{box.url}/{repo.full_name}/runs/{run.id}",
        "details_url": run.details_url,
        "external_id": run.external_id,
        "status": run.status,
        "conclusion": run.conclusion,
        "started_at": time(run.started_at),
        "completed_at": time(run.completed_at),
        "output": {
            "title": run.title,
            "summary": run.summary,
            "text": run.text,
            "annotations_count": len(run.annotations),
            "annotations_url": f"{url}/annotations",
        },
        "check_suite": None,
        "app": app(box, run.app),
        "pull_requests": [],
    }


def review(box: Box, repo: Repo, pull: Pull, review: Review) -> Json:
    html = f"{pull_html(box, repo, pull)}#pullrequestreview-{review.id}"
    pull_url = f"{repo_api(box, repo)}/pulls/{pull.number}"
    return {
        "id": review.id,
        "node_id": review.node_id,
        "user": user(box, review.user),
        "body": review.body,
        "state": review.state,
        "html_url": html,
        "pull_request_url": pull_url,
        "author_association": association(repo, review.user),
        "_links": {"html": {"href": html}, "pull_request": {"href": pull_url}},
        "submitted_at": time(review.submitted_at),
        "commit_id": review.commit_id,
    }


def simple_status(box: Box, repo: Repo, status: Status) -> Json:
    return {
        "url": f"{repo_api(box, repo)}/statuses/{status.sha}",
        "avatar_url": f"{box.url}/avatars/{status.creator.id}",
        "id": status.id,
        "node_id": status.node_id,
        "state": status.state,
        "description": status.description,
        "target_url": status.target_url,
        "context": status.context,
        "created_at": time(status.created_at),
        "updated_at": time(status.updated_at),
    }


def status(box: Box, repo: Repo, status: Status) -> Json:
    return simple_status(box, repo, status) | {"creator": user(box, status.creator)}


# Pull requests, and the issues that they are


def pull_html(box: Box, repo: Repo, pull: Pull) -> str:
    return f"{box.url}/{repo.full_name}/pull/{pull.number}"


def side(box: Box, repo: Repo, ref: str, sha: str) -> Json:
    owner = repo.owner
    shown = {"label": f"{owner.login}:{ref}", "ref": ref, "sha": sha, "user": user(box, owner)}
    return shown | {"repo": repository(box, repo)}


def people(box: Box, those: list[User]) -> list[Json]:
    return [user(box, one) for one in those]


def pull_simple(box: Box, repo: Repo, pull: Pull) -> Json:
    """A pull request as lists show it."""
    url = f"{repo_api(box, repo)}/pulls/{pull.number}"
    issue_url = f"{repo_api(box, repo)}/issues/{pull.number}"
    html = pull_html(box, repo, pull)
    links = {
        "self": url,
        "html": html,
        "issue": issue_url,
        "comments": f"{issue_url}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{repo_api(box, repo)}/pulls/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": f"{repo_api(box, repo)}/statuses/{pull.head_sha}",
    }
    return {
        "url": url,
        "id": pull.id,
        "node_id": pull.node_id,
        "html_url": html,
        "diff_url": f"{html}.diff",
        "patch_url": f"{html}.patch",
        "issue_url": issue_url,
        "number": pull.number,
        "state": pull.state,
        "locked": False,
        "title": pull.title,
        "user": user(box, pull.user),
        "body": pull.body,
        "created_at": time(pull.created_at),
        "updated_at": time(pull.updated_at),
        "closed_at": time(pull.closed_at),
        "merged_at": time(pull.merged_at),
        "merge_commit_sha": pull.merge_commit_sha,
        "assignee": user(box, pull.assignees[0]) if pull.assignees else None,
        "assignees": people(box, pull.assignees),
        "requested_reviewers": people(box, pull.requested_reviewers),
        "requested_teams": [],
        "labels": [label(box, repo, one) for one in pull.labels],
        "milestone": None,
        "draft": pull.draft,
        "commits_url": links["commits"],
        "review_comments_url": links["review_comments"],
        "review_comment_url": links["review_comment"],
        "comments_url": links["comments"],
        "statuses_url": links["statuses"],
        "head": side(box, pull.head_repo or repo, pull.head_ref, pull.head_sha),
        "base": side(box, repo, pull.base_ref, pull.base_sha),
        "_links": {name: {"href": href} for name, href in links.items()},
        "author_association": association(repo, pull.user),
        "auto_merge": auto_merge(box, pull),
        "active_lock_reason": None,
    }


def auto_merge(box: Box, pull: Pull) -> Json | None:
    asked = pull.auto_merge
    if asked is None:
        return None
    shown = {"enabled_by": user(box, asked.by), "merge_method": asked.method}
    return shown | {"commit_title": asked.title, "commit_message": asked.body}


def issue(box: Box, repo: Repo, pull: Pull) -> Json:
    """The issue behind a pull request."""
    url = f"{repo_api(box, repo)}/issues/{pull.number}"
    html = pull_html(box, repo, pull)
    pull_links = {
        "url": f"{repo_api(box, repo)}/pulls/{pull.number}",
        "html_url": html,
        "diff_url": f"{html}.diff",
        "patch_url": f"{html}.patch",
        "merged_at": time(pull.merged_at),
    }
    return {
        "url": url,
        "repository_url": repo_api(box, repo),
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "html_url": html,
        "id": pull.issue_id,
        "node_id": pull.node_id,
        "number": pull.number,
        "title": pull.title,
        "user": user(box, pull.user),
        "labels": [label(box, repo, one) for one in pull.labels],
        "state": pull.state,
        "locked": False,
        "assignee": user(box, pull.assignees[0]) if pull.assignees else None,
        "assignees": people(box, pull.assignees),
        "milestone": None,
        "comments": len(pull.comments),
        "created_at": time(pull.created_at),
        "updated_at": time(pull.updated_at),
        "closed_at": time(pull.closed_at),
        "author_association": association(repo, pull.user),
        "active_lock_reason": None,
        "draft": pull.draft,
        "pull_request": pull_links,
        "body": pull.body,
        "closed_by": None,
        "reactions": reactions(url),
        "timeline_url": f"{url}/timeline",
        "performed_via_github_app": None if pull.app is None else app(box, pull.app),
        "state_reason": None,
    }
