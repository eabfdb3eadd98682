"""What an event changed and the relay's rules → the endpoints to call.

What belongs here: reading the change out of a payload, matching, building URLs, and every reason why one is not
built. Whoever may merge a file chooses its path, so what a path puts into a URL is treated as hostile: captures fill
single labels of a host name that ends in literal text, or percent-encoded parts of the path, and nothing else.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from telefonistka.core import events, patterns
from telefonistka.core.config import Key, RelayRule, RepoConfig
from telefonistka.core.events import Malformed

Event = Literal["push", "pull_request"]
Payload = Mapping[str, Any]

ENDPOINTS = 256  # of one event; more than the clusters of anybody known to us
URL_LENGTH = 8000  # characters; servers take a request line of 8 KB
HOST_LENGTH = 253  # characters of a name in the DNS
REFUSALS = 100  # of one event that are told; the rest is counted

SUFFIX = 2  # labels that must be literal behind the last capture in a host, so that its domain is the rule's choice


# What changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an event changed, and on which branch: that of a push, or the base of a pull request."""

    event: Event
    branch: str
    default_branch: str
    files: tuple[str, ...]  # sorted; what is known of them
    doubt: str = ""  # why there may be more files; empty: these are all
    before: str = ""  # commits to compare where in doubt; empty: there is no such commit
    after: str = ""
    number: int | None = None  # of the pull request

    def of(self, files: Iterable[str]) -> Change:
        """The change, now that its files are known for sure."""
        return replace(self, files=tuple(sorted(set(files))), doubt="")


def change(event: str, payload: Payload) -> Change | None:
    """The change that a payload tells of, or None if it tells of none that the relay knows; raises Malformed."""
    try:
        match event:
            case "push":
                return _push(payload)
            case "pull_request":
                return _pull_request(payload)
    except KeyError as error:
        raise Malformed(f"a {event} payload without {error}") from error
    except (TypeError, AttributeError) as error:
        raise Malformed(f"a {event} payload of another shape") from error
    return None


def _push(payload: Payload) -> Change | None:
    kind, _, branch = payload["ref"].removeprefix("refs/").partition("/")
    if kind != "heads" or payload.get("deleted") is True:
        return None
    files, doubt = events.pushed(payload)
    return Change(
        event="push",
        branch=branch,
        default_branch=payload["repository"]["default_branch"],
        files=files,
        doubt=doubt,
        before=payload["before"].strip("0") and payload["before"],
        after=payload["after"],
    )


def _pull_request(payload: Payload) -> Change:
    pull = payload["pull_request"]
    return Change(
        event="pull_request",
        branch=pull["base"]["ref"],
        default_branch=payload["repository"]["default_branch"],
        files=(),
        doubt="a pull_request payload lists no files",
        before=pull["base"]["sha"],
        after=pull["head"]["sha"],
        number=pull["number"],
    )


# Endpoints


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One URL that the relay sends to. Its parts are ready for the wire."""

    scheme: str  # http or https
    host: str  # in lower case; an IPv6 address without its brackets
    port: int | None  # None: the scheme's own
    target: str  # path and query, percent-encoded
    verify: bool = True  # False: the repository wants its certificate unchecked; the operator decides

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def name(self) -> str:
        """Scheme and host, for metrics and logs."""
        return f"{self.scheme}://{self.authority}"

    @property
    def url(self) -> str:
        return self.name + self.target

    def __str__(self) -> str:
        return self.url


def is_allowed(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether the host is one of the allowed, or below one; an empty list allows all."""
    host = host.rstrip(".")
    return not allowed or any(host == suffix or host.endswith(f".{suffix}") for suffix in allowed)


class Refusal(ValueError):  # noqa: N818 - what it is to a URL
    """A URL is not built; says why, and what to do."""


