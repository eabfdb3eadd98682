"""One delivery to one endpoint over HTTP/1.1: the door to what the relay sends to.

What belongs here: connections, the addresses that they may go to, the bytes of a request, and what came of it as an
`Answer`. What to do about an answer is the relay's. The body goes out as it came in. There are no redirects, cookies,
proxies or credentials here, so none can leak.

The connector is aiohttp's, with its pool of warm connections, its resolver and its parser; its session is left out,
because at thousands of deliveries a second two thirds of the time went into what the relay has no use for.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import aiohttp
import anyio
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http import HttpProcessingError, RawResponseMessage, StreamWriter
from anyio import to_thread
from yarl import URL

from telefonistka.core import fanout
from telefonistka.core.fanout import Endpoint

CONNECT = 2.0  # seconds, with name look-up and TLS handshake
TOTAL = 10.0  # seconds of one attempt
SPEAK = 1.0  # seconds for the body of an answer whose status is known
ANSWER = 4096  # bytes of an answer's body that are read
KEPT = 75.0  # seconds that an idle connection stays open
DNS = 300  # seconds that a resolved name is used for new connections
LOOKUPS = 64  # at once, each in a thread
CHUNK = 64 << 10  # bytes; a larger body waits for the receiver between the pieces
REQUESTS = 4096  # endpoints whose request is kept ready

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = Iterable[tuple[str, str]]  # decoded as Latin-1


# What is sent

_FORWARDED: Final = frozenset({"content-type", "user-agent", "x-github-event", "x-github-delivery"})
_FORWARDED_PREFIX: Final = "x-github-hook-"
_SIGNATURES: Final = frozenset({"x-hub-signature", "x-hub-signature-256"})
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Letter:
    """One webhook, ready to be sent to any number of endpoints."""

    head: bytes  # header lines but for Host and the signatures
    signatures: bytes  # header lines
    body: bytes = field(repr=False)
    trace: str = ""  # the W3C trace context of the delivery, which is not sent


def letter(headers: Headers, body: bytes) -> Letter:
    """What the relay sends of a webhook: its bytes, and the headers that Argo CD reads.

    Other headers stay here: one that names another provider would choose another parser there. No receiver
    understands a form, so the JSON in it is sent in its place, without the form's signature.
    """
    body, is_form = _unpacked(headers, body)
    head, signatures, trace = [], [], ""
    for name, value in headers:
        folded = name.lower()
        if folded == "traceparent":
            trace = value
        if folded == "content-type" and is_form:
            value = "application/json"
        if folded in _FORWARDED or folded.startswith(_FORWARDED_PREFIX):
            head.append(_line(name, value))
        elif folded in _SIGNATURES and not is_form:
            signatures.append(_line(name, value))
    head.append(b"Content-Length: %d\r\n" % len(body))
    return Letter(b"".join(head), b"".join(signatures), body, trace)


def _unpacked(headers: Headers, body: bytes) -> tuple[bytes, bool]:
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    if content_type.partition(";")[0].strip().lower() != _FORM:
        return body, False
    payload = urllib.parse.parse_qs(body.decode("latin-1"), encoding="utf-8", errors="surrogateescape").get("payload")
    return (payload[0].encode("utf-8", "surrogateescape"), True) if payload else (body, False)


def _line(name: str, value: str) -> bytes:
    text = f"{name}: {value}"
    if any(character in text for character in "\r\n\0"):
        raise ValueError(f"a header {name!r} of more than one line")
    return text.encode("latin-1") + b"\r\n"


def signature(secret: bytes, body: bytes) -> bytes:
    """The header line that GitHub would send with this secret.

    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """
    return b"X-Hub-Signature-256: sha256=%s\r\n" % hmac.digest(secret, body, "sha256").hex().encode()


# What comes back


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one attempt: a status, or an error in words."""

    status: int | None = None
    error: str = ""
    said: str = ""  # the beginning of the answer's body, where there is trouble
    retry_after: str = ""  # the header, as it came
    location: str = ""
    refused: bool = False  # we did not want to send: nothing will change until somebody changes a setting


_PLAIN: Final = {status: Answer(status=status) for status in (200, 201, 202, 204)}


class Forbidden(OSError):  # noqa: N818 - what it says of the address
    """An address or a host that the relay does not connect to."""


# Where connections may go

