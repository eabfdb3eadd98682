"""`telefonistka doctor` from a shell, against the sandbox: what will not work, and what it may not see."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from anyio import to_thread

from telefonistka import doctor
from telefonistka.core.config import RepoConfig
from telefonistka.doctor import Check, Known, Verdict
from telefonistka.github.inspection import Installation, Repository, Rule, Sent
from telefonistka.github.manifest import PERMISSIONS
from telefonistka.sandbox import scenes, server
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.rules import Rules, Ruleset
from telefonistka.sandbox.state import Delivery, Hook
from telefonistka.sandbox.state import Repo as SandboxRepo
from tests.cli.shell import Run, telefonistka
from tests.contract.recorder import Recorder

SOUND = """\
promotionPaths:
  - sourcePath: lab/
    promotionPrs: [{targetPaths: [staging/]}]
"""
MERGING = f"{SOUND}    conditions: {{autoMerge: true}}\n"
RELAY = """\
webhookEndpointRegexs:
  - expression: ^lab/.*
    replacements: ["%s/api/webhook"]
"""
SECRET = "it's a secret"


@dataclass
class Practice:
    """A repository in the sandbox, and who looks at it."""

    box: Box
    repo: SandboxRepo
    directory: Path

    async def look(self, *arguments: str, repo: str = "acme/iac", token: str = "", **variables: str) -> Run:
        environment = {"GITHUB_HOST": self.box.url, "GITHUB_OAUTH_TOKEN": token, **variables}
        run = partial(telefonistka, "doctor", "--repo", repo, *arguments, env=environment)
        return await to_thread.run_sync(run)

    async def checks(self, **given: Any) -> dict[str, list[tuple[str, str]]]:
        """The checks by subject: verdict and text. No call may write."""
        before = len(self.box.calls)
        done = await self.look("--json", **given)
        assert "Traceback" not in done.stderr, done.stderr
        writing = {"POST", "PUT", "PATCH", "DELETE"}
        calls = [f"{call.method} {call.path}" for call in self.box.calls[before:] if call.method in writing]
        assert [call for call in calls if not call.endswith(("/graphql", "/access_tokens"))] == []
        found: dict[str, list[tuple[str, str]]] = {}
        for check in json.loads(done.stdout):
            found.setdefault(check["subject"], []).append((check["verdict"], check["text"]))
        broken = any(verdict == "broken" for each in found.values() for verdict, _ in each)
        assert done.returncode == int(broken), done.stdout
        return found

    def app(self, **given: Any) -> dict[str, str]:
        """The variables of a new App."""
        made = self.box.new_app("telefonistka", owner="acme", **given)
        key = self.directory / "app.pem"
        key.write_text(made.private_key)
        return {"GITHUB_APP_ID": str(made.app.id), "GITHUB_APP_PRIVATE_KEY_PATH": str(key)}

    def hook(self, **given: Any) -> Hook:
        url = "https://bot.example.com/webhook"
        settings = {"url": url, "secret": "x", "events": ["issue_comment", "pull_request", "push"], **given}
        hook = Hook(id=self.box.next_id(), repo=self.repo, app=None, **settings)
        self.repo.hooks[hook.id] = hook
        return hook

    def sent(self, hook: Hook, status: str, code: int) -> None:
        number = self.box.next_id()
        self.box.deliveries[number] = Delivery(
            id=number,
            guid=f"{number}",
            hook=hook,
            event="pull_request",
            action="closed",
            repository_id=self.repo.id,
            installation_id=None,
            request_headers={},
            request_body=b"{}",
            status=status,
            status_code=code,
        )

    async def configure(self, text: str) -> None:
        await scenes.commit(self.box, self.repo, {"telefonistka.yaml": text}, by=self.box.users["ada"])


@pytest.fixture
async def practice(tmp_path: Path) -> AsyncIterator[Practice]:
    recorder = Recorder()
    async with server.running(tmp_path / "github", middlewares=[recorder.watch]) as box:
        box.person("ada", access="admin")
        files = {"telefonistka.yaml": SOUND, "lab/nginx/v": "1", "lab/nginx/telefonistka.yaml": "{}\n"}
        yield Practice(box, scenes.repository(box, "acme", "iac", files), tmp_path)
        assert recorder.faults == []


# A repository where all is well


async def test_a_sound_repository_is_well(practice: Practice) -> None:
    """Seen by an App: the whole text, and exit code 0."""
    app = practice.app(webhook="https://bot.example.com/webhook", secret="x", permissions=PERMISSIONS)
    hook = next(iter(practice.box.apps.values())).hook
    assert hook is not None
    practice.sent(hook, "OK", 202)
    done = await practice.look(**app)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "good      identity: we are the App telefonistka[bot]"
    assert lines[2:6] == [
        "good      repository: acme/iac, default branch main",
        "good      configuration: telefonistka.yaml: 1 flows, 0 relay rules",
        "good      rights: contents: write, metadata: read, pull_requests: write, statuses: write",
        "good      rules: none are shown for main",
    ]
    assert lines[6].startswith(
        "good      webhook: https://bot.example.com/webhook, told of issue_comment, pull_request"
    )
    assert lines[7].startswith("good      deliveries: the newest 1 arrived")
    assert lines[8:] == ["8 good"]


async def test_an_administrators_token_sees_the_repositorys_webhook(practice: Practice) -> None:
    """And what it may do itself, GitHub tells of classic tokens only."""
    practice.sent(practice.hook(), "OK", 202)
    found = await practice.checks(token=practice.box.person("ada", access="admin").value)
    assert found["webhook"] == [("good", "https://bot.example.com/webhook, told of issue_comment, pull_request, push")]
    assert found["rights"][0][0] == "not seen"


# What will not work


async def test_what_is_hidden_is_said(practice: Practice) -> None:
    """A token that may push and no more does not see webhooks."""
    found = await practice.checks(token=practice.box.bot("the-bot").value)
    assert found["webhook"] == [("not seen", "GitHub does not show it to us")]


async def test_a_wrong_token_ends_it(practice: Practice) -> None:
    """Nothing else would be true."""
    found = await practice.checks(token="ghp_wrong")
    assert list(found) == ["identity", "clock"]
    assert found["identity"][0][0] == "broken"


async def test_a_github_that_is_down_ends_it(practice: Practice) -> None:
    found = await practice.checks(token="x", GITHUB_HOST="http://127.0.0.1:1")
    assert [(verdict, "cannot be reached" in text) for verdict, text in found["identity"]] == [("broken", True)]


async def test_a_repository_that_is_not_there_is_said(practice: Practice) -> None:
    """Or is archived, or left out by the operator."""
    token = practice.box.bot("the-bot").value
    assert (await practice.checks(token=token, repo="acme/nope"))["repository"][0][0] == "broken"
    left_out = await practice.checks(token=token, TELEFONISTKA_GITHUB_REPOSITORIES="acme/other")
    assert left_out["repository"] == [("broken", "the daemon's settings leave acme/iac out")]
    practice.repo.archived = True
    assert "is archived" in (await practice.checks(token=token))["repository"][0][1]


async def test_an_app_without_enough_rights_is_told_which(practice: Practice) -> None:
    """And one that is not installed there, where to install it."""
    few = practice.app(permissions={"contents": "read", "pull_requests": "write"})
    assert (await practice.checks(**few))["rights"] == [
        ("broken", "the App lacks contents: write, statuses: write"),
        ("look", "the App lacks checks: read: promotions that come into conflict stay so"),
    ]


async def test_an_app_that_may_not_see_checks_cannot_merge_by_itself(practice: Practice) -> None:
    """GitHub refuses the whole question where one stands; other promotions ask it after conflicts alone."""
    app = practice.app(permissions=doctor.GRANTS)
    found = await practice.checks(**app)
    assert [verdict for verdict, _ in found["rights"]] == ["good", "look"]
    await practice.configure(MERGING)
    found = await practice.checks(**app)
    assert found["rights"] == [("broken", "the App lacks checks: read")]


async def test_someone_who_may_not_push_is_told(practice: Practice) -> None:
    found = await practice.checks(token=practice.box.bot("reader", access="read").value)
    assert found["rights"] == [("broken", "the token's owner may not push")]


@pytest.mark.parametrize(
    ("text", "verdict", "says"),
    [
        ("promotionPaths: 7\n", "broken", "telefonistka.yaml:1:17: error:"),
        (f"{SOUND}promotionPath: 1\n", "look", "unknown key 'promotionPath'"),
        (f"dryRunMode: true\n{SOUND}", "look", "dryRunMode is on"),
    ],
)
async def test_a_configuration_is_checked(practice: Practice, text: str, verdict: str, says: str) -> None:
    """As `check` does, on the default branch."""
    await practice.configure(text)
    found = await practice.checks(token=practice.box.bot("the-bot").value)
    assert [(one, says in said) for one, said in found["configuration"] if one != "good"] == [(verdict, True)]


async def test_a_webhook_that_leads_nowhere_is_said(practice: Practice) -> None:
    """None, one without a secret, one that is told too little or in forms, one whose deliveries fail."""
    token = practice.box.person("ada", access="admin").value
    assert (await practice.checks(token=token))["webhook"][0][0] == "broken"
    hook = practice.hook(secret="", events=["push"], insecure_ssl=True, content_type="form")
    assert (await practice.checks(token=token))["webhook"] == [
        ("broken", "https://bot.example.com/webhook is not told of issue_comment, pull_request"),
        ("broken", "https://bot.example.com/webhook has no secret: every delivery is refused"),
        (
            "look",
            "https://bot.example.com/webhook is sent forms: they are relayed as JSON, without GitHub's signature",
        ),
        ("look", "https://bot.example.com/webhook: GitHub does not check its certificate"),
    ]
    hook.events = ["issue_comment", "pull_request"]
    (text,) = [said for verdict, said in (await practice.checks(token=token))["webhook"] if verdict == "look"][:1]
    assert text.endswith("is not told of push: promotions that come into conflict stay so")
    practice.sent(hook, "Invalid HTTP Response: 401", 401)
    ((verdict, text),) = (await practice.checks(token=token))["deliveries"]
    assert (verdict, text.endswith("failed: Invalid HTTP Response: 401")) == ("broken", True)


async def test_a_webhook_of_argo_cd_is_none_of_ours(practice: Practice) -> None:
    """Its path ends alike: it is not judged, counted or said to be one too many."""
    practice.hook(url="https://argocd.example.com/api/webhook", events=["push"], secret="")
    practice.sent(practice.hook(), "OK", 202)
    found = await practice.checks(token=practice.box.person("ada", access="admin").value)
    assert found["webhook"] == [("good", "https://bot.example.com/webhook, told of issue_comment, pull_request, push")]
    assert [verdict for verdict, _ in found["deliveries"]] == ["good"]


async def test_protection_is_seen_by_administrators(practice: Practice) -> None:
    """For others there is more than is shown; rulesets are shown to everybody."""
    practice.repo.protection["main"] = Rules(checks=("ci",), approvals=1)
    practice.repo.rulesets[1] = Ruleset(id=1, rules=Rules(methods=("squash",)))
    mine = await practice.checks(token=practice.box.person("ada", access="admin").value)
    assert mine["rules"] == [("good", "of main: pull_request, required_status_checks")]
    theirs = await practice.checks(token=practice.box.bot("the-bot").value)
    assert theirs["protection"] == [("not seen", "GitHub does not show it to us")]
    practice.repo.merge_methods = {"rebase"}
    none_left = await practice.checks(token=practice.box.person("ada", access="admin").value)
    assert ("broken", "no method of merging is allowed on main by both the repository and its rules") in none_left[
        "rules"
    ]


async def test_whose_reviews_a_merge_waits_for_is_said(practice: Practice) -> None:
    """Those of code owners, and of somebody else than who pushed last; the second identity can be only the latter."""
    practice.repo.protection["main"] = Rules(code_owners=True, last_push=True)
    token = practice.box.person("ada", access="admin").value

    async def doubts(config: str) -> list[str]:
        await practice.configure(config)
        return [text for verdict, text in (await practice.checks(token=token))["rules"] if verdict == "look"]

    owners = "main wants reviews by code owners: promotions of files that have some wait for these"
    pushed = "main wants every last push approved by somebody else: promotions wait for people"
    assert await doubts(SOUND) == []
    assert await doubts(MERGING) == [pushed, owners]
    assert await doubts(f"autoApprovePromotionPrs: true\n{MERGING}") == [owners]


# The second identity


async def test_the_approver_is_somebody_else_who_may(practice: Practice) -> None:
    """Where approvals are asked for."""
    await practice.configure(f"autoApprovePromotionPrs: true\n{SOUND}")
    bot, reader = practice.box.bot("the-bot").value, practice.box.bot("reader", access="read").value
    other = practice.box.bot("other").value

    async def approver(token: str) -> list[tuple[str, str]]:
        return (await practice.checks(token=bot, APPROVER_GITHUB_OAUTH_TOKEN=token))["approver"]

    assert await approver("") == [("broken", "autoApprovePromotionPrs is on, and there is no second identity")]
    assert await approver(bot) == [
        ("broken", "it is the-bot, who opens the promotions, too: nobody approves their own")
    ]
    assert await approver(reader) == [("broken", "reader may not push, so its reviews do not count")]
    assert await approver(other) == [("good", "other may approve")]


async def test_an_app_that_may_not_push_is_no_approver(practice: Practice) -> None:
    """GitHub takes its review, and does not count it."""
    await practice.configure(f"autoApprovePromotionPrs: true\n{SOUND}")
    token, app = practice.box.bot("the-bot").value, practice.app(permissions={"pull_requests": "write"})
    found = await practice.checks(token=token, **{f"APPROVER_{name}": value for name, value in app.items()})
    text = "telefonistka[bot] lacks contents: write, so its reviews do not count"
    assert found["approver"] == [("broken", text)]


# The relay


@dataclass
class ArgoCD:
    """A receiver that wants a signature, as Argo CD does once it has a secret."""

    url: str = ""
    status: int = 200

    async def hear(self, request: web.Request) -> web.Response:
        assert request.headers["X-GitHub-Event"] == "ping"
        if "X-Hub-Signature-256" not in request.headers:
            return web.Response(status=400, text="Webhook processing failed: missing X-Hub-Signature Header")
        return web.Response(status=self.status)


@pytest.fixture
async def argocd() -> AsyncIterator[ArgoCD]:
    made = ArgoCD()
    app = web.Application()
    app.router.add_post("/api/webhook", made.hear)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_every_endpoint_is_sent_a_ping(practice: Practice, argocd: ArgoCD) -> None:
    """Signed where we know the secret; without it, a refusal says nothing."""
    await practice.configure(SOUND + RELAY % argocd.url)
    subject, token = f"relay {argocd.url}", practice.box.bot("the-bot").value

    async def relay(**given: str) -> tuple[str, str]:
        (check,) = (await practice.checks(token=token, **given))[subject]
        return check

    local = {"TELEFONISTKA_RELAY_ALLOWED_NETWORKS": "127.0.0.0/8"}
    assert (await relay())[0] == "broken"
    assert (await relay(**local))[0] == "not seen"
    assert await relay(GITHUB_WEBHOOK_SECRET=SECRET, **local) == ("good", "/api/webhook answers 200 to a ping")
    argocd.status = 404
    verdict, text = await relay(GITHUB_WEBHOOK_SECRET=SECRET, **local)
    assert (verdict, "Argo CD does at /api/webhook" in text) == ("broken", True)


async def test_an_endpoint_that_has_no_name_is_said(practice: Practice) -> None:
    await practice.configure(SOUND + RELAY % "https://nowhere.invalid")
    found = await practice.checks(token=practice.box.bot("the-bot").value)
    ((verdict, text),) = found["relay https://nowhere.invalid"]
    assert (verdict, "the name does not resolve" in text) == ("broken", True)


# The judgements alone


def repository(**settings: Any) -> Repository:
    plain: dict[str, Any] = {"may_push": True, "may_administer": False, "methods": ("merge",), "auto_merge": False}
    fixed = {"id": 1, "default_branch": "main", "private": True, "archived": False}
    return Repository(**{**fixed, **plain, **settings})


def verdicts(checks: Collection[Check]) -> list[Verdict]:
    return [check.verdict for check in checks]


@pytest.mark.parametrize(
    ("ahead", "signs", "verdict"),
    [
        (1.0, True, "good"),
        (-29.0, True, "good"),
        (61.0, True, "broken"),
        (-300.0, False, "look"),
        (None, True, "not seen"),
    ],
)
def test_a_clock_that_is_wrong_is_told(ahead: float | None, signs: bool, verdict: str) -> None:
    """GitHub refuses what an App dates wrongly; a token has no date."""
    assert doctor.clock(ahead, signs=signs).verdict == verdict


@pytest.mark.parametrize(
    ("kind", "parameters", "is_app", "verdict"),
    [
        ("required_signatures", {}, False, Verdict.BROKEN),
        ("required_signatures", {}, True, Verdict.GOOD),
        ("required_linear_history", {}, True, Verdict.BROKEN),
        ("pull_request", {"allowed_merge_methods": ["squash"]}, True, Verdict.BROKEN),
        ("pull_request", {"required_approving_review_count": 1}, True, Verdict.DOUBT),
        ("required_status_checks", {}, True, Verdict.DOUBT),
        ("update", {}, True, Verdict.DOUBT),
        ("lock_branch", {}, True, Verdict.DOUBT),
        ("deletion", {}, True, Verdict.GOOD),
    ],
)
def test_rules_are_judged_by_what_they_mean_for_us(
    kind: str, parameters: dict[str, Any], is_app: bool, verdict: Verdict
) -> None:
    """Where promotions are merged by themselves, plainly."""
    flow = {"sourcePath": "lab/", "conditions": {"autoMerge": True}}
    known = Known(config=RepoConfig.model_validate({"promotionPaths": [flow]}))
    rule = Rule(kind=kind, parameters=parameters, source="a ruleset 1")
    assert verdicts(list(doctor.judged([rule], known, repository(), is_app=is_app)))[0] is verdict


def test_a_rule_that_keeps_promotions_from_having_a_branch_is_told() -> None:
    rule = Rule(kind="creation", parameters={}, source="a ruleset 1")
    (check,) = doctor.barriers([rule])
    assert check.text == "a branch promotions/… cannot be made unless we are exempt: nobody may create it (a ruleset 1)"


def test_deliveries_that_failed_once_are_a_doubt() -> None:
    """None at all is one, too."""
    at = datetime(2025, 1, 1, tzinfo=UTC)
    good = Sent(at=at, event="push", good=True, status="OK", code=202)
    bad = Sent(at=at, event="push", good=False, status="timed out", code=504)
    assert verdicts(list(doctor.deliveries([good, bad]))) == [Verdict.DOUBT]
    assert verdicts(list(doctor.deliveries([]))) == [Verdict.DOUBT]
    assert verdicts(list(doctor.deliveries([bad, good]))) == [Verdict.BROKEN]


def test_an_installation_that_sleeps_is_told() -> None:
    asleep = Installation(
        permissions=doctor.GRANTS | doctor.LOOKING, events=frozenset(), suspended=True, page="https://github.com/x"
    )
    assert verdicts(list(doctor.granted(asleep, merges=True))) == [Verdict.BROKEN]


def test_a_classic_token_tells_its_scopes() -> None:
    assert verdicts(list(doctor.of_token(frozenset({"repo"}), repository()))) == [Verdict.GOOD]
    assert verdicts(list(doctor.of_token(frozenset({"public_repo"}), repository()))) == [Verdict.BROKEN]
    assert verdicts(list(doctor.of_token(frozenset({"public_repo"}), repository(private=False)))) == [Verdict.GOOD]
