"""One request to one endpoint: its bytes, the address it goes to, and what comes back."""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
import subprocess
from pathlib import Path
from urllib.parse import quote_from_bytes

import anyio
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st

from telefonistka import wire
from telefonistka.core.fanout import Endpoint
from telefonistka.wire import Answer, Policy
from tests.core.test_fanout import HOSTILE, push, routes, rule
from tests.relay import sinks
from tests.relay.sinks import HEADERS, HERE, LOOPBACK

LETTER = wire.letter(HEADERS, b'{"a": "\xc3\xbc"}')


# What is sent


async def test_the_body_and_the_headers_that_argo_cd_reads_arrive_as_they_came() -> None:
    """And nothing else but what HTTP needs."""
    smuggled = (("Cookie", "a=b"), ("Authorization", "x"), ("X-Gogs-Event", "push"), ("X-Forwarded-For", "1.2.3.4"))
    body = bytes(range(256))
    async with sinks.listening() as sink, sinks.wired() as line:
        assert await line.send(sink.endpoint("/x?y=%2f"), wire.letter(smuggled + HEADERS, body)) == Answer(status=200)
    [request] = sink.requests
    assert request.line == "POST /x?y=%2f HTTP/1.1"
    assert request.body == body
    assert request.headers == (("Host", f"127.0.0.1:{sink.port}"), *HEADERS[:5], ("Content-Length", "256"), HEADERS[5])


@pytest.mark.parametrize("size", [0, 1, wire.CHUNK, wire.CHUNK + 1, 3_000_000])
async def test_a_body_of_any_size_arrives_whole(size: int) -> None:
    """In one piece or in many."""
    body = bytes(size)
    async with sinks.listening() as sink, sinks.wired() as line:
        assert await line.send(sink.endpoint(), wire.letter(HEADERS, body)) == Answer(status=200)
    assert sink.bodies == [body]


async def test_a_form_is_sent_as_the_json_in_it() -> None:
    """Without the signature, which was the form's."""
    headers = (("Content-Type", "application/x-www-form-urlencoded"), *HEADERS[1:])
    body = b"payload=" + quote_from_bytes(LETTER.body).encode()
    async with sinks.listening() as sink, sinks.wired() as line:
        await line.send(sink.endpoint(), wire.letter(headers, body))
    [request] = sink.requests
    assert request.body == LETTER.body
    assert request.header("Content-Type") == ["application/json"]
    assert request.header("X-Hub-Signature-256") == []


async def test_an_endpoint_with_a_secret_of_its_own_gets_its_own_signature() -> None:
    """In place of GitHub's, over the same bytes."""
    policy = Policy(allowed_networks=LOOPBACK, secret=lambda endpoint: b"s" if endpoint.target == "/own" else None)
    async with sinks.listening() as sink, sinks.wired(policy) as line:
        await line.send(sink.endpoint("/own"), LETTER)
        await line.send(sink.endpoint("/other"), LETTER)
    expected = "sha256=" + hmac.new(b"s", LETTER.body, hashlib.sha256).hexdigest()
    signatures = [request.header("X-Hub-Signature-256") for request in sink.requests]
    assert signatures == [[expected], [HEADERS[5][1]]]


def test_a_header_of_more_than_one_line_is_no_header() -> None:
    """It could not come from a request, and must not get into one."""
    with pytest.raises(ValueError, match="more than one line"):
        wire.letter((("User-Agent", "a\r\nX-Evil: 1"),), b"")


async def test_connections_are_used_again() -> None:
    """By one request after the other."""
    async with sinks.listening() as sink, sinks.wired() as line:
        for _ in range(5):
            await line.send(sink.endpoint(), LETTER)
    assert (len(sink.requests), sink.connections) == (5, 1)


