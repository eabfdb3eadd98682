"""Looks at one repository before it matters: what will not work there, how to mend it, and what cannot be seen.

What belongs here: the checks. Each looks at one thing and returns what it found, so that no trouble hides another.
Nothing is written anywhere; relay endpoints are sent the `ping` that GitHub sends to a new webhook.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import anyio

from telefonistka import relay, wire
from telefonistka.core import config, fanout, lint
from telefonistka.core.config import RepoConfig
from telefonistka.core.fanout import Change, Endpoint, Routes
from telefonistka.core.findings import Severity
from telefonistka.core.guards import Ceiling
from telefonistka.core.promotion import BRANCH_PREFIX, CONFIG_FILE
from telefonistka.core.trees import Unknown
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import Forbidden, NotFound, Refused
from telefonistka.github.auth import Identity
from telefonistka.github.inspection import Hook, Inspection, Installation, Repository, Rule, Sent
from telefonistka.github.manifest import APPROVER_PERMISSIONS
from telefonistka.github.repo import Repo

T = TypeVar("T")

SKEW = 30.0  # seconds; GitHub refuses an App's proof that is dated a minute ahead
PINGS = 16  # endpoints that are asked at once
SHOWN = 5  # findings of a kind

GRANTS = {"contents": "write", "metadata": "read", "pull_requests": "write", "statuses": "write"}
LOOKING = {"checks": "read"}  # without it, GitHub does not say where a pull request stands
LEVELS = ("", "read", "write", "admin")
# What waiting merges hear of, beside what promotes.
WAKES = ("check_suite", "pull_request_review", "status")
# Rules that a promotion's branch can meet before there is a pull request.
BARRIERS = {
    "creation": "nobody may create it",
    "update": "nobody may push to it",
    "branch_name_pattern": "a rule asks for another name",
    "commit_message_pattern": "a rule asks for another commit message",
    "commit_author_email_pattern": "a rule asks for other authors",
    "committer_email_pattern": "a rule asks for other committers",
    "required_status_checks": "checks are asked for before a push",
}


class Verdict(StrEnum):
    GOOD = "good"
    DOUBT = "look"  # it may be meant so
    BROKEN = "broken"  # something will not work
    UNSEEN = "not seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one look has found."""

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What is looked at, and what the operator has set."""

    identity: Identity
    approver: Identity | None
    owner: str
    name: str
    ceiling: Ceiling
    policy: wire.Policy
    webhook_secret: bytes | None = None

    @property
    def slug(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(slots=True)
class Known:
    """What earlier checks have learnt for later ones."""

    repository: Repository | None = None
    installation: Installation | None = None
    config: RepoConfig | None = None
    files: tuple[str, ...] = ()
    login: str = ""
    checks: list[Check] = field(default_factory=list)

    @property
    def merges(self) -> bool:
        flows = self.config.promotion_paths if self.config else ()
        return any(flow.conditions.auto_merge for flow in flows)

    @property
    def relays(self) -> bool:
        return bool(self.config and self.config.webhook_endpoint_regexs)


async def examine(patient: Patient) -> tuple[Check, ...]:
    """Every check that could be made, in an order in which what comes first explains what follows."""
    looking, known = Inspection(patient.identity, patient.owner, patient.name), Known()
    known.checks += await _identity(looking, known)
    if not is_well(known.checks):
        return tuple(known.checks)
    known.checks += await _repository(patient, looking, known)
    if known.repository is None:
        return tuple(known.checks)
    known.checks += await _configuration(patient, known)
    known.checks += await _rights(looking, known, known.repository)
    known.checks += await _rules(looking, known, known.repository)
    known.checks += await _webhooks(patient, looking, known, known.repository)
    known.checks += await _approver(patient, known)
    known.checks += await _endpoints(patient, known)
    return tuple(known.checks)


def is_well(checks: Collection[Check]) -> bool:
    """Whether nothing was found that will not work."""
    return all(check.verdict is not Verdict.BROKEN for check in checks)


async def _asked(subject: str, question: Callable[[], Awaitable[T]], *, advice: str = "") -> T | Check:
    """The answer, or a check that says why there is none."""
    try:
        return await question()
    except (Forbidden, NotFound) as refused:
        said = "GitHub does not show it to us" if refused.status == 404 else str(refused)
        return Check(subject=subject, verdict=Verdict.UNSEEN, text=said, advice=advice)
    except (Rejected, TryAgain) as error:
        return Check(subject=subject, verdict=Verdict.UNSEEN, text=str(error))


def _good(subject: str, text: str) -> Check:
    return Check(subject=subject, verdict=Verdict.GOOD, text=text)


def _doubt(subject: str, text: str, advice: str = "") -> Check:
    return Check(subject=subject, verdict=Verdict.DOUBT, text=text, advice=advice)


def _broken(subject: str, text: str, advice: str = "") -> Check:
    return Check(subject=subject, verdict=Verdict.BROKEN, text=text, advice=advice)


# Who we are, and when


async def _identity(looking: Inspection, known: Known) -> list[Check]:
    kind = "the App" if looking.is_app else "the token of"
    try:
        known.login = await looking.login()
        who = _good("identity", f"we are {kind} {known.login}")
    except TryAgain as error:
        return [_broken("identity", str(error), "Check GITHUB_HOST, the network, and a proxy.")]
    except Refused as refused:
        if refused.status == 403 and not looking.is_app:  # a token of GitHub Actions belongs to nobody
            who = Check(subject="identity", verdict=Verdict.UNSEEN, text="GitHub does not say whose token this is")
        else:
            advice = "Check GITHUB_APP_ID and the private key." if looking.is_app else "Make a new token."
            who = _broken("identity", str(refused), advice)
    return [who, clock(looking.ahead(), signs=looking.is_app)]


def clock(ahead: float | None, *, signs: bool) -> Check:
    """Whether our clock is good enough, for what an App signs above all."""
    if ahead is None:
        return Check(subject="clock", verdict=Verdict.UNSEEN, text="GitHub's answer has no date")
    text = f"ours is {abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} GitHub's"
    if abs(ahead) <= SKEW:
        return _good("clock", text)
    advice = "Let this machine follow a time server."
    return _broken("clock", f"{text}: what an App signs is refused", advice) if signs else _doubt("clock", text, advice)


async def _repository(patient: Patient, looking: Inspection, known: Known) -> list[Check]:
    subject = "repository"
    try:
        found = await looking.repository()
    except (Rejected, TryAgain) as error:
        return [_broken(subject, str(error), f"Check the name {patient.slug}, and whether we may read it.")]
    known.repository = found
    if found.archived:
        return [_broken(subject, f"{patient.slug} is archived: nothing can be opened there", "Unarchive it.")]
    if not patient.ceiling.serves(patient.slug):
        advice = "Add it to TELEFONISTKA_GITHUB_REPOSITORIES."
        return [_broken(subject, f"the daemon's settings leave {patient.slug} out", advice)]
    return [_good(subject, f"{patient.slug}, default branch {found.default_branch}")]


# Rights


async def _rights(looking: Inspection, known: Known, repository: Repository) -> list[Check]:
    if not looking.is_app:
        scopes = await _asked("rights", looking.scopes)
        return [scopes] if isinstance(scopes, Check) else list(of_token(scopes, repository))
    found = await _asked("rights", looking.installation, advice="Install the App on the repository.")
    if isinstance(found, Check):
        return [found]
    known.installation = found
    return list(granted(found, merges=known.merges))


def granted(found: Installation, *, merges: bool) -> Iterator[Check]:
    """What an App lacks, where promotions are merged by themselves or are not."""
    if found.suspended:
        yield _broken("rights", "the App's installation is suspended", f"Unsuspend it: {found.page}")
    wanted = GRANTS | LOOKING if merges else GRANTS
    advice = f"Grant it in the App's settings, then accept that where it is installed: {found.page}"
    if missing := _lacking(found, wanted):
        yield _broken("rights", f"the App lacks {missing}", advice)
    elif not found.suspended:
        yield _good("rights", _listed(wanted))
    if not merges and (missing := _lacking(found, LOOKING)):
        yield _doubt("rights", f"the App lacks {missing}: promotions that come into conflict stay so", advice)


def _lacking(found: Installation, wanted: Mapping[str, str]) -> str:
    has = {name: LEVELS.index(found.permissions.get(name, "")) for name in wanted}
    return _listed({name: level for name, level in wanted.items() if has[name] < LEVELS.index(level)})


def _listed(permissions: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {level}" for name, level in sorted(permissions.items()))


def of_token(scopes: frozenset[str] | None, repository: Repository) -> Iterator[Check]:
    """What a token lacks."""
    enough = {"repo"} if repository.private else {"repo", "public_repo"}
    if scopes is not None and not scopes & enough:
        yield _broken("rights", f"the token has not the scope {min(enough, key=len)}", "Make one that has it.")
    elif repository.may_push is False:
        yield _broken("rights", "the token's owner may not push", "Give that account write access.")
    elif scopes is None:
        text = "its owner may push; what the token itself may do, only a classic one tells"
        advice = f"It needs {_listed(GRANTS | LOOKING)}."
        yield Check(subject="rights", verdict=Verdict.UNSEEN, text=text, advice=advice)
    else:
        yield _good("rights", f"scopes {', '.join(sorted(scopes))}; its owner may push")


# Rules


async def _rules(looking: Inspection, known: Known, repository: Repository) -> list[Check]:
    branch = repository.default_branch
    found = await _asked("rules", lambda: looking.rules(branch))
    checks = [found] if isinstance(found, Check) else []
    rules = [] if isinstance(found, Check) else list(found)
    if await _asked("rules", lambda: looking.is_protected(branch)) is True:
        advice = "An administrator's token, or an App with administration: read, would see it."
        classic = await _asked("protection", lambda: looking.protection(branch), advice=advice)
        if isinstance(classic, Check):
            checks.append(classic)
        else:
            rules += classic
    promotions = await _asked("rules", lambda: looking.rules(f"{BRANCH_PREFIX}1-change-0"))
    if not isinstance(promotions, Check):
        checks += barriers(promotions)
    return [*checks, *judged(rules, known, repository, is_app=looking.is_app)]


def barriers(rules: Sequence[Rule]) -> Iterator[Check]:
    """What keeps us from making a promotion's branch."""
    for rule in rules:
        if rule.kind in BARRIERS:
            yield _doubt(
                "rules",
                f"a branch {BRANCH_PREFIX}… cannot be made unless we are exempt: {BARRIERS[rule.kind]} ({rule.source})",
                f"Leave {BRANCH_PREFIX}** out of that rule, or let our account bypass it.",
            )


