"""What GitHub and probes are answered, over real HTTP."""

from __future__ import annotations

import gzip
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anyio
import orjson
import pytest

from telefonistka import server
from telefonistka.inbox import STALE, Inbox, Outcome, Verdict
from telefonistka.storage import State, Storage
from telefonistka.storage.sqlite import SQLite
from tests.daemon.values import Clock, delivery, form, headers, pull_request, signature

BODY = orjson.dumps(pull_request())
SECRETS = (b"the new one", b"the old one")


class Client:
    """Somebody who talks to the server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def send(self, body: Any, sent: dict[str, str]) -> tuple[int, str]:
        """The status and the text."""
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        async with self._session.post(f"{self._url}/webhook", data=data, headers=sent) as response:
            return response.status, await response.text()

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str, aiohttp.ClientResponse]:
        async with self._session.request(method, self._url + path) as response:
            return response.status, await response.text(), response


@pytest.fixture
async def client(inbox: Inbox) -> AsyncIterator[Client]:
    async with (
        server.serving(inbox, SECRETS, host="127.0.0.1", port=0) as (host, port),
        aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session,
    ):
        yield Client(session, f"http://{host}:{port}")


def signed(body: bytes = BODY, secret: bytes = SECRETS[0], **more: str) -> dict[str, str]:
    return headers(body, secret, **more)


async def stored(storage: Storage) -> list[str]:
    return [item.event for item in await storage.claim("test", limit=100, lease=60, now=2e9)]


async def test_a_delivery_is_accepted_once_it_is_stored(client: Client, storage: Storage) -> None:
    """202, and there it is: body, headers and lane."""
    assert await client.send(BODY, signed(Authorization="Basic aGVsbG8=")) == (202, "accepted\n")
    (item,) = await storage.claim("test", limit=1, lease=60, now=2e9)
    assert (item.lane, item.event, item.body) == ("1/7", "pull_request", BODY)
    assert ("X-Hub-Signature-256", signature(BODY, SECRETS[0])) in item.headers
    assert "authorization" not in {name.lower() for name, _ in item.headers}


async def test_a_duplicate_is_no_work(client: Client, storage: Storage) -> None:
    """200 while the first is pending and after it is done; under another id, too."""
    await client.send(BODY, signed())
    assert (await client.send(BODY, signed()))[0] == 200
    assert (await client.send(BODY, signed(X_GitHub_Delivery="another")))[0] == 200
    (item,) = await storage.claim("test", limit=9, lease=60, now=2e9)
    await storage.finish("test", item.seq, state=State.DONE, now=2e9)
    assert await client.send(BODY, signed()) == (200, "duplicate: this delivery is here already\n")
    assert await stored(storage) == []


async def test_a_dead_letter_is_armed_again(client: Client, storage: Storage) -> None:
    """Sending it again from GitHub's page is how an operator retries."""
    await client.send(BODY, signed())
    (item,) = await storage.claim("test", limit=9, lease=60, now=2e9)
    await storage.bury("test", item.seq, reason="", now=2e9)
    assert await client.send(BODY, signed()) == (202, "accepted again: it had failed\n")
    assert await stored(storage) == ["pull_request"]


@pytest.mark.parametrize("secret", SECRETS)
async def test_each_secret_is_good_while_they_rotate(client: Client, secret: bytes) -> None:
    """GitHub may sign with the old one for a while after the new one is set."""
    assert (await client.send(BODY, signed(secret=secret)))[0] == 202


@pytest.mark.parametrize(
    "given",
    [
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature-256": signature(BODY, b"wrong")},
        {"X-Hub-Signature-256": signature(BODY + b" ", SECRETS[0])},
        {"X-Hub-Signature-256": signature(BODY, SECRETS[0]).upper()},
        {"X-Hub-Signature-256": signature(BODY, SECRETS[0]) + "0"},
        {"X-Hub-Signature-256": signature(BODY, SECRETS[0]).removeprefix("sha256=")},
        {"X-Hub-Signature-256": "sha256=" + "é" * 64},
        {"X-Hub-Signature-256": "sha256=" + "٣" * 64},
        {"X-Hub-Signature-256": "", "X-Hub-Signature": "sha1=9ea8d1e5fcdb1f2f0e1f4a1b5a0a3a5d1e5fcdb1"},
    ],
    ids=[
        "none", "no value", "other secret", "other body", "upper case", "longer", "no algorithm", "no ASCII",
        "digits of another script", "SHA-1",
    ],
)  # fmt: skip
async def test_a_wrong_signature_is_401(client: Client, storage: Storage, given: dict[str, str]) -> None:
    """One line that tells nothing but which header to look at; nothing is stored."""
    status, text = await client.send(BODY, signed() | given)
    assert (status, text) == (401, "X-Hub-Signature-256 is not this body's signature with our secret\n")
    assert await stored(storage) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"[1]", "the body is JSON, but no object"),
        (b"null", "the body is JSON, but no object"),
        (b'"text"', "the body is JSON, but no object"),
        (b'{"a": "\xff"}', "the body is not JSON"),
        (b'{"a": NaN}', "the body is not JSON"),
        (b'{"a": "\\ud800"}', "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "the body is not JSON"),
    ],
)
async def test_a_body_that_is_no_json_object_is_400(client: Client, storage: Storage, body: bytes, reason: str) -> None:
    """However deep or odd; one line of reason."""
    status, text = await client.send(body, signed(body))
    assert (status, text.startswith(reason), text.count("\n")) == (400, True, 1)
    assert await stored(storage) == []


