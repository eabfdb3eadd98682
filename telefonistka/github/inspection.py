"""What GitHub lets us see of a repository and of our own rights there: for `doctor`, which changes nothing.

What belongs here: the questions, and their answers as values. What they mean for us is doctor.py's business. Each
question raises Refused by itself, since each may need another permission.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from telefonistka.github import NotFound
from telefonistka.github.auth import Identity
from telefonistka.github.client import Client

DELIVERIES = 100  # the newest ones, which is a page
METHODS = {"merge": "allow_merge_commit", "squash": "allow_squash_merge", "rebase": "allow_rebase_merge"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """An App where it is installed: what it was granted, and which events it is told."""

    permissions: Mapping[str, str]
    events: frozenset[str]
    suspended: bool
    page: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository's settings, as far as they are shown to us."""

    id: int
    default_branch: str
    private: bool
    archived: bool
    may_push: bool | None  # None: GitHub does not say
    may_administer: bool
    methods: tuple[str, ...] | None  # of merging
    auto_merge: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule for a branch: https://docs.github.com/en/rest/repos/rules#get-rules-for-a-branch"""

    kind: str
    parameters: Mapping[str, Any]
    source: str  # of the ruleset; classic protection is called so


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A webhook; an App's has no number."""

    id: int | None
    url: str
    active: bool
    events: frozenset[str]
    sends_form: bool  # else JSON
    has_secret: bool
    checks_certificate: bool

    @property
    def leads_to_us(self) -> bool:
        """Whether its path is ours. Argo CD's own, /api/webhook, ends alike."""
        path = self.url.partition("?")[0].rstrip("/")
        return path.endswith("/webhook") and not path.endswith("/api/webhook")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One delivery of a webhook, as GitHub's log has it."""

    at: datetime
    event: str
    good: bool
    status: str
    code: int


class Inspection:
    """One repository, seen with one of our identities."""

    def __init__(self, identity: Identity, owner: str, name: str) -> None:
        self._identity = identity
        self._owner = owner
        self._name = name
        self._path = f"/repos/{quote(owner)}/{quote(name)}"

    @property
    def is_app(self) -> bool:
        return self._identity.is_app

    async def login(self) -> str:
        return await self._identity.login()

    def ahead(self) -> float | None:
        """Seconds that GitHub's clock is ahead of ours, by an answer that just came; None: it did not say."""
        client = self._identity.itself
        try:
            return parsedate_to_datetime(client.heard["date"]).timestamp() - client.clock.wall()
        except (KeyError, ValueError):
            return None

    async def scopes(self) -> frozenset[str] | None:
        """What a classic token was granted; None: it is of another kind, which does not tell."""
        # https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
        client = await self._client()
        await client.get(self._path)
        granted = client.heard.get("x-oauth-scopes")
        return None if granted is None else frozenset(filter(None, (one.strip() for one in granted.split(","))))

    async def installation(self) -> Installation:
        """The App's installation on the repository; raises NotFound where there is none."""
        found = await self._identity.itself.get(f"{self._path}/installation")
        return Installation(
            permissions=dict(found["permissions"]),
            events=frozenset(found["events"]),
            suspended=found.get("suspended_at") is not None,
            page=found["html_url"],
        )

    async def repository(self) -> Repository:
        found = await (await self._client()).get(self._path)
        may = found.get("permissions") or {}
        allowed = {method: found[field] for method, field in METHODS.items() if field in found}
        return Repository(
            id=found["id"],
            default_branch=found["default_branch"],
            private=found["private"],
            archived=found["archived"],
            may_push=may.get("push"),
            may_administer=may.get("admin") is True,
            methods=tuple(method for method in allowed if allowed[method]) if allowed else None,
            auto_merge=found.get("allow_auto_merge"),
        )

    async def rules(self, branch: str) -> tuple[Rule, ...]:
        """The rules of all rulesets for a branch, which need not exist."""
        client = await self._client()
        pages = client.pages(f"{self._path}/rules/branches/{_name(branch)}?per_page=100")
        return tuple(
            [
                Rule(
                    kind=one["type"],
                    parameters=one.get("parameters") or {},
                    source=f"{one.get('ruleset_source') or 'a'} ruleset {one.get('ruleset_id', '')}".strip(),
                )
                async for one in pages
            ]
        )

    async def is_protected(self, branch: str) -> bool:
        """Whether the branch has classic protection; raises NotFound where there is no such branch."""
        found = await (await self._client()).get(f"{self._path}/branches/{_name(branch)}")
        return bool(found.get("protection", {}).get("enabled"))

    async def protection(self, branch: str) -> tuple[Rule, ...]:
        """Classic protection as rules; raises NotFound or Forbidden for those who do not administer the repository."""
        # https://docs.github.com/en/rest/branches/branch-protection#get-branch-protection
        try:
            found = await (await self._client()).get(f"{self._path}/branches/{_name(branch)}/protection")
        except NotFound as error:
            if error.message == "Branch not protected":
                return ()
            raise
        return tuple(_classic(found))

    async def hooks(self) -> tuple[Hook, ...]:
        """The repository's webhooks, or the App's one; raises Refused for a token that may not see them."""
        if self.is_app:
            events = (await self.installation()).events
            config = await self._identity.itself.get("/app/hook/config")
            return (_hook(None, config, events, active=bool(config.get("url"))),)
        pages = (await self._client()).pages(f"{self._path}/hooks?per_page=100")
        return tuple([_hook(one["id"], one["config"], one["events"], active=one["active"]) async for one in pages])

    async def deliveries(self, hook: Hook, repository: int) -> tuple[Sent, ...]:
        """The newest deliveries that are about the repository, the newest first."""
        # https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/viewing-webhook-deliveries
        if hook.id is None:
            found = await self._identity.itself.get(f"/app/hook/deliveries?per_page={DELIVERIES}")
        else:
            found = await (await self._client()).get(f"{self._path}/hooks/{hook.id}/deliveries?per_page={DELIVERIES}")
        return tuple(_sent(one) for one in found if one.get("repository_id") in (repository, None))

    async def _client(self) -> Client:
        return await self._identity.client(self._owner, self._name)