def judged(rules: Sequence[Rule], known: Known, repository: Repository, *, is_app: bool) -> Iterator[Check]:
    """What the default branch's rules mean for promotions, and for merges by themselves."""
    branch, kinds = repository.default_branch, {rule.kind: rule for rule in rules}
    allowed = methods(rules, repository)
    if allowed is not None and not allowed:
        text = f"no method of merging is allowed on {branch} by both the repository and its rules"
        yield _broken("rules", text, "Allow one of them in the repository's settings.")
    for kind, what in (("update", "only some may push"), ("lock_branch", "it is locked")):
        if kind in kinds:
            advice = "Let our account bypass that, or let people merge."
            yield _doubt("rules", f"{branch}: {what}, so we may not merge ({kinds[kind].source})", advice)
    if "required_signatures" in kinds and not is_app:
        text = f"{branch} takes signed commits only, and GitHub signs those of Apps, not those of a token"
        yield _broken("rules", text, "Use a GitHub App, or drop the rule.")
    if known.merges:
        approves = known.config is not None and known.config.auto_approve_promotion_prs
        yield from _reviews(branch, rules, approves=approves)
    waits = {"required_status_checks", "workflows", "required_deployments", "code_scanning"} & kinds.keys()
    if known.merges and waits and repository.auto_merge is False:
        text = f"{branch} wants checks, and GitHub's auto-merge is off: we wait for events, which may be missed"
        yield _doubt("rules", text, "Allow auto-merge in the repository's settings.")
    names = sorted(kinds)
    yield _good("rules", f"of {branch}: {', '.join(names)}" if names else f"none are shown for {branch}")


