"""The server file: what its keys give, what is said of a wrong one, and that all four lists of settings are one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from telefonistka import serverfile, settings
from telefonistka.serverfile import KEYS
from telefonistka.settings import Address, Invalid, Settings, TokenCredentials

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "config" / "server.yaml"
ENOUGH = {"GITHUB_WEBHOOK_SECRET": "s", "GITHUB_OAUTH_TOKEN": "t"}
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----"
CREDENTIALS = {
    "github-webhook-secret": "s",
    "github-oauth-token": "t",
    "github-app-private-key": KEY,
    "approver-github-oauth-token": "a",
    "approver-github-app-private-key": KEY,
    "relay-secret": "r",
}

# A value of each key that cannot be used; those of the others are taken as they are, or warned of where they are used.
WRONG = {
    "listen": "8080",
    "stateDir": "server.yaml",
    "admin.listen": "0.0.0.0:8081",
    **{key: "nowhere" for key in KEYS if key.startswith("credentials.")},
    "github.host": "ftp://ghe.example.com",
    "github.caFile": "nowhere.pem",
    "github.appId": "telefonistka",
    "github.appPrivateKeyPath": "nowhere.pem",
    "github.repositories": "[acme]",
    "github.writeInterval": "fast",
    "github.notifyInterval": "-1",
    "github.handleSelfComment": "maybe",
    "approver.appId": "telefonistka",
    "approver.appPrivateKeyPath": "server.yaml",
    "promotion.autoMerge": "maybe",
    "promotion.autoApprove": "maybe",
    "promotion.maxAutoMergeDeletions": "many",
    "relay.allowedHosts": "['*.example.com']",
    "relay.allowedNetworks": "[127.0.0.0/33]",
    "relay.insecureTls": "maybe",
    "relay.caFile": "nowhere.pem",
    "relay.maxAge": "a day",
    "relay.maxWaiting": "0",
    "relay.maxInFlight": "many",
    "recovery.interval": "-1",
    "census.interval": "now and then",
    "storage.url": "postgresql://db/telefonistka",
    "storage.maxAge": "long",
    "storage.maxSize": "1 GB",
    "templates.path": "server.yaml",
    "log.format": "xml",
    "trace.url": "https://jaeger.example.com/trace/",
}
TAKEN = {"credentials.directory", "promotion.targets", "templates.statusUrlPath", "log.level"}

# What the environment says in the place of the file, for settings that the file may not have.
NO_KEY = {"TELEFONISTKA_CONFIG"}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, **variables: str) -> Settings:
    Path("server.yaml").write_text(text)
    return settings.read(ENOUGH | {"TELEFONISTKA_CONFIG": "server.yaml"} | variables)


def problems(text: str, **variables: str) -> tuple[str, ...]:
    with pytest.raises(Invalid) as caught:
        read(text, **variables)
    return caught.value.problems


def test_a_key_is_as_good_as_its_variable() -> None:
    """Texts, numbers, switches and lists."""
    found = read(
        "listen: 127.0.0.1:9000\n"
        "github: {writeInterval: 0.5, repositories: [acme/iac, other/*], handleSelfComment: yes}\n"
        "promotion:\n  autoMerge: false\n  maxAutoMergeDeletions: 7\n"
        "relay: {allowedNetworks: [127.0.0.0/8, '::1/128']}\n"
    )
    assert found == settings.read(
        ENOUGH
        | {
            "TELEFONISTKA_LISTEN": "127.0.0.1:9000",
            "TELEFONISTKA_GITHUB_WRITE_INTERVAL": "0.5",
            "TELEFONISTKA_GITHUB_REPOSITORIES": "acme/iac,other/*",
            "HANDLE_SELF_COMMENT": "true",
            "TELEFONISTKA_PROMOTION_AUTO_MERGE": "false",
            "TELEFONISTKA_PROMOTION_MAX_AUTO_MERGE_DELETIONS": "7",
            "TELEFONISTKA_RELAY_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
        }
    )
    assert found.listen == Address("127.0.0.1", 9000)


def test_a_variable_comes_before_its_key() -> None:
    """An empty one is not set, so that the key counts."""
    text = "listen: 127.0.0.1:9000"
    assert read(text, TELEFONISTKA_LISTEN="127.0.0.1:9001").listen.port == 9001
    assert read(text, TELEFONISTKA_LISTEN="").listen.port == 9000


def test_an_empty_file_is_no_settings() -> None:
    """Nor is a section without keys, or a key without a value."""
    nothing = settings.read(ENOUGH)
    assert [read(text) for text in ("", "# nothing\n", "github:\nlisten:\n")] == [nothing] * 3


def test_everything_wrong_is_told_at_once_with_its_place() -> None:
    """Unknown keys with what may have been meant, wrong kinds, and values that make no sense."""
    assert problems(
        "lisen: 0.0.0.0:80\n"
        "listen: 8080\n"
        "appId: 1\n"
        "github:\n"
        "  writeInterval: fast\n"
        "  repositories: acme/iac\n"
        "  token: hunter2\n"
        "relay: [a]\n"
        "promotion:\n"
        "  autoMerge: maybe\n"
        "  targets: [{a: b}]\n"
        "listen: 80 80\n"
    ) == (
        "server.yaml:1:1: error: unknown key 'lisen' — did you mean 'listen'?",
        "server.yaml:3:1: error: unknown key 'appId' — it belongs under 'github'",
        "server.yaml:6:17: error: 'repositories' must be a list, not 'acme/iac'",
        "server.yaml:7:3: error: unknown key 'token'",
        "server.yaml:8:8: error: 'relay' must be a mapping, not a list",
        "server.yaml:10:14: error: 'autoMerge' must be true or false, not 'maybe'",
        "server.yaml:11:13: error: each of 'targets' must be text, not a mapping",
        "server.yaml:12:1: error: duplicate key 'listen', also in line 2: the later one counts",
        "server.yaml:12:9: error: 'listen' is '80 80'. Set it to host:port, such as 0.0.0.0:8080.",
        "server.yaml:5:18: error: 'github.writeInterval' is 'fast'. Set it to a number of seconds, such as 1.",
    )


@pytest.mark.parametrize("key", [key for key in KEYS if key not in TAKEN])
def test_a_value_that_cannot_be_used_is_told_with_its_place(key: str, tmp_path: Path) -> None:
    """File, line and column, whichever key it is."""
    credentials(tmp_path / "c")
    environ = {"CREDENTIALS_DIRECTORY": "c", "TELEFONISTKA_CONFIG": "server.yaml"}
    if "rivateKey" in key:  # which matters to an App alone
        environ |= {"GITHUB_APP_ID": "1", "APPROVER_GITHUB_APP_ID": "2"}
    section, _, name = key.rpartition(".")
    above, indent = (f"{section}:\n", "  ") if section else ("", "")
    Path("server.yaml").write_text(f"{above}{indent}{name}: {WRONG[key]}\n")
    with pytest.raises(Invalid) as caught:
        settings.read(environ)
    place = f"server.yaml:{1 + bool(section)}:{len(f'{indent}{name}: ') + 1}: error: "
    assert caught.value.problems[0].startswith((f"{place}'{key}' ", f"{place}'{key}': ", f"{place}'{name}' must be "))


@pytest.mark.parametrize("text", ["listen: [", "\tlisten: x", "a\0b", "- listen"])
def test_a_file_that_is_no_mapping_is_refused_with_its_place(text: str) -> None:
    """One line, as of any other mistake."""
    (problem,) = problems(text)
    assert re.match(r"server\.yaml:\d+:\d+: error: ", problem)


def test_a_file_that_is_not_there_is_named() -> None:
    """With the variable or flag that names it."""
    with pytest.raises(Invalid, match=r"TELEFONISTKA_CONFIG is 'nowhere.yaml', which cannot be read: No such file"):
        settings.read(ENOUGH | {"TELEFONISTKA_CONFIG": "nowhere.yaml"})


def test_other_commands_find_the_daemon_by_the_same_file(tmp_path: Path) -> None:
    """`deliveries`, `doctor` and the bumps read a part of the settings."""
    Path("server.yaml").write_text("stateDir: elsewhere\nrelay: {allowedHosts: [example.com]}\ngithub: {host: ghe}")
    environ = ENOUGH | {"TELEFONISTKA_CONFIG": "server.yaml"}
    assert settings.admin(environ).listen == tmp_path / "elsewhere" / "admin.sock"
    assert settings.relay_allowed_hosts(environ) == ("example.com",)
    assert (settings.outside(environ).github.host, settings.github(environ).host) == ("ghe", "ghe")


def credentials(directory: Path, prefix: str = "") -> None:
    directory.mkdir()
    for name, text in CREDENTIALS.items():
        (directory / f"{prefix}{name}").write_text(text)


@pytest.mark.parametrize("prefix", ["", "telefonistka_"])
def test_credentials_are_found_as_systemd_loads_them(tmp_path: Path, prefix: str) -> None:
    """One by one, or a directory whose files get the unit's name before theirs."""
    credentials(tmp_path / "c", prefix)
    (tmp_path / "c" / f"{prefix}relay-secret-argocd.example.com").write_text("x")
    found = settings.read({"CREDENTIALS_DIRECTORY": "c"})
    assert (found.webhook_secrets, found.github, found.approver) == (
        (b"s",),
        TokenCredentials("t"),
        TokenCredentials("a"),
    )
    assert found.relay_secrets == {"": b"r", "argocd.example.com": b"x"}