def _name(branch: str) -> str:
    return quote(branch, safe="")  # its slashes are no part of the path


def _classic(found: Mapping[str, Any]) -> Iterable[Rule]:
    """The parts of classic protection, each as the rule of a ruleset that says the same."""
    source = "branch protection"
    reviews, checks = found.get("required_pull_request_reviews"), found.get("required_status_checks")
    if reviews is not None:
        same = {
            "required_approving_review_count": "required_approving_review_count",
            "require_code_owner_reviews": "require_code_owner_review",
            "require_last_push_approval": "require_last_push_approval",
        }
        parameters = {name: reviews[old] for old, name in same.items() if old in reviews}
        yield Rule(kind="pull_request", parameters=parameters, source=source)
    if checks is not None:
        parameters = {
            "required_status_checks": [{"context": name} for name in checks["contexts"]],
            "strict_required_status_checks_policy": checks.get("strict", False),
        }
        yield Rule(kind="required_status_checks", parameters=parameters, source=source)
    if found.get("restrictions"):
        yield Rule(kind="update", parameters={}, source=source)
    for field, kind in (
        ("required_signatures", "required_signatures"),
        ("required_linear_history", "required_linear_history"),
        ("lock_branch", "lock_branch"),
    ):
        if (found.get(field) or {}).get("enabled"):
            yield Rule(kind=kind, parameters={}, source=source)


def _hook(number: int | None, config: Mapping[str, Any], events: Iterable[str], *, active: bool) -> Hook:
    return Hook(
        id=number,
        url=config.get("url") or "",
        active=active,
        events=frozenset(events),
        sends_form=config.get("content_type") == "form",
        has_secret=bool(config.get("secret")),  # shown as stars
        checks_certificate=str(config.get("insecure_ssl", "0")) == "0",
    )


def _sent(one: Mapping[str, Any]) -> Sent:
    return Sent(
        at=datetime.fromisoformat(one["delivered_at"]),
        event=".".join(filter(None, (one["event"], one.get("action")))),
        good=one["status"] == "OK",
        status=one["status"],
        code=one["status_code"],
    )