def _reviews(branch: str, rules: Sequence[Rule], *, approves: bool) -> Iterator[Check]:
    """Whose reviews a promotion waits for that is merged by itself."""
    reviews = max((rule.parameters.get("required_approving_review_count", 0) for rule in rules), default=0)
    advice = "Set autoApprovePromotionPrs and a second identity, if they are not to."
    if reviews > int(approves):
        text = f"{branch} wants {reviews} approving review{'s' * (reviews > 1)}: promotions wait for people"
        yield _doubt("rules", text, advice)
    elif not approves and any(rule.parameters.get("require_last_push_approval") for rule in rules):
        text = f"{branch} wants every last push approved by somebody else: promotions wait for people"
        yield _doubt("rules", text, advice)
    if any(rule.parameters.get("require_code_owner_review") for rule in rules):
        text = f"{branch} wants reviews by code owners: promotions of files that have some wait for these"
        advice = "Leave the targets out of CODEOWNERS, or name the second identity there; an App cannot be an owner."
        yield _doubt("rules", text, advice)


def methods(rules: Sequence[Rule], repository: Repository) -> frozenset[str] | None:
    """How one may merge; None: that is not shown."""
    if repository.methods is None:
        return None
    allowed = set(repository.methods)
    for rule in rules:
        match rule.kind:
            case "pull_request" if rule.parameters.get("allowed_merge_methods"):
                allowed &= set(rule.parameters["allowed_merge_methods"])
            case "required_linear_history":
                allowed -= {"merge"}
    return frozenset(allowed)