@pytest.mark.parametrize(
    "given",
    [
        {"X-GitHub-Event": ""},
        {"X-GitHub-Event": "pull request"},
        {"X-GitHub-Event": "é"},
        {"X-GitHub-Delivery": "é"},
        {"X-GitHub-Delivery": "x" * 200},
    ],
)
async def test_a_header_that_is_no_name_is_400(client: Client, given: dict[str, str]) -> None:
    """They are nobody's signed word, and are stored and logged."""
    assert (await client.send(BODY, signed() | given))[0] == 400


async def test_a_delivery_without_id_is_known_by_its_body(client: Client) -> None:
    """Only GitHub sends the header."""
    sent = signed()
    del sent["X-GitHub-Delivery"]
    assert (await client.send(BODY, sent))[0] == 202
    assert (await client.send(BODY, sent))[0] == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "multipart/form-data; boundary=x"])
async def test_another_content_type_is_415(client: Client, kind: str) -> None:
    """With the two that are right."""
    status, text = await client.send(BODY, signed(Content_Type=kind))
    assert (status, text) == (415, "Content-Type must be application/json or application/x-www-form-urlencoded\n")


async def test_a_compressed_body_is_415(client: Client) -> None:
    """The signature is over the bytes that arrive."""
    body = gzip.compress(BODY)
    assert (await client.send(body, signed(body, Content_Encoding="gzip")))[0] == 415


@pytest.mark.parametrize("kind", ["application/json; charset=nope", "Application/JSON ;charset=utf-8"])
async def test_parameters_of_the_content_type_do_not_matter(client: Client, kind: str) -> None:
    """JSON is UTF-8 whatever they say."""
    assert (await client.send(BODY, signed(Content_Type=kind)))[0] == 202


FORM = "application/x-www-form-urlencoded"


async def test_a_form_carries_the_json_in_its_payload(client: Client, storage: Storage) -> None:
    """Signed and stored as it is; ours to read again later."""
    body = form(orjson.dumps(pull_request(title="é & + %")))
    assert (await client.send(body, signed(body, Content_Type=FORM)))[0] == 202
    (item,) = await storage.claim("test", limit=1, lease=60, now=2e9)
    assert (item.lane, item.body) == ("1/7", body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the form has no field `payload`\n"),
        (b"payload", "the body is not a form\n"),
        (b"a=1", "the form has no field `payload`\n"),
        (b"payload={}&payload={}", "the form has no field `payload`\n"),
        (b"payload=%ff", "the body is not a form\n"),
        (b"payload=\xff", "the body is not a form\n"),
        (b"&".join([b"a=1"] * 100), "the body is not a form\n"),
        (b"payload=1", "the body is JSON, but no object\n"),
    ],
)
async def test_a_form_without_json_is_400(client: Client, body: bytes, reason: str) -> None:
    """As a JSON body that is none."""
    assert await client.send(body, signed(body, Content_Type=FORM)) == (400, reason)


async def test_a_large_body_is_taken_and_a_larger_one_is_413(client: Client) -> None:
    """GitHub sends up to 25 MB: https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap"""
    large = orjson.dumps(pull_request(title="x" * 25_000_000))
    assert (await client.send(large, signed(large)))[0] == 202
    larger = b" " * (server.BODY_LIMIT + 1)
    assert await client.send(larger, signed(larger)) == (413, "the body has more than 26 MiB\n")