async def test_a_connection_that_the_receiver_closed_is_no_failure() -> None:
    """Neither announced nor while it was idle."""
    closing = sinks.OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with sinks.listening(closing, sinks.OK, "reset", sinks.OK) as sink, sinks.wired() as line:
        answers = [await line.send(sink.endpoint(), LETTER) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert sink.connections == 3


# What comes back


async def test_an_answer_in_trouble_keeps_its_words() -> None:
    """The beginning of its body, and the headers that matter."""
    long = b"HTTP/1.1 400 Bad\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000
    busy = b"HTTP/1.1 429 Later\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    async with sinks.listening(long, busy, sinks.BUSY) as sink, sinks.wired() as line:
        answers = [await line.send(sink.endpoint(), LETTER) for _ in range(3)]
    assert answers[0] == Answer(status=400, said="x" * 4096)
    assert answers[1] == Answer(status=429, retry_after="7")
    assert (answers[2].status, answers[2].said) == (503, "Queue is full, discarding webhook payload\r\n")
    assert sink.connections == 2  # the first was not read to its end


async def test_redirects_are_not_followed() -> None:
    """The signature stays where it was meant for."""
    async with sinks.listening() as elsewhere:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:{elsewhere.port}/\r\nContent-Length: 0\r\n\r\n"
        async with sinks.listening(moved.encode()) as sink, sinks.wired() as line:
            answer = await line.send(sink.endpoint(), LETTER)
    assert (answer.status, answer.location) == (307, f"http://127.0.0.1:{elsewhere.port}/")
    assert elsewhere.requests == []


async def test_a_status_counts_even_if_the_body_never_ends() -> None:
    """It is not waited for longer than a moment, and the connection is not used again."""
    endless = b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with sinks.listening(endless) as sink, sinks.wired() as line:
        with anyio.fail_after(wire.SPEAK + 2):
            assert await line.send(sink.endpoint(), LETTER) == Answer(status=202)
        assert await line.send(sink.endpoint(), LETTER) == Answer(status=202)
    assert sink.connections == 2


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ("reset", "Connection reset by peer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nConnection: close", "without an answer"),
    ],
)
async def test_trouble_is_an_answer_in_words(sent: bytes | str, error: str) -> None:
    """Not an exception."""
    async with sinks.listening(sent) as sink, sinks.wired() as line:
        answer = await line.send(sink.endpoint(), LETTER)
    assert answer.status is None
    assert error in answer.error


@pytest.mark.parametrize("mode", ["hang", "drip"])
async def test_an_answer_that_does_not_come_is_given_up(mode: str) -> None:
    """After a total that bytes in between do not prolong."""
    async with sinks.listening(mode) as sink:
        line = wire.Wire(HERE, total=1.5)
        with anyio.fail_after(4):
            answer = await line.send(sink.endpoint(), LETTER)
        await line.close()
    assert answer == Answer(error="no answer within 1.5 seconds")


async def test_nobody_there_is_said() -> None:
    """A refused connection, and a name that does not resolve."""
    async with sinks.listening() as sink:
        pass
    async with sinks.wired() as line:
        refused = await line.send(sink.endpoint(), LETTER)
        unknown = await line.send(Endpoint("http", "nobody.invalid", None, "/"), LETTER)
    assert "Connect call failed" in refused.error
    assert "does not resolve" in unknown.error
    assert not refused.refused


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 that no system trusts, in one file."""
    file = tmp_path_factory.mktemp("tls") / "sink.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=sink"
    arguments = [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", "-"]
    text = subprocess.run(arguments, check=True, capture_output=True).stdout
    with file.open("ab") as opened:
        opened.write(text)
    return file


@pytest.mark.parametrize(
    ("policy", "verify", "accepted"),
    [
        (Policy(allowed_networks=LOOPBACK), True, False),
        (Policy(allowed_networks=LOOPBACK), False, False),
        (Policy(allowed_networks=LOOPBACK, insecure_tls=True), True, False),
        (Policy(allowed_networks=LOOPBACK, insecure_tls=True), False, True),
    ],
)
async def test_certificates_go_unchecked_only_where_both_agree(
    certificate: Path, policy: Policy, verify: bool, accepted: bool
) -> None:
    """The repository asks for it, and the operator permits it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with sinks.listening(tls=context) as sink, sinks.wired(policy) as line:
        answer = await line.send(sink.endpoint(verify=verify), LETTER)
    assert (answer.status == 200) is accepted
    assert accepted or "certificate is not accepted" in answer.error


async def test_a_private_authority_is_trusted_where_the_operator_names_it(certificate: Path) -> None:
    """And the name in its certificates is checked."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    policy = Policy(allowed_networks=LOOPBACK, ca_file=certificate)
    async with sinks.listening(tls=context) as sink, sinks.wired(policy) as line:
        answers = [await line.send(sink.endpoint(), LETTER) for _ in range(3)]
        other = await line.send(sink.endpoint(host="127.0.0.2"), LETTER)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert sink.connections == 1
    assert other.status is None


# Where connections go


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "ff02::1",
        "no address",
    ],
)
def test_an_address_that_no_cluster_has_is_forbidden(address: str) -> None:
    """Loopback, link-local, metadata, multicast, and what hides an IPv4 address."""
    assert wire.forbidden(address) is not None


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "172.16.0.1", "192.168.1.1", "140.82.121.3", "fd12::1", "2606:50c0::1"]
)
def test_private_networks_may_be_reached(address: str) -> None:
    """Clusters are there."""
    assert wire.forbidden(address) is None


def test_the_operator_can_permit_a_network() -> None:
    """That one, and no other."""
    assert wire.forbidden("127.0.0.1", LOOPBACK) is None
    assert wire.forbidden("::1", LOOPBACK) is not None
    assert wire.forbidden("::ffff:127.0.0.1", LOOPBACK) is not None


class Pretender(AbstractResolver):
    """A DNS that says whatever it is told to, and remembers what it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("host", ["127.0.0.1", "name.example.com", "::1", "2130706433", "0x7f.1", "127.1"])