def test_a_key_names_a_credentials_file(tmp_path: Path) -> None:
    """The secret itself does not stand in the file, and is not told where somebody puts it there."""
    credentials(tmp_path / "c")
    (tmp_path / "c" / "our-token").write_text("o")
    (tmp_path / "c" / "ours").write_text("q")
    found = read(
        "credentials: {directory: c, githubOauthToken: our-token, relaySecret: ours}",
        GITHUB_OAUTH_TOKEN="",
    )
    assert (found.github, found.relay_secrets) == (TokenCredentials("o"), {"": b"q"})
    for name in ("githubOauthToken", "relaySecret"):
        said = problems(f"credentials:\n  directory: c\n  {name}: hunter2", GITHUB_OAUTH_TOKEN="")
        assert said[0].startswith(f"server.yaml:3:{5 + len(name)}: error: 'credentials.{name}' names no file")
        assert "hunter2" not in str(said)


# The four lists: the shipped file, the table of keys, what the code reads, the reference


def shipped() -> dict[str, tuple[str, str]]:
    """The shipped file's keys: the line without its #, and the comment that belongs to it."""
    found, section, comment = {}, "", ""
    for line in SHIPPED.read_text().splitlines():
        if heading := re.fullmatch(r"(\w+):", line):
            section = heading[1]
        elif key := re.fullmatch(r"( {2})?# (\w+): (.+)", line):
            name = f"{section}.{key[2]}" if key[1] else key[2]
            found[name] = (
                f"{section}: {{{key[2]}: {key[3].partition('  #')[0]}}}" if key[1] else line[2:],
                comment + line,
            )
        comment = comment + line if line.startswith("#") and not re.match(r"# \w+: ", line) else ""
    return found