# Configuration


async def _configuration(patient: Patient, known: Known) -> list[Check]:
    client = await patient.identity.client(patient.owner, patient.name)
    repo = Repo(client, patient.owner, patient.name)
    read = await _asked("configuration", lambda: _read(repo))
    if isinstance(read, Check):
        return [read]
    root, components, known.files = read
    if root is None:
        advice = "`telefonistka check` says whether one is sound before it is merged."
        return [_doubt("configuration", f"there is no {CONFIG_FILE} on the default branch: nothing happens", advice)]
    parsed = await anyio.to_thread.run_sync(lambda: config.repository(root))
    known.config = parsed.value
    if parsed.value is None:
        faults = [str(finding) for finding in parsed.findings if finding.severity is Severity.ERROR]
        return [_broken("configuration", fault) for fault in faults[:SHOWN]]
    findings = await anyio.to_thread.run_sync(lambda: lint.check(root, components, known.files))
    return [*_settled(parsed.value), *_findings([str(finding) for finding in findings])]


def _findings(texts: Sequence[str]) -> Iterator[Check]:
    for text in texts[:SHOWN]:
        yield _doubt("configuration", text)
    if len(texts) > SHOWN:
        yield _doubt("configuration", f"and {len(texts) - SHOWN} more", "`telefonistka check` in a clone lists them.")


def _settled(value: RepoConfig) -> Iterator[Check]:
    flows, rules = len(value.promotion_paths), len(value.webhook_endpoint_regexs)
    yield _good("configuration", f"{CONFIG_FILE}: {flows} flows, {rules} relay rules")
    if value.dry_run_mode:
        yield _doubt("configuration", "dryRunMode is on: plans are commented, nothing is opened")


async def _read(repo: Repo) -> tuple[bytes | None, dict[str, bytes], tuple[str, ...]]:
    """The root's file, the components' by path, and the path of every file."""
    head = (await repo.default_branch()).head
    root = (await repo.read(head.sha, [CONFIG_FILE]))[CONFIG_FILE]
    try:
        files = dict((await repo.snapshot(head.tree)).files())
    except Unknown:  # too many to be listed: then the root's file must do
        return root, {}, ()
    own = {path: entry.oid for path, entry in files.items() if path.endswith(f"/{CONFIG_FILE}")}
    texts = await repo.blobs(own.values()) if own else {}
    return root, {path: texts[oid] for path, oid in own.items()}, tuple(files)


# Webhooks