async def test_a_body_of_unknown_length_is_read_as_a_stream(client: Client) -> None:
    """And cut off at the same limit, without its end having been seen."""

    async def chunks(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    large = orjson.dumps(pull_request(title="x" * 3_000_000))
    assert (await client.send(chunks(large), signed(large)))[0] == 202
    larger = b" " * (server.BODY_LIMIT + 1)
    assert (await client.send(chunks(larger), signed(larger)))[0] == 413


async def test_a_body_that_breaks_off_harms_nobody(client: Client, inbox: Inbox) -> None:
    """Neither a sender that goes away nor one that sends broken chunks."""
    async with server.serving(inbox, SECRETS, host="127.0.0.1", port=0) as (host, port):
        for tail in (b"Content-Length: 1000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"):
            async with await anyio.connect_tcp(host, port) as stream:
                await stream.send(
                    b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"X-GitHub-Event: push\r\n" + tail
                )
        async with aiohttp.ClientSession() as session:
            assert (await Client(session, f"http://{host}:{port}").send(BODY, signed()))[0] == 202


async def test_ping_is_answered_and_not_stored(client: Client, storage: Storage) -> None:
    """GitHub sends it when a webhook is made."""
    body = orjson.dumps({"zen": "Keep it logically awesome.", "hook_id": 1})
    assert await client.send(body, signed(body, X_GitHub_Event="ping")) == (200, "pong\n")
    assert await stored(storage) == []


async def test_an_event_that_we_do_not_know_is_ignored_with_a_reason(client: Client, storage: Storage) -> None:
    """GitHub adds events; a red delivery would hide real failures."""
    status, text = await client.send(BODY, signed(X_GitHub_Event="sponsorship"))
    assert (status, text) == (200, "ignored: nothing is done on 'sponsorship' events\n")
    assert await stored(storage) == []


async def test_what_cannot_be_interpreted_is_stored_in_its_repositorys_lane(client: Client, storage: Storage) -> None:
    """A later version may know what it means."""
    body = orjson.dumps({"action": "closed", "repository": {"id": 5}, "pull_request": "odd"})
    assert (await client.send(body, signed(body)))[0] == 202
    (item,) = await storage.claim("test", limit=1, lease=60, now=2e9)
    assert item.lane == "5"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_the_webhook_takes_post_alone(client: Client, method: str) -> None:
    """405, and the header that says so."""
    status, _, response = await client.ask("/webhook", method)
    assert (status, response.headers["Allow"]) == (405, "POST")


async def test_a_delivery_that_cannot_be_stored_is_503(client: Client, storage: Storage) -> None:
    """GitHub shows it as failed, so it can be sent again; the server goes on, and readiness says why."""
    assert isinstance(storage, SQLite)
    connection = storage._writer._connection
    assert connection is not None
    connection.execute("PRAGMA query_only = 1")
    status, text = await client.send(BODY, signed())
    assert (status, text) == (503, "the delivery cannot be stored: attempt to write a readonly database\n")
    status, text, _ = await client.ask("/ready")
    reasons = ["the storage does not work: attempt to write a readonly database"]
    assert (status, orjson.loads(text)) == (503, {"status": "down", "reasons": reasons})
    assert (await client.ask("/live"))[0] == 200
    assert "\ntelefonistka_ready 0.0\n" in (await client.ask("/metrics"))[1]
    connection.execute("PRAGMA query_only = 0")
    assert (await client.send(BODY, signed()))[0] == 202
    assert (await client.ask("/ready"))[0] == 200
    assert "\ntelefonistka_ready 1.0\n" in (await client.ask("/metrics"))[1]


@pytest.mark.parametrize("path", ["/live", "/ready"])
async def test_health_has_the_originals_shape(client: Client, path: str) -> None:
    """Probes of existing installations go on working."""
    status, text, response = await client.ask(path)
    assert (status, orjson.loads(text)) == (200, {"status": "up"})
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert "no-cache" in response.headers["Cache-Control"]


async def test_work_that_nobody_takes_makes_it_unready(client: Client, inbox: Inbox, clock: Clock) -> None:
    """A worker that hangs is trouble, however well deliveries are stored."""
    await inbox.accept(delivery("1"))
    clock.passes(STALE + 60)
    status, text, _ = await client.ask("/ready")
    reason = "work waits for 360 s, and for 360 s nothing was taken or done"
    assert (status, orjson.loads(text)["reasons"]) == (503, [reason])


async def test_a_backlog_that_is_worked_on_is_no_trouble(client: Client, inbox: Inbox, clock: Clock) -> None:
    """After a burst, or a while without a daemon, work may wait for hours; what counts is that it goes on."""
    for number in range(1, 4):
        await inbox.accept(delivery(str(number), lane=f"1/{number}"))
    for _ in range(2):
        clock.passes(STALE - 10)
        (item,) = await inbox.claim("a worker", limit=1)
        assert (await client.ask("/ready"))[0] == 200
    clock.passes(STALE - 10)
    await inbox.record("a worker", item, "promote", Outcome(Verdict.DONE, "done"))
    assert (await client.ask("/ready"))[0] == 200
    clock.passes(STALE + 1)
    assert (await client.ask("/ready"))[0] == 503


async def test_metrics_keep_the_originals_names(client: Client) -> None:
    """They are on people's dashboards."""

    async def hits(parsing: str) -> float:
        _, text, _ = await client.ask("/metrics")
        name = f'telefonistka_webhook_server_webhook_hits_total{{parsing="{parsing}"}} '
        return next((float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0.0)

    before = {parsing: await hits(parsing) for parsing in ("successful", "validation_failed", "parsing_failed")}
    await client.send(BODY, signed())
    await client.send(BODY, signed(secret=b"wrong"))
    await client.send(b"[", signed(b"["))
    assert {parsing: await hits(parsing) - before[parsing] for parsing in before} == dict.fromkeys(before, 1.0)
    _, text, response = await client.ask("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    assert 'telefonistka_inbox_items{state="waiting"} 1.0' in text
    (free,) = (line for line in text.splitlines() if line.startswith("telefonistka_storage_free_bytes "))
    assert float(free.split()[1]) > 0


@pytest.mark.parametrize("secrets", [(), (b"",), (b"good", b"")])
async def test_a_server_without_secret_is_refused(inbox: Inbox, secrets: tuple[bytes, ...]) -> None:
    """An empty key would let anybody sign."""
    with pytest.raises(ValueError, match="empty"):
        server.application(inbox, secrets)