def test_the_shipped_file_has_every_key_and_sets_none() -> None:
    """So that a copy of it changes nothing."""
    assert list(shipped()) == list(KEYS)
    assert read(SHIPPED.read_text()) == settings.read(ENOUGH)


@pytest.mark.parametrize("key", KEYS)
def test_a_shipped_value_is_the_default_or_an_example(key: str, tmp_path: Path) -> None:
    """Taking the # away changes nothing, unless the comment calls it an example: then it does."""
    line, comment = shipped()[key]
    credentials(tmp_path / "c")
    environ = {"CREDENTIALS_DIRECTORY": "c"}
    if key.endswith("appPrivateKeyPath"):  # which matters to an App alone
        environ |= {"GITHUB_APP_ID": "1", "APPROVER_GITHUB_APP_ID": "2"}
    before = settings.read(environ)
    given, wrong = serverfile.read(line.encode(), file="server.yaml")
    assert (set(given), wrong) == ({KEYS[key][0]}, ())
    if key == "credentials.directory":
        return  # what is found there is what shows
    Path("server.yaml").write_text(line)
    try:
        after = settings.read(environ | {"TELEFONISTKA_CONFIG": "server.yaml"}, make=False)
    except Invalid:
        after = None  # a file that nobody has here
    assert (after == before) is (not re.search(r"# example|\(example", comment))


def test_every_variable_that_is_read_has_a_key() -> None:
    """Secrets, and what systemd and the shell say, have none."""
    read_ones = set(re.findall(r"\bTELEFONISTKA_[A-Z_]+[A-Z]\b", Path(settings.__file__).read_text()))
    keyed = {variable for variable, _ in KEYS.values()}
    assert read_ones - {"TELEFONISTKA_CREDENTIALS"} - keyed == NO_KEY


def test_the_reference_has_every_key_and_variable() -> None:
    """In one row."""
    rows = (ROOT / "config" / "README.md").read_text().splitlines()
    missing = [
        (key, variable)
        for key, (variable, _) in KEYS.items()
        if not any(f"`{key}`" in row and f"`{variable}`" in row for row in rows if row.startswith("| "))
    ]
    assert missing == []