def endpoint(url: str, *, verify: bool = True) -> Endpoint:
    """The endpoint of a URL that `Endpoint.url` gave; raises Refusal if it is no such URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refusal(str(error)) from error
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    found = Endpoint(parts.scheme, parts.hostname or "", port, target, verify)
    if found.url != url or found.scheme not in ("http", "https") or not found.host or "@" in parts.netloc:
        raise Refusal(f"{url!r} is not a plain http or https URL")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A replacement that gave no endpoint, for which path, and why. The rule's other replacements went on."""

    line: int
    template: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Where an event goes."""

    endpoints: tuple[Endpoint, ...]  # sorted
    refused: tuple[Refused, ...] = ()
    uncounted: int = 0  # refusals beyond those told
    unknown: str = ""  # why the files are not known; `relay.onUnknownFiles` had to decide


class Slip(NamedTuple):
    """A replacement that is legal and seldom meant, or that can never give a URL: a warning, in `check` an error."""

    key: Key  # where it stands, as in config.Parsed.places
    line: int
    message: str


class Routes:
    """The relay's rules of one configuration, ready to be asked."""

    def __init__(self, config: RepoConfig, *, allowed_hosts: Collection[str] = ()) -> None:
        allowed = tuple(host.lower().strip(".") for host in allowed_hosts)
        verify = not config.wh_proxt_skip_tls_verify_upstream
        self._choices: dict[tuple[_Rule, ...], patterns.Choice] = {}
        self._rules = tuple(_Rule(rule, allowed, verify=verify) for rule in config.webhook_endpoint_regexs)
        self._allowed = allowed
        self._on_unknown = config.relay.on_unknown_files
        self.slips = tuple(slips(config, allowed_hosts=allowed))

    def wants(self, change: Change) -> bool:
        """Whether any rule is about such events on such a branch."""
        return any(rule.applies(change) for rule in self._rules)

    def endpoints(self, change: Change, *, known: Iterable[Endpoint] = ()) -> Routing:
        """Where the change goes. Each file counts for the first rule that matches it, with all its replacements.

        Where the files are in doubt and the configuration says so, it goes to all: to what has no captures in its
        URL, and to those of the `known` endpoints, which are this repository's earlier ones, that are allowed now.
        """
        rules = tuple(rule for rule in self._rules if rule.applies(change))
        found = _Found()
        choice = self._choice(rules)
        for path in change.files:
            if (number := choice.first(path)) is not None:
                rules[number].expand(path, found)
        if change.doubt and rules and self._on_unknown == "all":
            for rule in rules:
                rule.plain(found)
            allowed = (endpoint for endpoint in known if is_allowed(endpoint.host, self._allowed))
            found.endpoints.update(dict.fromkeys(allowed))
        return found.routing(change.doubt if rules else "")

    def _choice(self, rules: tuple[_Rule, ...]) -> patterns.Choice:
        """The rules' expressions as one. There are as many of these as different `branches` and `events`."""
        if rules not in self._choices:
            self._choices[rules] = patterns.Choice(rule.pattern.text for rule in rules)
        return self._choices[rules]


@dataclass(slots=True)
class _Found:
    """What the files of one event have led to so far."""

    endpoints: dict[Endpoint, None] = field(default_factory=dict)  # in the order in which they were found
    refused: dict[tuple[int, str, str], Refused] = field(default_factory=dict)  # one of each kind
    uncounted: int = 0
    seen: set[object] = field(default_factory=set)

    def refuse(self, line: int, template: str, path: str, reason: str) -> None:
        key = (line, template, reason)
        if key in self.refused or len(self.refused) >= REFUSALS:
            self.uncounted += 1
        else:
            self.refused[key] = Refused(line=line, template=template, path=path, reason=reason)

    def routing(self, unknown: str) -> Routing:
        endpoints = list(self.endpoints)
        for left_out in endpoints[ENDPOINTS:]:
            self.refuse(0, left_out.name, "", f"one event goes to no more than {ENDPOINTS} endpoints")
        return Routing(
            endpoints=tuple(sorted(endpoints[:ENDPOINTS])),
            refused=tuple(self.refused.values()),
            uncounted=self.uncounted,
            unknown=unknown,
        )


