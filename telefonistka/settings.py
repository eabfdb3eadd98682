"""What the operator decides: environment, server file and credential files, read into a frozen value.

What belongs here: names, defaults, and sentences that say which one is missing or wrong and what to do. An empty
variable counts as one that is not set; then the key counts that the server file has for it. A secret may stand in a
file of `$CREDENTIALS_DIRECTORY` instead: https://systemd.io/CREDENTIALS/
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from telefonistka import serverfile
from telefonistka.serverfile import Given

TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # as the original reads them; anything else is false
CONFIG = "TELEFONISTKA_CONFIG"
# Where systemd loads a directory, each file is named after the credential, which is `telefonistka` in our unit, too:
# https://www.freedesktop.org/software/systemd/man/252/systemd.exec.html#LoadCredential=ID:PATH
OF_A_DIRECTORY = "telefonistka_"
DATABASE = "telefonistka.db"
SOCKET = "admin.sock"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
PORT = 8080
MAX_AUTO_MERGE_DELETIONS = 50  # files of one promotion
RECOVERY_INTERVAL = 300.0  # seconds
CENSUS_INTERVAL = 60.0  # seconds, as the original
MAX_AGE = 4 * 86400.0  # seconds; GitHub lets a delivery be sent again for three days
SPANS = 8192  # that wait for their export at most; a push to a hundred endpoints, eighty times
RELAY_MAX_AGE = 24 * 3600.0  # seconds
RELAY_MAX_WAITING = 1000
RELAY_MAX_IN_FLIGHT = 8
MAX_SIZE = 1 << 30  # bytes; a hundred thousand pushes of 10 KB

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Invalid(Exception):  # noqa: N818 - what it says of the settings
    """Settings are missing or wrong; `problems` are sentences for the operator, all of them."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TokenCredentials:
    """Who we are at GitHub: the owner of a token."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppCredentials:
    """Who we are at GitHub: an App, by its id and its private key in PEM."""

    id: int
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHub:
    """Where GitHub is and who we are there: what a command needs that is not the daemon."""

    credentials: TokenCredentials | AppCredentials
    host: str
    ca_file: Path | None
    write_interval: float  # seconds
    notify_interval: float  # seconds


@dataclass(frozen=True, slots=True)
class Supervision:
    """What systemd wants of us and has given us, where it started us."""

    notify: str = ""  # the address of the socket on which it listens to us
    watchdog: float = 0.0  # seconds after which it takes us for stuck; 0: never
    sockets: tuple[str, ...] = ()  # the names of those that listen for us, from file descriptor 3 on


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the daemon is told."""

    listen: Address
    state_dir: Path
    database: Path
    webhook_secrets: tuple[bytes, ...] = field(repr=False)
    github: TokenCredentials | AppCredentials
    github_host: str
    github_ca_file: Path | None
    github_write_interval: float  # seconds
    github_notify_interval: float  # seconds
    handle_self_comment: bool
    log_level: str
    log_format: str = ""  # json or console; none: json, unless stderr is a terminal
    traces: int | None = None  # spans that wait for their export at most; None: nothing is exported
    trace_url: str = ""  # where people see a trace, with {trace_id} in it
    approver: TokenCredentials | AppCredentials | None = None  # the second identity; needed where approval is asked for
    # The ceiling: what repositories may ask for at most.
    github_repositories: tuple[str, ...] = ()  # "owner/name" or "owner/*"; none: all
    promotion_targets: tuple[str, ...] = ()  # directories; none: all
    promotion_auto_merge: bool = True
    promotion_auto_approve: bool = True
    promotion_max_auto_merge_deletions: int = MAX_AUTO_MERGE_DELETIONS
    admin_listen: Address | Path | None = None  # a path is a unix socket; None: nowhere
    relay_allowed_hosts: tuple[str, ...] = ()  # a host, or all below it; none: all that the rules for hosts let pass
    relay_allowed_networks: tuple[Network, ...] = ()  # special ones that may be reached all the same
    relay_insecure_tls: bool = False  # repositories may turn the check of certificates off
    relay_ca_file: Path | None = None
    relay_max_age: float = RELAY_MAX_AGE  # seconds that an endpoint is tried for after a delivery's arrival
    relay_max_waiting: int = RELAY_MAX_WAITING  # deliveries for one endpoint
    relay_max_in_flight: int = RELAY_MAX_IN_FLIGHT  # requests to one endpoint
    relay_secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # by host; "" is every other host
    storage_max_age: float = MAX_AGE  # seconds that a delivery is kept after its end
    storage_max_size: int = MAX_SIZE  # bytes
    recovery_interval: float = RECOVERY_INTERVAL  # seconds; 0: never
    census_interval: float = CENSUS_INTERVAL  # seconds; 0: never
    templates_path: Path | None = None  # the operator's own words
    status_url_template: Path | None = None  # where commit statuses lead
    supervision: Supervision = Supervision()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What is set about the world outside of this machine, for a look at it."""

    github: GitHub
    approver: TokenCredentials | AppCredentials | None
    webhook_secret: bytes | None = field(repr=False)  # the first one
    github_repositories: tuple[str, ...]
    relay_allowed_hosts: tuple[str, ...]
    relay_allowed_networks: tuple[Network, ...]
    relay_insecure_tls: bool
    relay_ca_file: Path | None
    relay_secrets: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Admin:
    """Where the daemon's operator finds it, and the file to look into where it does not run."""

    listen: Address | Path
    database: Path

    @property
    def missing(self) -> str:
        """What to do where there is no such file; "" where there is one."""
        if self.database.exists():
            return ""
        return (
            f"There is no {self.database}. Set TELEFONISTKA_STATE_DIR to the daemon's state directory, such as "
            f"/var/lib/telefonistka, or {CONFIG} to the server file that names it."
        )


