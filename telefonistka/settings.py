"""What the operator decides: environment and credential files, read once into a frozen value.

What belongs here: names, defaults, and sentences that say which one is missing or wrong and what to do. An empty
variable counts as one that is not set. A secret may stand in a file of `$CREDENTIALS_DIRECTORY` instead:
https://systemd.io/CREDENTIALS/
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # as the original reads them; anything else is false
DATABASE = "telefonistka.db"
PORT = 8080


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


def read(environ: Mapping[str, str]) -> Settings:
    """The settings; raises Invalid with everything that is wrong with them."""
    return _Reading(environ).settings()


class _Reading:
    """One pass over the environment, which goes on after a problem to find the others."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[str] = []

    def settings(self) -> Settings:
        """All of them; a field that has a problem holds something harmless until Invalid is raised."""
        state_dir = self._state_dir()
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
        )
        if self._problems:
            raise Invalid(tuple(self._problems))
        return settings

    def _text(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def _secret(self, name: str, credential: str) -> str:
        """The variable, else the credential file of that name, else nothing."""
        return self._text(name) or self._credential(credential)

    def _credential(self, credential: str) -> str:
        directory = self._text("CREDENTIALS_DIRECTORY")
        path = Path(directory, credential)
        return self._contents(path, f"the credential {credential}") if directory and path.exists() else ""

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
            self._problems.append(
                "GITHUB_WEBHOOK_SECRET is not set. Set it to the secret of the webhook at GitHub, "
                "or give a credential github-webhook-secret; while you rotate it, one secret per line."
            )
        return secrets

    def _github(self) -> TokenCredentials | AppCredentials:
        if self._text("GITHUB_APP_ID"):
            return self._app()
        token = self._secret("GITHUB_OAUTH_TOKEN", "github-oauth-token")
        if not token:
            self._problems.append(
                "GITHUB_APP_ID and GITHUB_OAUTH_TOKEN are not set. Set GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY_PATH "
                "for a GitHub App, or GITHUB_OAUTH_TOKEN (credential github-oauth-token) for a token."
            )
        elif not (token.isascii() and token.isprintable() and " " not in token):
            self._problems.append("GITHUB_OAUTH_TOKEN is not a token. Copy it again, without anything around it.")
        return TokenCredentials(token)

    def _app(self) -> AppCredentials:
        text = self._text("GITHUB_APP_ID")
        number = int(text) if text.isascii() and text.isdecimal() else 0
        if not number:
            self._problems.append(f"GITHUB_APP_ID is {text!r}. Set it to the App's id, a number on its settings page.")
        return AppCredentials(number, self._private_key())

    def _private_key(self) -> str:
        name = "GITHUB_APP_PRIVATE_KEY_PATH"
        path = self._text(name)
        key = self._contents(Path(path), name) if path else self._credential("github-app-private-key")
        if not path and not key:
            self._problems.append(
                f"{name} is not set, but GITHUB_APP_ID is. Set it to the path of the App's private key (.pem), "
                "or give a credential github-app-private-key."
            )
        elif key and not ("PRIVATE KEY-----" in key and key.startswith("-----BEGIN ")):
            self._problems.append(
                f"{name} does not name a private key. Give the .pem file that GitHub made for the App."
            )
        return key

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
            self._problems.append(
                f"GITHUB_HOST is {text!r}. Set it to the name of your GitHub Enterprise Server such as "
                "ghe.example.com, or to its address such as https://ghe.example.com:8443."
            )
        return text

    def _listen(self) -> Address:
        text = self._text("TELEFONISTKA_LISTEN") or f"0.0.0.0:{PORT}"
        host, separator, port = text.rpartition(":")
        if not separator or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
            self._problems.append(f"TELEFONISTKA_LISTEN is {text!r}. Set it to host:port, such as 0.0.0.0:{PORT}.")
            return Address("", 0)
        return Address(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - what ":8080" means everywhere

    def _state_dir(self) -> Path:
        # systemd's StateDirectory= may name several, separated by colons; the first is ours.
        given = self._text("TELEFONISTKA_STATE_DIR") or self._text("STATE_DIRECTORY").split(":")[0] or "state"
        path = Path(given).absolute()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self._problems.append(
                f"TELEFONISTKA_STATE_DIR is {given!r}, which cannot be made: {error.strerror}. "
                "Set it to a directory that the daemon's user may write."
            )
            return path
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            self._problems.append(f"TELEFONISTKA_STATE_DIR is {given!r}. Let the daemon's user write it.")
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
            self._problems.append(
                "TELEFONISTKA_STORAGE_URL is of a kind that we do not know. "
                "Set it to sqlite:///path/of/the/file, or leave it out for a file in the state directory."
            )
            return state_dir / DATABASE
        return Path(unquote(url.path))

    def _file(self, name: str) -> Path | None:
        text = self._text(name)
        if not text:
            return None
        if not os.access(text, os.R_OK) or not Path(text).is_file():
            self._problems.append(
                f"{name} is {text!r}, which cannot be read. Set it to a file in PEM, or leave it out."
            )
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
            self._problems.append(f"{name} is {text!r}. Set it to a number of seconds, such as {default:g}.")
            return default
        return seconds