class _Rule:
    """One entry of `webhookEndpointRegexs`."""

    def __init__(self, rule: RelayRule, allowed: tuple[str, ...], *, verify: bool) -> None:
        self.pattern = patterns.compile(rule.expression)
        self.line = rule.line
        self._events = frozenset(rule.events)
        self._branches = frozenset(rule.branches)
        self._templates = [(text, _build(text, allowed, verify=verify)) for text in rule.replacements]

    def applies(self, change: Change) -> bool:
        if change.event not in self._events:
            return False
        return change.branch in self._branches if self._branches else change.branch == change.default_branch

    def expand(self, path: str, found: _Found) -> None:
        """The endpoints of a path that the rule matches."""
        match = self.pattern.search(path)
        assert match is not None, f"{self.pattern} matches alone as it does among others"
        groups = tuple(match.group(number) for number in range(1, len(match.spans)))
        key = (id(self), groups, match.start() == 0, path[match.end() :])
        if key in found.seen:
            return
        found.seen.add(key)
        for text, template in self._templates:
            try:
                found.endpoints[_expanded(self.pattern, path, match, text, template)] = None
            except Refusal as refusal:
                found.refuse(self.line, text, path, str(refusal))

    def plain(self, found: _Found) -> None:
        """The endpoints that do not depend on a path."""
        for text, template in self._templates:
            if isinstance(template, _Template) and template.plain is not None:
                found.endpoints[template.plain] = None
            elif isinstance(template, Refusal):
                found.refuse(self.line, text, "", str(template))


def _expanded(
    pattern: patterns.Pattern, path: str, match: patterns.Match, text: str, template: _Template | Refusal
) -> Endpoint:
    if isinstance(template, Refusal):
        raise Refusal(str(template))
    if match.start() > 0:
        raise Refusal("the expression matches behind the start of the path, which would then stand before the URL")
    rest = ""
    if match.end() < len(path):
        rest = pattern.replace_all(path, text).removeprefix(match.expand(text))
    return template.endpoint(match, rest)


# Templates

_URL: Final = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL | re.IGNORECASE)
_REFERENCE: Final = re.compile(r"(\$(?:\$|\{\w+\}|\w+))")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LITERAL_HOST: Final = re.compile(r"[a-z0-9_.{}$!&'()*+,;=~-]+")  # what Go lets stand in a host, too
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LITERAL_PATH: Final = "/%:@!$&'()*+,;=~[]"


class _Piece(NamedTuple):
    text: str
    reference: bool  # the text is a `$1` that a match fills