def admin(environ: Mapping[str, str]) -> Admin:
    """The settings that a command needs to talk to the daemon; raises Invalid as `read` does."""
    return _Reading(environ).admin()


def relay_allowed_hosts(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The hosts that the operator's list allows, for a look at the rules."""
    return _Reading(environ).hosts()


def outside(environ: Mapping[str, str]) -> Outside:
    """The settings that a look at GitHub and at the relay's endpoints needs; raises Invalid as `read` does."""
    return _Reading(environ).outside()


def read(environ: Mapping[str, str], *, make: bool = True) -> Settings:
    """The settings; raises Invalid with everything that is wrong with them. `make` makes the state directory."""
    return _Reading(environ).settings(make=make)


def github(environ: Mapping[str, str]) -> GitHub:
    """The settings that are about GitHub alone; raises Invalid as `read` does."""
    return _Reading(environ).github()


class _Reading:
    """One pass over the environment, which goes on after a problem to find the others."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[str] = []
        self._given = self._server_file()
        self._credentials = self._credentials_directory()

    def _server_file(self) -> Mapping[str, Given]:
        """What the server file gives, by variable."""
        path = self._environ.get(CONFIG, "").strip()
        if not path:
            return {}
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            self._problems.append(
                f"{CONFIG} is {path!r}, which cannot be read: {error.strerror}. Set it to a server file, "
                "or leave it out."
            )
            return {}
        given, problems = serverfile.read(text, file=path)
        self._problems += problems
        return given

    def admin(self) -> Admin:
        state_dir = self._state_path()
        found = Admin(self._admin_listen(state_dir), self._database(state_dir))
        if self._problems:
            raise Invalid(tuple(self._problems))
        return found

    def hosts(self) -> tuple[str, ...]:
        name = "TELEFONISTKA_RELAY_ALLOWED_HOSTS"
        found = tuple(host.lower().strip(".") for host in self._list(name))
        for host in found:
            if not re.fullmatch(r"[a-z0-9_.-]+|[0-9a-f:]+", host):
                self._wrong(
                    name, f"has {host!r}. Set it to hosts such as argocd.example.com, or example.com for all below it."
                )
        return found

    def outside(self) -> Outside:
        secrets = self._secret("GITHUB_WEBHOOK_SECRET", "github-webhook-secret").split()
        approver, repositories = self._identity("APPROVER_"), self._repositories()
        networks, insecure = self._networks(), self._switch("TELEFONISTKA_RELAY_INSECURE_TLS", default=False)
        ca_file, relay_secrets = self._file("TELEFONISTKA_RELAY_CA_FILE"), self._relay_secrets()
        return Outside(
            github=self.github(),  # which raises what is wrong with any of them
            approver=approver,
            webhook_secret=secrets[0].encode("utf-8", "surrogateescape") if secrets else None,
            github_repositories=repositories,
            relay_allowed_hosts=self.hosts(),
            relay_allowed_networks=networks,
            relay_insecure_tls=insecure,
            relay_ca_file=ca_file,
            relay_secrets=relay_secrets,
        )

    def settings(self, *, make: bool) -> Settings:
        """All of them; a field that has a problem holds something harmless until Invalid is raised."""
        state_dir = self._state_dir() if make else self._state_path()
        settings = Settings(
            listen=self._listen(),
            state_dir=state_dir,
            database=self._database(state_dir),
            webhook_secrets=self._webhook_secrets(),
            github=self._github(),
            github_host=self._github_host(),
            github_ca_file=self._file("TELEFONISTKA_GITHUB_CA_FILE"),
            github_write_interval=self._seconds("TELEFONISTKA_GITHUB_WRITE_INTERVAL", 1.0),
            github_notify_interval=self._seconds("TELEFONISTKA_GITHUB_NOTIFY_INTERVAL", 3.0),
            handle_self_comment=self._text("HANDLE_SELF_COMMENT") in TRUE,
            log_level=self._text("LOG_LEVEL") or "info",
            log_format=self._log_format(),
            traces=self._traces(),
            trace_url=self._trace_url(),
            # The original wants it set wherever it is used or not, so it may be anything: even the first identity.
            approver=self._identity("APPROVER_"),
            github_repositories=self._repositories(),
            promotion_targets=self._list("TELEFONISTKA_PROMOTION_TARGETS"),
            admin_listen=self._admin_listen(state_dir),
            relay_allowed_hosts=self.hosts(),
            relay_allowed_networks=self._networks(),
            relay_insecure_tls=self._switch("TELEFONISTKA_RELAY_INSECURE_TLS", default=False),
            relay_ca_file=self._file("TELEFONISTKA_RELAY_CA_FILE"),
            relay_max_age=self._seconds("TELEFONISTKA_RELAY_MAX_AGE", RELAY_MAX_AGE),
            relay_max_waiting=self._some("TELEFONISTKA_RELAY_MAX_WAITING", RELAY_MAX_WAITING),
            relay_max_in_flight=self._some("TELEFONISTKA_RELAY_MAX_IN_FLIGHT", RELAY_MAX_IN_FLIGHT),
            relay_secrets=self._relay_secrets(),
            templates_path=self._directory("TEMPLATES_PATH"),
            status_url_template=self._path("CUSTOM_COMMIT_STATUS_URL_TEMPLATE_PATH"),
            supervision=self._supervision(),
            recovery_interval=self._seconds("TELEFONISTKA_RECOVERY_INTERVAL", RECOVERY_INTERVAL),
            census_interval=self._seconds("TELEFONISTKA_CENSUS_INTERVAL", CENSUS_INTERVAL),
            storage_max_age=self._seconds("TELEFONISTKA_STORAGE_MAX_AGE", MAX_AGE),
            storage_max_size=self._count("TELEFONISTKA_STORAGE_MAX_SIZE", MAX_SIZE >> 20) << 20,
            promotion_auto_merge=self._switch("TELEFONISTKA_PROMOTION_AUTO_MERGE", default=True),
            promotion_auto_approve=self._switch("TELEFONISTKA_PROMOTION_AUTO_APPROVE", default=True),
            promotion_max_auto_merge_deletions=self._count(
                "TELEFONISTKA_PROMOTION_MAX_AUTO_MERGE_DELETIONS", MAX_AUTO_MERGE_DELETIONS
            ),
        )
        if self._problems:
            raise Invalid(tuple(self._problems))
        return settings

    def github(self) -> GitHub:
        found = GitHub(
            credentials=self._github(),
            host=self._github_host(),
            ca_file=self._file("TELEFONISTKA_GITHUB_CA_FILE"),
            write_interval=self._seconds("TELEFONISTKA_GITHUB_WRITE_INTERVAL", 1.0),
            notify_interval=self._seconds("TELEFONISTKA_GITHUB_NOTIFY_INTERVAL", 3.0),
        )
        if self._problems:
            raise Invalid(tuple(self._problems))
        return found

    def _text(self, name: str) -> str:
        """What the variable says, else the server file, else nothing."""
        text = self._environ.get(name, "").strip()
        return text or (self._given[name].text if name in self._given else "")

    def _wrong(self, name: str, sentence: str) -> None:
        """A problem with what a variable says, or the server file in its place: where it stands, and the sentence."""
        self._problems.append(f"{self._where(name)} {sentence}")

    def _where(self, name: str) -> str:
        """What says it: the variable, or the key of the server file with its place."""
        given = None if self._environ.get(name, "").strip() else self._given.get(name)
        return f"{given.at}: error: {given.key!r}" if given else name

    def _secret(self, name: str, credential: str) -> str:
        """The variable, else the credential file of that name, else nothing."""
        return self._text(name) or self._credential(credential)

    def _credential(self, credential: str) -> str:
        """What is in the credential's file, which may have another name; nothing where there is no such file."""
        variable = _naming(credential)
        named = self._text(variable)
        path = _credential_file(self._credentials, named or credential)
        if path is not None:
            return self._contents(path, f"the credential {path.name}")
        if named:
            # Not the name: who puts the secret itself in its place shall not find it in the log.
            self._wrong(variable, "names no file of $CREDENTIALS_DIRECTORY. Set it to one's name, or leave it out.")
        return ""

    def _credentials_directory(self) -> Path | None:
        """Where the secrets are files; None: nowhere."""
        name = "CREDENTIALS_DIRECTORY"
        text = self._text(name)
        if not text or not os.path.isdir(text):
            return None
        if not os.access(text, os.R_OK | os.X_OK):
            self._wrong(name, f"is {text!r}, which cannot be read. Let the daemon's user read it.")
            return None
        return Path(text)

    def _contents(self, path: Path, what: str) -> str:
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            self._problems.append(f"{what}: {path} cannot be read: {error.strerror}. Let the daemon's user read it.")
        except UnicodeDecodeError:
            self._problems.append(f"{what}: {path} is not text. Give the secret itself, not an encrypted form of it.")
        return ""

    def _webhook_secrets(self) -> tuple[bytes, ...]:
        lines = self._secret("GITHUB_WEBHOOK_SECRET", "github-webhook-secret").splitlines()
        secrets = tuple(line.strip().encode("utf-8", "surrogateescape") for line in lines if line.strip())
        if not secrets:
            self._wrong(
                "GITHUB_WEBHOOK_SECRET",
                "is not set. Set it to the secret of the webhook at GitHub, "
                "or give a credential github-webhook-secret; while you rotate it, one secret per line.",
            )
        return secrets

    def _github(self) -> TokenCredentials | AppCredentials:
        found = self._identity("")
        if found is None:
            self._problems.append(
                "GITHUB_APP_ID and GITHUB_OAUTH_TOKEN are not set. Set GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY_PATH "
                "for a GitHub App, or GITHUB_OAUTH_TOKEN (credential github-oauth-token) for a token."
            )
        return found or TokenCredentials("")

    def _identity(self, prefix: str) -> TokenCredentials | AppCredentials | None:
        """Who the variables with this prefix say we are; None where they are not set."""
        if self._text(f"{prefix}GITHUB_APP_ID"):
            return self._app(prefix)
        name = f"{prefix}GITHUB_OAUTH_TOKEN"
        token = self._secret(name, _credential_name(name))
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            self._wrong(name, "is not a token. Copy it again, without anything around it.")
        return TokenCredentials(token) if token else None

    def _app(self, prefix: str) -> AppCredentials:
        name = f"{prefix}GITHUB_APP_ID"
        text = self._text(name)
        number = int(text) if text.isascii() and text.isdecimal() else 0
        if not number:
            self._wrong(name, f"is {text!r}. Set it to the App's id, a number on its settings page.")
        return AppCredentials(number, self._private_key(prefix))

    def _private_key(self, prefix: str) -> str:
        name = f"{prefix}GITHUB_APP_PRIVATE_KEY_PATH"
        credential = _credential_name(name.removesuffix("_PATH"))
        path = self._text(name)
        key = self._contents(Path(path), self._where(name)) if path else self._credential(credential)
        if not path and not key:
            self._wrong(
                name,
                f"is not set, but {prefix}GITHUB_APP_ID is. Set it to the path of the App's private key "
                f"(.pem), or give a credential {credential}.",
            )
        elif key and not ("PRIVATE KEY-----" in key and key.startswith("-----BEGIN ")):
            self._wrong(name, "does not name a private key. Give the .pem file that GitHub made for the App.")
        return key

    def _repositories(self) -> tuple[str, ...]:
        name = "TELEFONISTKA_GITHUB_REPOSITORIES"
        found = self._list(name)
        for one in found:
            owner, _, repository = one.partition("/")
            if not owner or not repository or "/" in repository:
                self._wrong(name, f"has {one!r}. Set it to owner/name or owner/*, separated by commas.")
        return found

    def _list(self, name: str) -> tuple[str, ...]:
        return tuple(one for part in self._text(name).split(",") if (one := part.strip()))

    def _switch(self, name: str, *, default: bool) -> bool:
        text = self._text(name)
        if text and text not in TRUE | FALSE:
            self._wrong(name, f"is {text!r}. Set it to true or false, or leave it out: {default}.")
        return text in TRUE if text else default

    def _count(self, name: str, default: int) -> int:
        text = self._text(name)
        if text and not (text.isascii() and text.isdecimal()):
            self._wrong(name, f"is {text!r}. Set it to a number, such as {default}.")
            return default
        return int(text) if text else default

    def _log_format(self) -> str:
        name = "LOG_FORMAT"
        text = self._text(name).lower()
        if text in ("", "json", "console"):
            return text
        self._wrong(
            name, f"is {text!r}. Set it to json or console, or leave it out: json, unless stderr is a terminal."
        )
        return ""

    def _traces(self) -> int | None:
        """What is said by the SDK's own variables is for the SDK to read, but for whether there are traces.

        https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
        """
        endpoint = self._text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or self._text("OTEL_EXPORTER_OTLP_ENDPOINT")
        exporter = self._text("OTEL_TRACES_EXPORTER").lower() or "otlp"
        if not endpoint or exporter == "none" or self._text("OTEL_SDK_DISABLED").lower() == "true":
            return None
        if exporter != "otlp":
            self._problems.append(
                f"OTEL_TRACES_EXPORTER is {exporter!r}. Set it to otlp or none, or leave it out: otlp."
            )
        for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if self._text(name):
                if self._text(name) != "http/protobuf":
                    self._problems.append(
                        f"{name} is {self._text(name)!r}. Set it to http/protobuf, which is all that we speak, "
                        "and the endpoint to the collector's port for that, mostly 4318."
                    )
                break
        return self._count("OTEL_BSP_MAX_QUEUE_SIZE", SPANS)

    def _trace_url(self) -> str:
        name = "TELEFONISTKA_TRACE_URL"
        text = self._text(name)
        try:
            url = urlsplit(text)
            is_right = url.scheme in ("http", "https") and bool(url.hostname) and "{trace_id}" in text
        except ValueError:
            is_right = False
        if text and (not is_right or any(one.isspace() for one in text)):
            self._wrong(
                name,
                f"is {text!r}. Set it to the address of a trace with {{trace_id}} in the place of its id, "
                "such as https://jaeger.example.com/trace/{trace_id}.",
            )
            return ""
        return text

    def _some(self, name: str, default: int) -> int:
        """A count that is not none."""
        count = self._count(name, default)
        if not count:
            self._wrong(name, f"is '0'. Set it to one or more, such as {default}.")
        return count

    def _github_host(self) -> str:
        text = self._text("GITHUB_HOST")
        if not text:
            return ""
        try:
            url = urlsplit(text if "://" in text else f"https://{text}")
            port_is_right = url.port is None or url.port > 0
        except ValueError:
            port_is_right = False
        if not port_is_right or url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc:
            self._wrong(
                "GITHUB_HOST",
                f"is {text!r}. Set it to the name of your GitHub Enterprise Server such as "
                "ghe.example.com, or to its address such as https://ghe.example.com:8443.",
            )
        return text

    def _listen(self) -> Address:
        text = self._text("TELEFONISTKA_LISTEN") or f"0.0.0.0:{PORT}"
        host, separator, port = text.rpartition(":")
        if not separator or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
            self._wrong("TELEFONISTKA_LISTEN", f"is {text!r}. Set it to host:port, such as 0.0.0.0:{PORT}.")
            return Address("", 0)
        return Address(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - what ":8080" means everywhere

    def _admin_listen(self, state_dir: Path) -> Address | Path:
        name = "TELEFONISTKA_ADMIN_LISTEN"
        text = self._text(name)
        if "/" in text or not text:
            return Path(text.removeprefix("unix:")).absolute() if text else state_dir / SOCKET
        host, _, port = text.rpartition(":")
        address = Address(host.strip("[]"), int(port) if port.isascii() and port.isdecimal() else 0)
        # Whoever reaches it may send deliveries again, so it is for this machine alone.
        if address.host not in LOOPBACK or not 0 < address.port < 65536:
            self._wrong(
                name,
                f"is {text!r}. Set it to the path of a unix socket, or to an address of this machine alone, "
                "such as 127.0.0.1:8081.",
            )
        return address

    def _networks(self) -> tuple[Network, ...]:
        name = "TELEFONISTKA_RELAY_ALLOWED_NETWORKS"
        found = []
        for text in self._list(name):
            try:
                found.append(ipaddress.ip_network(text))
            except ValueError:
                self._wrong(name, f"has {text!r}. Set it to networks such as 127.0.0.0/8, with commas between.")
        return tuple(found)

    def _relay_secrets(self) -> dict[str, bytes]:
        """The credentials `relay-secret` and `relay-secret-<host>`."""
        if self._credentials is None:
            return {}
        named = self._text(_naming("relay-secret")) or "relay-secret"
        found = {}
        for path in sorted(self._credentials.iterdir()):
            name = path.name.removeprefix(OF_A_DIRECTORY)
            host = name.removeprefix(named).removeprefix("-").lower()
            if name != named and not name.startswith(f"{named}-"):
                continue
            secret = self._contents(path, f"the credential {path.name}")
            if not secret:
                self._problems.append(f"The credential {path.name} is empty. Give the secret, or take the file away.")
            found[host] = secret.encode("utf-8", "surrogateescape")
        if not found and named != "relay-secret":
            self._wrong(_naming("relay-secret"), "names no file of $CREDENTIALS_DIRECTORY. Set it to one's name.")
        return found

    def _state_path(self) -> Path:
        # systemd's StateDirectory= may name several, separated by colons; the first is ours.
        given = self._text("TELEFONISTKA_STATE_DIR") or self._text("STATE_DIRECTORY").split(":")[0] or "state"
        return Path(given).absolute()

    def _state_dir(self) -> Path:
        path = self._state_path()
        given = str(path)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self._wrong(
                "TELEFONISTKA_STATE_DIR",
                f"is {given!r}, which cannot be made: {error.strerror}. "
                "Set it to a directory that the daemon's user may write.",
            )
            return path
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            self._wrong("TELEFONISTKA_STATE_DIR", f"is {given!r}. Let the daemon's user write it.")
        return path

    def _database(self, state_dir: Path) -> Path:
        text = self._text("TELEFONISTKA_STORAGE_URL")
        if not text:
            return state_dir / DATABASE
        try:
            url = urlsplit(text)
            known = url.scheme == "sqlite" and not url.netloc and len(url.path) > 1 and url.path.startswith("/")
        except ValueError:
            known = False
        if not known:
            # Not the value itself: such an address may hold a password.
            self._wrong(
                "TELEFONISTKA_STORAGE_URL",
                "is of a kind that we do not know. "
                "Set it to sqlite:///path/of/the/file, or leave it out for a file in the state directory.",
            )
            return state_dir / DATABASE
        return Path(unquote(url.path))

    def _supervision(self) -> Supervision:
        """https://www.freedesktop.org/software/systemd/man/252/sd_watchdog_enabled.html, …/sd_listen_fds.html"""
        for_us = str(os.getpid())
        watchdog = int(self._text("WATCHDOG_USEC") or 0) / 1e6 if self._text("WATCHDOG_PID") in ("", for_us) else 0.0
        count = int(self._text("LISTEN_FDS") or 0) if self._text("LISTEN_PID") == for_us else 0
        names = self._text("LISTEN_FDNAMES").split(":")
        sockets = tuple(names[number] if number < len(names) else "" for number in range(count))
        return Supervision(self._text("NOTIFY_SOCKET"), watchdog, sockets)

    def _path(self, name: str) -> Path | None:
        text = self._text(name)
        return Path(text) if text else None

    def _directory(self, name: str) -> Path | None:
        path = self._path(name)
        if path is not None and not (path.is_dir() and os.access(path, os.R_OK | os.X_OK)):
            self._wrong(name, f"is {str(path)!r}, no directory that can be read. Set it to one, or leave it out.")
            return None
        return path

    def _file(self, name: str) -> Path | None:
        text = self._text(name)
        if not text:
            return None
        if not os.access(text, os.R_OK) or not Path(text).is_file():
            self._wrong(name, f"is {text!r}, which cannot be read. Set it to a file in PEM, or leave it out.")
        return Path(text)

    def _seconds(self, name: str, default: float) -> float:
        text = self._text(name)
        if not text:
            return default
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            self._wrong(name, f"is {text!r}. Set it to a number of seconds, such as {default:g}.")
            return default
        return seconds


def _credential_name(variable: str) -> str:
    """The name of the credential file that may stand for a variable."""
    return variable.lower().replace("_", "-")


def _naming(credential: str) -> str:
    """The variable that gives a credential's file another name."""
    return f"TELEFONISTKA_CREDENTIALS_{credential.upper().replace('-', '_')}"


def _credential_file(directory: Path | None, name: str) -> Path | None:
    """The file of that name, or as systemd names it where it loads a directory; None: there is none."""
    if directory is None or "/" in name:
        return None
    paths = (Path(directory, name), Path(directory, OF_A_DIRECTORY + name))
    return next((path for path in paths if path.is_file()), None)
