"""Settings from the environment and from credential files: what each gives, and what is said where one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from telefonistka import settings
from telefonistka.settings import Address, AppCredentials, Invalid, Settings, TokenCredentials

ENOUGH = {"GITHUB_WEBHOOK_SECRET": "s", "GITHUB_OAUTH_TOKEN": "t"}
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----"


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(**variables: str) -> Settings:
    return settings.read(ENOUGH | variables)


def problems(**variables: str) -> tuple[str, ...]:
    with pytest.raises(Invalid) as caught:
        read(**variables)
    return caught.value.problems


def test_two_variables_are_enough(tmp_path: Path) -> None:
    """All the rest has a default, and the state directory is made."""
    assert read() == Settings(
        listen=Address("0.0.0.0", 8080),
        state_dir=tmp_path / "state",
        database=tmp_path / "state" / "telefonistka.db",
        webhook_secrets=(b"s",),
        github=TokenCredentials("t"),
        github_host="",
        github_ca_file=None,
        github_write_interval=1.0,
        github_notify_interval=3.0,
        handle_self_comment=False,
        log_level="info",
    )
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_an_empty_variable_is_not_set() -> None:
    """As a template leaves it behind."""
    names = [
        "CREDENTIALS_DIRECTORY",
        "GITHUB_APP_ID",
        "GITHUB_HOST",
        "HANDLE_SELF_COMMENT",
        "LOG_LEVEL",
        "STATE_DIRECTORY",
        "TELEFONISTKA_GITHUB_CA_FILE",
        "TELEFONISTKA_GITHUB_NOTIFY_INTERVAL",
        "TELEFONISTKA_GITHUB_WRITE_INTERVAL",
        "TELEFONISTKA_LISTEN",
        "TELEFONISTKA_STATE_DIR",
        "TELEFONISTKA_STORAGE_URL",
    ]
    assert read(**dict.fromkeys(names, "")) == read()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9000", Address("127.0.0.1", 9000)),
        (":9000", Address("0.0.0.0", 9000)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:80", Address("localhost", 80)),
    ],
)
def test_where_to_listen(text: str, address: Address) -> None:
    """A port alone is all addresses."""
    assert read(TELEFONISTKA_LISTEN=text).listen == address


def test_several_secrets_while_they_rotate() -> None:
    """One per line; empty lines do not count."""
    given = read(GITHUB_WEBHOOK_SECRET="new secret\n\n  old\r\n")
    assert given.webhook_secrets == (b"new secret", b"old")


def test_an_app_wins_over_a_token(tmp_path: Path) -> None:
    """As in the original; its key comes from a file."""
    (tmp_path / "key.pem").write_text(KEY)
    given = read(GITHUB_APP_ID="42", GITHUB_APP_PRIVATE_KEY_PATH="key.pem")
    assert given.github == AppCredentials(42, KEY)


def test_secrets_as_files(tmp_path: Path) -> None:
    """Of the directory that systemd names; a variable wins."""
    files = {"github-webhook-secret": "a\nb\n", "github-oauth-token": "token\n", "github-app-private-key": KEY}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    given = settings.read({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (given.webhook_secrets, given.github) == ((b"a", b"b"), TokenCredentials("token"))
    given = settings.read({"CREDENTIALS_DIRECTORY": str(tmp_path), "GITHUB_APP_ID": "42"})
    assert given.github == AppCredentials(42, KEY)
    assert read(CREDENTIALS_DIRECTORY=str(tmp_path)).webhook_secrets == (b"s",)


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), ("T", True), ("true", True), ("yes", False), ("tRUE", False), ("0", False)]
)
def test_booleans_are_the_originals(text: str, expected: bool) -> None:
    """Anything else is false."""
    assert read(HANDLE_SELF_COMMENT=text).handle_self_comment is expected


def test_where_state_is_kept(tmp_path: Path) -> None:
    """Our variable, else systemd's first directory; the database may be elsewhere."""
    assert read(STATE_DIRECTORY=f"{tmp_path}/one:{tmp_path}/two").state_dir == tmp_path / "one"
    given = read(STATE_DIRECTORY=f"{tmp_path}/one", TELEFONISTKA_STATE_DIR=f"{tmp_path}/three")
    assert given.database == tmp_path / "three" / "telefonistka.db"
    assert read(TELEFONISTKA_STORAGE_URL="sqlite:///var/a%20b.db").database == Path("/var/a b.db")


@pytest.mark.parametrize(
    "wrong",
    [
        {"GITHUB_WEBHOOK_SECRET": ""},
        {"GITHUB_WEBHOOK_SECRET": " \n "},
        {"GITHUB_OAUTH_TOKEN": ""},
        {"GITHUB_OAUTH_TOKEN": "two words"},
        {"GITHUB_APP_ID": "telefonistka", "GITHUB_APP_PRIVATE_KEY_PATH": "key.pem"},
        {"GITHUB_APP_PRIVATE_KEY_PATH": "", "GITHUB_APP_ID": "42"},
        {"GITHUB_APP_PRIVATE_KEY_PATH": "nowhere.pem", "GITHUB_APP_ID": "42"},
        {"GITHUB_APP_PRIVATE_KEY_PATH": "garbage.pem", "GITHUB_APP_ID": "42"},
        {"GITHUB_HOST": "ftp://ghe.example.com"},
        {"GITHUB_HOST": "https://"},
        {"GITHUB_HOST": "ghe.example.com:https"},
        {"TELEFONISTKA_LISTEN": "8080"},
        {"TELEFONISTKA_LISTEN": "host:http"},
        {"TELEFONISTKA_LISTEN": "host:70000"},
        {"TELEFONISTKA_STATE_DIR": "garbage.pem"},
        {"TELEFONISTKA_STORAGE_URL": "postgresql://user:hunter2@db/telefonistka"},
        {"TELEFONISTKA_STORAGE_URL": "sqlite:relative.db"},
        {"TELEFONISTKA_GITHUB_WRITE_INTERVAL": "fast"},
        {"TELEFONISTKA_GITHUB_NOTIFY_INTERVAL": "-1"},
        {"TELEFONISTKA_GITHUB_NOTIFY_INTERVAL": "nan"},
        {"TELEFONISTKA_GITHUB_CA_FILE": "nowhere.pem"},
    ],
    ids=str,
)
def test_what_is_wrong_is_named_with_what_to_do(tmp_path: Path, wrong: dict[str, str]) -> None:
    """One sentence that begins with the variable, one that helps; and no password in it."""
    (tmp_path / "garbage.pem").write_text("no key")
    (tmp_path / "key.pem").write_text(KEY)
    (problem,) = problems(**wrong)
    assert next(iter(wrong)) in problem.split(". ")[0]
    assert problem.endswith(".")
    assert ". " in problem
    assert "hunter2" not in problem


def test_all_problems_are_told_at_once() -> None:
    """Nobody likes to restart five times."""
    assert (
        len(problems(GITHUB_WEBHOOK_SECRET="", GITHUB_OAUTH_TOKEN="", TELEFONISTKA_LISTEN="x", GITHUB_HOST="a b@c"))
        == 4
    )


def test_settings_do_not_show_secrets(tmp_path: Path) -> None:
    """In a log or a traceback."""
    (tmp_path / "key.pem").write_text(KEY)
    for more in ({}, {"GITHUB_APP_ID": "42", "GITHUB_APP_PRIVATE_KEY_PATH": "key.pem"}):
        shown = repr(read(GITHUB_WEBHOOK_SECRET="hunter2", GITHUB_OAUTH_TOKEN="hunter3", **more))
        assert "hunter" not in shown
        assert "PRIVATE" not in shown