async def _webhooks(patient: Patient, looking: Inspection, known: Known, repository: Repository) -> list[Check]:
    advice = "The scope read:repo_hook, or an administrator, would see it."
    hooks = await _asked("webhook", looking.hooks, advice=advice)
    if isinstance(hooks, Check):
        return [hooks]
    ours = [hook for hook in hooks if hook.active and hook.leads_to_us]
    if not ours:
        return [_no_hook(hooks, looking.is_app)]
    checks = [check for hook in ours for check in _hook(hook, known)]
    if len(ours) > 1:
        checks.append(_doubt("webhook", f"{len(ours)} of them lead to a /webhook", "One is enough."))
    for hook in ours:
        sent = await _asked("deliveries", lambda hook=hook: looking.deliveries(hook, repository.id))  # type: ignore[misc]
        checks += [sent] if isinstance(sent, Check) else deliveries(sent)
    return checks


def _no_hook(hooks: Sequence[Hook], is_app: bool) -> Check:
    if is_app:
        text = "the App has none that leads to a /webhook; one of the repository itself is not shown to us"
        return _doubt("webhook", text, "Set its webhook URL to https://<your host>/webhook, with a secret.")
    others = ", ".join(hook.url for hook in hooks) or "there is none"
    advice = "Add one for https://<your host>/webhook, content type JSON, with a secret."
    return _broken("webhook", f"no active one leads to a /webhook ({others})", advice)


def _hook(hook: Hook, known: Known) -> Iterator[Check]:
    rules = known.config.webhook_endpoint_regexs if known.config is not None else ()
    relayed = {event for rule in rules for event in rule.events}
    wanted = {"issue_comment", "pull_request", "push", *relayed, *(WAKES if known.merges else ())}
    missing = sorted(wanted - hook.events) if "*" not in hook.events else []
    if "pull_request" in missing or relayed & set(missing):
        yield _broken("webhook", f"{hook.url} is not told of {', '.join(missing)}", "Subscribe it to these events.")
    elif missing:
        effects = ["commands in comments are not heard"] if "issue_comment" in missing else []
        effects += ["merges that wait go on later"] if set(WAKES) & set(missing) else []
        effects += ["promotions that come into conflict stay so"] if "push" in missing else []
        text = f"{hook.url} is not told of {', '.join(missing)}: {', '.join(effects)}"
        yield _doubt("webhook", text, "Subscribe it to these events.")
    if not hook.has_secret:
        yield _broken("webhook", f"{hook.url} has no secret: every delivery is refused", "Set the daemon's.")
    if hook.sends_form:
        text = f"{hook.url} is sent forms: they are relayed as JSON, without GitHub's signature"
        yield _doubt("webhook", text, "Set its content type to application/json.")
    if not hook.checks_certificate:
        yield _doubt("webhook", f"{hook.url}: GitHub does not check its certificate", "Turn SSL verification on.")
    if hook.has_secret and not missing:
        yield _good("webhook", f"{hook.url}, told of {', '.join(sorted(hook.events))}")


def deliveries(sent: Sequence[Sent]) -> Iterator[Check]:
    """How GitHub fared with sending."""
    subject = "deliveries"
    if not sent:
        yield _doubt(subject, "GitHub's log has none for this repository", "Merge something, or have a ping sent.")
        return
    newest, failed = sent[0], [one for one in sent if not one.good]
    when = newest.at.isoformat(timespec="minutes")
    if not newest.good:
        yield _broken(subject, f"the newest ({newest.event}, {when}) failed: {newest.status}", _cure(newest.code))
    elif failed:
        text = f"{len(failed)} of the newest {len(sent)} failed, the last one {failed[0].at:%Y-%m-%d %H:%M}"
        yield _doubt(subject, f"{text}: {failed[0].status}", "GitHub can send them again for three days.")
    else:
        yield _good(subject, f"the newest {len(sent)} arrived, the last one {when}")


def _cure(code: int) -> str:
    match code:
        case 401:
            return "The secret there and GITHUB_WEBHOOK_SECRET differ."
        case 404 | 405:
            return "The URL must end in /webhook, and reach the daemon."
        case 413:
            return "What ends TLS in front of the daemon must take bodies of 26 MB."
        case 503:
            return "The daemon cannot store; its /ready says why."
        case _:
            return "Check that the daemon runs, and that GitHub reaches it."


# The second identity