class _Template:
    """One replacement, taken apart before any path is put in; raises Refusal if no path can ever give a URL."""

    def __init__(self, text: str, allowed: tuple[str, ...], *, verify: bool) -> None:
        parts = _URL.fullmatch(text)
        if parts is None:
            raise Refusal("the URL must begin with http:// or https://, and not with a capture")
        scheme, authority, path, query, fragment = parts.groups()
        self._scheme = scheme.lower()
        host, self._port = _split(authority)
        self._host = "" if _has_reference(host) else _literal_host(host)
        self._end = "." if host.endswith(".") else ""  # such a name is looked up as it is, without search domains
        self._labels = tuple(_pieces(label) for label in host.removesuffix(".").split("."))
        self._path = tuple(
            piece if piece.reference else _Piece(_literal(piece.text), reference=False) for piece in _pieces(path)
        )
        if query and _has_reference(query):
            raise Refusal("captures in the query of a URL are not taken")
        self._query = quote(query.replace("$$", "$"), safe=_LITERAL_PATH + "?") if query else ""
        self._swallows = fragment is not None  # a fragment is not sent, nor what would follow it
        self._allowed = allowed
        self._verify = verify
        if not self._host:
            _check_labels(self._labels, trusted=bool(allowed))
        is_plain = self._host and not any(piece.reference for piece in self._path)
        self.plain = self._built(self._host, "".join(piece.text for piece in self._path)) if is_plain else None

    def endpoint(self, match: patterns.Match, rest: str) -> Endpoint:
        """The endpoint of a match; `rest` is what the expression leaves of the path, and stands at the URL's end."""
        rest = "" if self._swallows else rest
        if self.plain is not None and not rest:
            return self.plain
        if rest and self._query:
            raise Refusal("what the expression leaves of the path would come into the query; let it end in '.*'")
        if rest and not self._path and not rest.startswith("/"):
            raise Refusal("what the expression leaves of the path would come into the host; let it end in '.*'")
        host = self._host or ".".join(_label(label, match) for label in self._labels) + self._end
        path = "".join(_encoded(match.expand(piece.text)) if piece.reference else piece.text for piece in self._path)
        return self._built(host, path + _encoded(rest))

    def _built(self, host: str, path: str) -> Endpoint:
        if len(host) > HOST_LENGTH:
            raise Refusal(f"the host would have {len(host)} characters; {HOST_LENGTH} are possible")
        if self._allowed and not is_allowed(host, self._allowed):
            raise Refusal(f"{_shown(host)} is no host that the operator allows (TELEFONISTKA_RELAY_ALLOWED_HOSTS)")
        if any(unquote(segment) in (".", "..") for segment in path.split("/")):
            raise Refusal("the URL's path would have a '.' or '..' in it")
        built = Endpoint(self._scheme, host, self._port, (path or "/") + self._query, self._verify)
        if len(built.url) > URL_LENGTH:
            raise Refusal(f"the URL would have {len(built.url):,} characters; {URL_LENGTH:,} are sent")
        # Two readers must see the same host in it, or a path has found a way to choose one.
        if endpoint(built.url, verify=self._verify) != built:
            raise Refusal("the URL would not be read as it was built")
        return built


@lru_cache(maxsize=4 * patterns.KEPT)
def _build(text: str, allowed: tuple[str, ...], *, verify: bool) -> _Template | Refusal:
    try:
        return _Template(text, allowed, verify=verify)
    except Refusal as refusal:
        return refusal.with_traceback(None)


def _pieces(text: str) -> tuple[_Piece, ...]:
    """The template's parts; `$$` is a dollar, and a dollar that refers to nothing stays."""
    parts = enumerate(_REFERENCE.split(text))
    pieces = (_Piece("$", reference=False) if part == "$$" else _Piece(part, number % 2 == 1) for number, part in parts)
    return tuple(piece for piece in pieces if piece.text)


def _has_reference(text: str) -> bool:
    return any(piece.reference for piece in _pieces(text))


def _split(authority: str) -> tuple[str, int | None]:
    """Host and port."""
    if "@" in authority:
        raise Refusal("user names and passwords in a URL are not taken")
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        return authority, None
    if not port:
        return host, None
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        raise Refusal(f"{_shown(port)} is no port; a capture cannot be one")
    return host, int(port)


def _literal_host(text: str) -> str:
    """The host of a template that has no captures in it, as it was before there were any rules for hosts."""
    text = text.replace("$$", "$").lower()
    if text.startswith("[") and text.endswith("]"):
        return _ipv6(text[1:-1])
    try:
        host = text if text.isascii() else text.encode("idna").decode()
    except UnicodeError as error:
        raise Refusal(f"{_shown(text)} is no host name") from error
    if not _LITERAL_HOST.fullmatch(host):
        raise Refusal(f"{_shown(text)} is no host name" if text else "the URL has no host")
    return host


def _ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError as error:
        raise Refusal(f"{_shown(text)} is no IPv6 address") from error
    if address.scope_id is not None:
        raise Refusal(f"{_shown(text)} is an address of one link only")
    return str(address)