_SPECIAL: Final = tuple(
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this host"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, where clouds keep credentials"),
        ("168.63.129.16/32", "a cloud's metadata"),
        ("100.64.0.0/10", "a carrier's own"),
        ("192.0.0.0/24", "reserved"),
        ("198.18.0.0/15", "for benchmarks"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/96", "this host"),
        ("::ffff:0:0/96", "an IPv4 address in disguise"),
        ("64:ff9b::/96", "an IPv4 address in disguise"),
        ("64:ff9b:1::/48", "an IPv4 address in disguise"),
        ("2002::/16", "an IPv4 address in disguise"),
        ("2001::/32", "an IPv4 address in disguise"),
        ("fd00:ec2::/32", "a cloud's metadata"),
        ("fd20:ce::/32", "a cloud's metadata"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)


@lru_cache(maxsize=4096)
def forbidden(address: str, allowed: tuple[Network, ...] = ()) -> str | None:
    """Why no connection goes to the address; None: it may. Private networks may: clusters are there."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "it is no address"
    if any(ip in network for network in allowed):
        return None
    return next((what for network, what in _SPECIAL if ip in network), None)


class Resolver(AbstractResolver):
    """Names by the system's resolver, in threads of their own: a slow name holds up nothing else."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await to_thread.run_sync(
            lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM),
            limiter=self._limiter,
            abandon_on_cancel=True,
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator decides about connections."""

    allowed_hosts: tuple[str, ...] = ()  # in lower case, and all below them; none: any that a route leads to
    allowed_networks: tuple[Network, ...] = ()  # special networks that may be reached all the same
    insecure_tls: bool = False  # a repository may turn off the check of certificates
    ca_file: Path | None = None  # trusted beside the system's
    secret: Callable[[Endpoint], bytes | None] = lambda endpoint: None  # to sign anew for an endpoint


class _Prepared:
    """What is the same in all requests to one endpoint."""

    __slots__ = ("connect", "line", "secret")

    def __init__(self, connect: ClientRequest, line: bytes, secret: bytes | None) -> None:
        self.connect = connect
        self.line = line
        self.secret = secret


class _Guarded(AbstractResolver):
    """Another resolver's answers, without the addresses that are forbidden."""

    def __init__(self, resolver: AbstractResolver, allowed: tuple[Network, ...]) -> None:
        self._resolver = resolver
        self.allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        good = [address for address in found if forbidden(address["host"], self.allowed) is None]
        if found and not good:
            raise _forbidden(found[0]["host"], self.allowed)
        return good

    async def close(self) -> None:
        await self._resolver.close()


def _forbidden(address: str, allowed: tuple[Network, ...]) -> Forbidden:
    return Forbidden(f"{address} is {forbidden(address, allowed)}; TELEFONISTKA_RELAY_ALLOWED_NETWORKS can permit it")