async def _approver(patient: Patient, known: Known) -> list[Check]:
    subject = "approver"
    wanted = known.config is not None and known.config.auto_approve_promotion_prs
    if patient.approver is None:
        advice = "Set APPROVER_GITHUB_APP_ID and its key, or APPROVER_GITHUB_OAUTH_TOKEN."
        text = "autoApprovePromotionPrs is on, and there is no second identity"
        return [_broken(subject, text, advice)] if wanted else []
    looking = Inspection(patient.approver, patient.owner, patient.name)
    login = await _asked(subject, looking.login)
    if login == known.login and isinstance(login, str):
        text = f"it is {login}, who opens the promotions, too: nobody approves their own"
        return [_broken(subject, text, "Use another account or App.")] if wanted else []
    repository = await _asked(subject, looking.repository, advice="It must reach the repository.")
    if isinstance(repository, Check):
        return [_broken(subject, repository.text, repository.advice)] if wanted else [repository]
    if looking.is_app:
        found = await _asked(subject, looking.installation)
        if not isinstance(found, Check) and (missing := _lacking(found, APPROVER_PERMISSIONS)):
            text = f"{login} lacks {missing}, so its reviews do not count"
            return [_broken(subject, text, f"Grant it: {found.page}")]
    elif repository.may_push is False:
        return [_broken(subject, f"{login} may not push, so its reviews do not count", "Give it write access.")]
    return [login if isinstance(login, Check) else _good(subject, f"{login} may approve")]


# The relay


async def _endpoints(patient: Patient, known: Known) -> list[Check]:
    if known.config is None or not known.relays:
        return []
    assert known.repository is not None
    branch = known.repository.default_branch
    routes = Routes(known.config, allowed_hosts=patient.policy.allowed_hosts)
    routing = routes.endpoints(Change(event="push", branch=branch, default_branch=branch, files=known.files))
    checks = [
        _doubt("relay", f"{CONFIG_FILE}:{one.line}: {one.template}: {one.reason}") for one in routing.refused[:SHOWN]
    ]
    if not routing.endpoints:
        return [*checks, _doubt("relay", "no file on the default branch leads to an endpoint")]
    letter = _ping(patient)
    found: dict[Endpoint, Check] = {}
    limit = anyio.CapacityLimiter(PINGS)
    sender = wire.Wire(patient.policy)

    async def ask(endpoint: Endpoint) -> None:
        async with limit:
            found[endpoint] = _answered(endpoint, await sender.send(endpoint, letter), signed=_signs(patient, endpoint))

    try:
        async with anyio.create_task_group() as tasks:
            for endpoint in routing.endpoints:
                tasks.start_soon(ask, endpoint)
    finally:
        await sender.close()
    return [*checks, *(found[endpoint] for endpoint in routing.endpoints)]


def _ping(patient: Patient) -> wire.Letter:
    """What GitHub sends to a new webhook, signed as a push would be."""
    # https://docs.github.com/en/webhooks/webhook-events-and-payloads#ping
    payload: dict[str, Any] = {"zen": "Keep it logically awesome.", "hook_id": 0}
    payload["repository"] = {"name": patient.name, "full_name": patient.slug, "owner": {"login": patient.owner}}
    body = json.dumps(payload).encode()
    headers = [("Content-Type", "application/json"), ("User-Agent", "telefonistka"), ("X-GitHub-Event", "ping")]
    if patient.webhook_secret is not None:
        name, _, value = wire.signature(patient.webhook_secret, body).decode().strip().partition(": ")
        headers.append((name, value))
    return wire.letter(headers, body)


def _signs(patient: Patient, endpoint: Endpoint) -> bool:
    return patient.webhook_secret is not None or patient.policy.secret(endpoint) is not None


def _answered(endpoint: fanout.Endpoint, answer: wire.Answer, *, signed: bool) -> Check:
    subject = f"relay {endpoint.name}"
    verdict = relay.verdict(answer, now=0)
    if verdict.ending is relay.Ending.DELIVERED:
        return _good(subject, f"{endpoint.target} answers {answer.status} to a ping")
    if answer.status == 400 and not signed:
        advice = "Set GITHUB_WEBHOOK_SECRET here as the daemon has it, and ask again."
        return Check(subject=subject, verdict=Verdict.UNSEEN, text=verdict.reason, advice=advice)
    return _broken(subject, f"{endpoint.target}: {verdict.reason}", "A push would not arrive there.")