def _check_labels(labels: tuple[tuple[_Piece, ...], ...], *, trusted: bool) -> None:
    """Raises Refusal unless the host ends in literal labels, which make it a name of the rule's own domain."""
    literal = [_LITERAL_HOST.fullmatch("".join(p.text for p in label).lower()) for label in labels]
    templated = [number for number, label in enumerate(labels) if any(piece.reference for piece in label)]
    if not all(literal[number] for number in range(len(labels)) if number not in templated):
        raise Refusal("the URL has no host name that could be one, whatever is captured")
    suffix = literal[templated[-1] + 1 :]
    if suffix and (end := suffix[-1]) and not end[0][0].isalpha():
        raise Refusal("captures cannot be part of an address; the host must end in a domain")
    if len(suffix) < SUFFIX and not trusted:
        raise Refusal(
            f"a host with captures must end in {SUFFIX} or more literal labels, such as .example.com, "
            "or the operator must allow it (TELEFONISTKA_RELAY_ALLOWED_HOSTS)"
        )


def _label(pieces: tuple[_Piece, ...], match: patterns.Match) -> str:
    """One label of a host, with what the match puts into it."""
    if not any(piece.reference for piece in pieces):
        return "".join(piece.text for piece in pieces).lower()
    filled = []
    for piece in pieces:
        text = match.expand(piece.text) if piece.reference else piece.text.lower()
        if piece.reference and not _LABEL.fullmatch(text):
            raise Refusal(f"{_shown(text)} for {piece.text} cannot be part of a host name")
        filled.append(text)
    label = "".join(filled)
    if not _LABEL.fullmatch(label):
        raise Refusal(f"{_shown(label)} cannot be part of a host name")
    return label


def _literal(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise Refusal("a '%' in the URL is not followed by two hexadecimal digits")
    return quote(text, safe=_LITERAL_PATH)


def _encoded(text: str) -> str:
    """A part of a file's path, as a part of a URL's path."""
    return quote(text, safe="/", errors="surrogateescape")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:59] + "~")


# Slips

_BRACES: Final = re.compile(r"(?<!\$)\{(\w+)\}")
_LONG_NAME: Final = re.compile(r"(?<!\$)(?:\$\$)*\$(\d+)([^\W\d]\w*)")
_NUMBER: Final = re.compile(r"(?<!\$)(?:\$\$)*\$(?:(\d+)\b|\{(\d+)\})")
_BACKSLASH: Final = re.compile(r"\\(\d)")


def slips(config: RepoConfig, *, allowed_hosts: Collection[str] = ()) -> Iterator[Slip]:
    """What is wrong with the replacements, whatever paths there are."""
    allowed = tuple(allowed_hosts)
    for number, rule in enumerate(config.webhook_endpoint_regexs):
        groups = patterns.compile(rule.expression).groups
        for index, text in enumerate(rule.replacements):
            key: Key = ("webhookEndpointRegexs", number, "replacements", index)
            for message in _slips(text, groups, allowed):
                yield Slip(key, rule.line, message)


def _slips(text: str, groups: int, allowed: tuple[str, ...]) -> Iterator[str]:
    built = _build(text, allowed, verify=True)
    if isinstance(built, Refusal):
        yield f"{_shown(text)} gives no URL: {built}"
    for found in _BRACES.finditer(text):
        name = found[1]
        if name.isdigit() and int(name) <= groups:
            yield f"'{{{name}}}' stays as it is in the URL; a capture is '${{{name}}}'"
    for found in _LONG_NAME.finditer(text):
        yield f"'${found[1]}{found[2]}' is the group named {found[1] + found[2]!r}; did you mean '${{{found[1]}}}'?"
    for found in _NUMBER.finditer(text):
        wanted = found[1] or found[2]
        if int(wanted) > groups:
            yield f"there is no group {wanted}; the expression has {groups}"
    for found in _BACKSLASH.finditer(text):
        yield f"'\\{found[1]}' stays as it is; a capture is '${{{found[1]}}}'"