async def test_a_forbidden_address_gets_no_connection(host: str) -> None:
    """Whether it stands in the URL or a name server says it."""
    async with sinks.listening() as sink:
        line = wire.Wire(Policy(), resolver=Pretender("127.0.0.1", "::1", "::ffff:127.0.0.1"))
        answer = await line.send(sink.endpoint(host=host), LETTER)
        await line.close()
    assert answer.status is None
    assert answer.refused
    assert sink.connections == 0


async def test_a_host_that_the_operator_takes_away_gets_nothing_more() -> None:
    """Not even over a connection that is open; what is below an allowed host is allowed."""
    async with sinks.listening() as sink, sinks.wired() as line:
        endpoint = sink.endpoint(host="localhost")
        assert (await line.send(endpoint, LETTER)).status == 200
        line.follow(Policy(allowed_networks=LOOPBACK, allowed_hosts=("example.com",)))
        answer = await line.send(endpoint, LETTER)
        assert answer.refused
        assert "is no host that the operator allows (TELEFONISTKA_RELAY_ALLOWED_HOSTS)" in answer.error
        line.follow(Policy(allowed_networks=LOOPBACK, allowed_hosts=("example.com", "localhost")))
        assert (await line.send(endpoint, LETTER)).status == 200
    assert len(sink.requests) == 2


async def test_a_name_with_one_good_address_goes_there() -> None:
    """The others are left out."""
    async with sinks.listening() as sink:
        line = wire.Wire(HERE, resolver=Pretender("169.254.169.254", "127.0.0.1"))
        answer = await line.send(sink.endpoint(host="name.example.com"), LETTER)
        await line.close()
    assert answer.status == 200


async def test_names_are_looked_up_by_the_system() -> None:
    """As everybody else on the machine does."""
    async with sinks.listening() as sink, sinks.wired() as line:
        assert (await line.send(sink.endpoint(host="localhost"), LETTER)).status == 200


captures = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.one_of(st.characters(exclude_characters="\0/"), st.sampled_from("@:?#[]\\%.$。")), max_size=20),
    st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
)


paths = st.lists(captures, min_size=1, max_size=4).map(lambda parts: "x/" + "/".join(parts))


@settings(max_examples=40)
@given(st.lists(paths, min_size=1, max_size=12))
def test_no_path_leads_to_another_host(paths: list[str]) -> None:
    """From a file's name to the address that is connected to, through a real client."""
    anyio.run(_follow, paths)


async def _follow(paths: list[str]) -> None:
    async with sinks.listening() as sink:
        rules = routes(
            rule(
                r"(?s)^x/([^/]*)(/?.*)",
                f"http://k-${{1}}.argo.example.com:{sink.port}/api/${{1}}${{2}}",
                f"http://${{1}}.argo.example.com:{sink.port}/api",
                f"http://fixed.argo.example.com:{sink.port}/api${{2}}",
            )
        )
        resolver = Pretender("127.0.0.1")
        line = wire.Wire(HERE, resolver=resolver)
        try:
            endpoints = rules.endpoints(push(*paths)).endpoints
            answers = [await line.send(endpoint, LETTER) for endpoint in endpoints]
        finally:
            await line.close()
    assert [answer.status for answer in answers] == [200] * len(endpoints)
    assert all(host.endswith(".argo.example.com") for host in resolver.asked)
    hosts = [request.header("Host") for request in sink.requests]
    assert hosts == [[endpoint.authority] for endpoint in endpoints]
    lines = [request.line for request in sink.requests]
    assert lines == [f"POST {endpoint.target} HTTP/1.1" for endpoint in endpoints]
    assert all(request.headers[1:] == arriving() for request in sink.requests)


def arriving() -> tuple[tuple[str, str], ...]:
    return (*HEADERS[:5], ("Content-Length", str(len(LETTER.body))), HEADERS[5])