class Wire:
    """All connections of the relay."""

    def __init__(self, policy: Policy, *, resolver: AbstractResolver | None = None, total: float = TOTAL) -> None:
        self._policy = policy
        self._total = total
        self._timeout = aiohttp.ClientTimeout(connect=CONNECT)
        self._checked = ssl.create_default_context()
        if policy.ca_file:
            self._checked.load_verify_locations(policy.ca_file)
        self._unchecked = ssl.create_default_context()
        self._unchecked.check_hostname = False
        self._unchecked.verify_mode = ssl.CERT_NONE
        self._guarded = _Guarded(resolver or Resolver(), policy.allowed_networks)
        # The relay limits its own connections: to wait for one here would use up an attempt's time.
        self._connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=0,
            keepalive_timeout=KEPT,
            ttl_dns_cache=DNS,
            resolver=self._guarded,
            socket_factory=self._socket,
        )
        self._prepared = lru_cache(maxsize=REQUESTS)(self._prepare)

    async def close(self) -> None:
        await self._connector.close()

    def follow(self, policy: Policy) -> None:
        """What connects from now on obeys this policy, but for the certificates, which are those of the start."""
        self._policy = policy
        self._guarded.allowed = policy.allowed_networks
        self._prepared.cache_clear()

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for an address that may be connected to. Addresses in URLs come by here only."""
        family, kind, proto, _, address = info
        if forbidden(str(address[0]), self._policy.allowed_networks):
            raise _forbidden(str(address[0]), self._policy.allowed_networks)
        return socket.socket(family, kind, proto)

    def _prepare(self, endpoint: Endpoint) -> _Prepared:
        url = URL(endpoint.url, encoded=True)
        # What connects and what was decided upon must be the same host.
        if (url.scheme, url.host, url.explicit_port) != (endpoint.scheme, endpoint.host, endpoint.port):
            raise Forbidden(f"{endpoint.name} is read as another host")
        # A route leads to no other, but what waits may have been routed by an earlier list.
        if not fanout.is_allowed(endpoint.host, self._policy.allowed_hosts):
            raise Forbidden(f"{endpoint.name} is no host that the operator allows (TELEFONISTKA_RELAY_ALLOWED_HOSTS)")
        unchecked = not endpoint.verify and self._policy.insecure_tls
        connect = ClientRequest("POST", url, ssl=self._unchecked if unchecked else self._checked)
        line = f"POST {endpoint.target} HTTP/1.1\r\nHost: {endpoint.authority}\r\n"
        return _Prepared(connect, line.encode("ascii"), self._policy.secret(endpoint))

    async def send(self, endpoint: Endpoint, letter: Letter) -> Answer:
        """What came of sending the letter. Trouble of any kind is an answer, too."""
        try:
            prepared = self._prepared(endpoint)
            # Not fail_after(), which costs half as much again.
            with anyio.CancelScope(deadline=anyio.current_time() + self._total):
                return await self._sent(prepared, letter)
            return Answer(error=f"no answer within {self._total:g} seconds")
        except (OSError, ValueError, aiohttp.ClientError, HttpProcessingError) as error:
            return _failure(error)

    async def _sent(self, prepared: _Prepared, letter: Letter) -> Answer:
        signatures = signature(prepared.secret, letter.body) if prepared.secret else letter.signatures
        request = b"".join((prepared.line, letter.head, signatures, b"\r\n"))
        try:
            return await self._exchanged(prepared.connect, request, letter.body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise
            # A receiver may close an idle connection at the moment when it is used again: that is no failure of its.
            return await self._exchanged(prepared.connect, request, letter.body)

    async def _exchanged(self, connect: ClientRequest, request: bytes, body: bytes) -> Answer:
        """The answer; its connection is given back, or closed where it cannot be used again."""
        try:
            connection = await self._connector.connect(connect, traces=[], timeout=self._timeout)
        except TimeoutError as error:
            raise OSError(f"no connection within {CONNECT:g} seconds") from error
        try:
            protocol = connection.protocol
            assert protocol is not None
            protocol.set_response_params(read_until_eof=True, auto_decompress=False)
            await _write(connect, protocol, request, body)
            answer, is_whole = await _read(protocol)
        except BaseException:
            # Not close(): that would wait for a receiver that may never take the rest.
            if connection.transport is not None:
                connection.transport.abort()
            connection.close()
            raise
        if is_whole:
            connection.release()
        else:
            connection.close()
        return answer


async def _write(connect: ClientRequest, protocol: ResponseHandler, request: bytes, body: bytes) -> None:
    if len(body) <= CHUNK:
        if protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.transport.write(request + body)
        return
    writer = StreamWriter(protocol, connect.loop)
    # A receiver may answer and hang up before it has read all: its answer says why.
    with suppress(aiohttp.ClientConnectionResetError):
        await writer.write(request)
        for start in range(0, len(body), CHUNK):
            await writer.write(body[start : start + CHUNK])


async def _read(protocol: ResponseHandler) -> tuple[Answer, bool]:
    """The answer, and whether it came whole."""
    message, content = await protocol.read()
    while 100 <= message.code < 200 and message.code != 101:  # interim answers
        message, content = await protocol.read()
    plain = _PLAIN.get(message.code)
    if plain and content.is_eof():
        return plain, True
    said = b""
    with anyio.move_on_after(SPEAK), suppress(aiohttp.ClientError):
        while len(said) < ANSWER and not content.at_eof():
            said += await content.read(ANSWER - len(said))
    return plain or _answer(message, said), content.is_eof()


def _answer(message: RawResponseMessage, said: bytes) -> Answer:
    return Answer(
        status=message.code,
        said=said.decode("utf-8", "replace"),
        retry_after=message.headers.get("Retry-After", ""),
        location=message.headers.get("Location", ""),
    )


def _failure(error: Exception) -> Answer:
    """The error in words for the operator."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    match cause:
        case Forbidden() | aiohttp.InvalidURL():
            return Answer(error=str(cause), refused=True)
        case socket.gaierror():
            return Answer(error=f"the name does not resolve: {cause.strerror}")
        case ssl.SSLCertVerificationError():
            return Answer(error=f"the certificate is not accepted: {cause.verify_message}")
        case aiohttp.ServerDisconnectedError():
            return Answer(error="the connection was closed without an answer")
        case HttpProcessingError():
            return Answer(error="what came back is not HTTP")
    return Answer(error=getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)
