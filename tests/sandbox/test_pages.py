"""The sandbox's pages for people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telefonistka.sandbox import scenes, server
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.state import Hook, Pull

NASTY = "<script>alert(1)</script>"


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    """acme/iac with one open pull request whose every text is hostile."""
    async with server.running(tmp_path) as box:
        ada = box.person("ada", access="admin")
        files: dict[str, Any] = {"lab/app.yaml": "image: 1\n", "run": {"symlink": "lab"}}
        files[f"{NASTY.replace('/', '')}/x&y.txt"] = NASTY
        repo = scenes.repository(box, "acme", "iac", files)
        change = {"lab/app.yaml": f"image: 2 {NASTY}\n"}
        await scenes.commit(box, repo, change, by=ada.user, branch="feature/one", message=NASTY)
        body = {"title": NASTY, "head": "feature/one", "base": "main", "body": f"Hello.\n<!-- {NASTY} -->"}
        token = {"Authorization": f"token {ada.value}"}
        pulls = f"{box.url}/repos/acme/iac/pulls"
        async with aiohttp.ClientSession(headers=token) as session, session.post(pulls, json=body) as answer:
            assert answer.status == 201
        yield box


@pytest.fixture
async def browser(box: Box) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(box.url, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


def the_pull(box: Box) -> Pull:
    repo = box.repo("acme", "iac")
    assert repo is not None
    return repo.pulls[1]


async def text(browser: aiohttp.ClientSession, path: str) -> str:
    async with browser.get(path) as answer:
        assert answer.status == 200, path
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        return await answer.text()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/acme/iac",
        "/acme/iac/pull/1",
        "/acme/iac/tree/main",
        "/acme/iac/tree/feature/one/lab",
        "/acme/iac/blob/feature/one/lab/app.yaml",
        "/acme/iac/blob/main/%3Cscript%3Ealert(1)%3Cscript%3E/x&y.txt",
        "/acme/iac/blob/main/run",
        "/_sandbox",
    ],
)
async def test_every_page_shows_what_people_wrote_as_text(browser: aiohttp.ClientSession, path: str) -> None:
    """Titles, bodies, paths, commits and files are data."""
    assert "<script" not in await text(browser, path)


async def test_the_pages_lead_from_a_repository_to_a_change(browser: aiohttp.ClientSession) -> None:
    """Repository, branch, pull request, diff."""
    assert 'href="/acme/iac"' in await text(browser, "/")
    assert 'href="/acme/iac/pull/1"' in await text(browser, "/acme/iac")
    shown = await text(browser, "/acme/iac/pull/1")
    assert "lab/app.yaml" in shown
    assert "+image: 2" in shown


@pytest.mark.parametrize("path", ["/acme/none", "/acme/iac/pull/9", "/acme/iac/blob/main/none", "/acme/iac/tree/none"])
async def test_what_is_not_there_is_a_404(browser: aiohttp.ClientSession, path: str) -> None:
    """No page is made up."""
    async with browser.get(path) as answer:
        assert answer.status == 404


async def test_buttons_act_as_a_person(box: Box, browser: aiohttp.ClientSession) -> None:
    """A comment, a close, a reopening and a merge, each by the API as everybody's."""
    for act in ("comment", "close", "reopen", "merge"):
        async with browser.post(f"/acme/iac/pull/1/{act}", data={"body": "Fine."}) as answer:
            assert (answer.status, answer.url.path) == (200, "/acme/iac/pull/1")
    pull = the_pull(box)
    assert pull.merged
    assert [(comment.user.login, comment.body) for comment in pull.comments.values()] == [("ada", "Fine.")]


async def test_a_branch_becomes_a_pull_request(box: Box, browser: aiohttp.ClientSession) -> None:
    """As somebody does who pushed: by one button, under the last commit's subject."""
    repo = box.repo("acme", "iac")
    assert repo is not None
    await scenes.commit(box, repo, {"lab/new.yaml": "1"}, by=repo.owner, branch="another", message="Say more\n\nWhy")
    assert 'value="another"' in await text(browser, "/acme/iac")
    async with browser.post("/acme/iac/pulls", data={"head": "another"}) as answer:
        assert (answer.status, answer.url.path) == (200, "/acme/iac")
    newest = repo.pulls[max(repo.pulls)]
    assert (newest.title, newest.head_ref, newest.base_ref) == ("Say more", "another", "main")
    assert 'value="another"' not in await text(browser, "/acme/iac")


async def test_a_form_of_another_site_is_refused(box: Box, browser: aiohttp.ClientSession) -> None:
    """A web page in the same browser cannot merge."""
    async with browser.post("/acme/iac/pull/1/merge", headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status == 403
    assert not the_pull(box).merged


async def test_a_delivery_can_be_sent_again(box: Box, browser: aiohttp.ClientSession) -> None:
    """The log's button makes a second delivery with the same GUID."""
    repo = box.repo("acme", "iac")
    assert repo is not None
    hook = Hook(id=1, repo=repo, app=None, url="http://127.0.0.1:9/", secret="", events=["push"])
    repo.hooks[hook.id] = hook
    await scenes.commit(box, repo, {"new.txt": "new"}, by=box.users["ada"])
    [lost] = box.deliveries.values()
    async with browser.post("/_sandbox/again", data={"id": str(lost.id)}) as answer:
        assert (answer.status, answer.url.path) == (200, "/_sandbox")
    assert [d.guid for d in box.deliveries.values()] == [lost.guid, lost.guid]
