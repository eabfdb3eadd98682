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
        admin_listen=tmp_path / "state" / "admin.sock",
    )
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_an_empty_variable_is_not_set() -> None:
    """As a template leaves it behind."""
    names = [
        "CREDENTIALS_DIRECTORY",
        "CUSTOM_COMMIT_STATUS_URL_TEMPLATE_PATH",
        "GITHUB_APP_ID",
        "GITHUB_HOST",
        "HANDLE_SELF_COMMENT",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_TRACES_EXPORTER",
        "STATE_DIRECTORY",
        "TELEFONISTKA_ADMIN_LISTEN",
        "TELEFONISTKA_CENSUS_INTERVAL",
        "TELEFONISTKA_GITHUB_CA_FILE",
        "TELEFONISTKA_GITHUB_NOTIFY_INTERVAL",
        "TELEFONISTKA_GITHUB_WRITE_INTERVAL",
        "TELEFONISTKA_LISTEN",
        "TELEFONISTKA_RECOVERY_INTERVAL",
        "TELEFONISTKA_RELAY_ALLOWED_HOSTS",
        "TELEFONISTKA_RELAY_ALLOWED_NETWORKS",
        "TELEFONISTKA_RELAY_CA_FILE",
        "TELEFONISTKA_RELAY_INSECURE_TLS",
        "TELEFONISTKA_STATE_DIR",
        "TELEFONISTKA_STORAGE_MAX_AGE",
        "TELEFONISTKA_STORAGE_MAX_SIZE",
        "TELEFONISTKA_STORAGE_URL",
        "TELEFONISTKA_TRACE_URL",
        "TEMPLATES_PATH",
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
        {"TELEFONISTKA_ADMIN_LISTEN": "0.0.0.0:8081"},
        {"TELEFONISTKA_ADMIN_LISTEN": "admin.example.com:8081"},
        {"TELEFONISTKA_ADMIN_LISTEN": "127.0.0.1:http"},
        {"TELEFONISTKA_RELAY_ALLOWED_HOSTS": "*.example.com"},
        {"TELEFONISTKA_RELAY_ALLOWED_NETWORKS": "127.0.0.0/33"},
        {"TELEFONISTKA_RELAY_INSECURE_TLS": "maybe"},
        {"TELEFONISTKA_RELAY_CA_FILE": "nowhere.pem"},
        {"TELEFONISTKA_RELAY_MAX_AGE": "a day"},
        {"TELEFONISTKA_RELAY_MAX_WAITING": "0"},
        {"TELEFONISTKA_RELAY_MAX_IN_FLIGHT": "many"},
        {"LOG_FORMAT": "xml"},
        {"TELEFONISTKA_TRACE_URL": "https://jaeger.example.com/trace/"},
        {"TELEFONISTKA_TRACE_URL": "jaeger.example.com/trace/{trace_id}"},
        {"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"},
        {"TELEFONISTKA_STORAGE_MAX_AGE": "long"},
        {"TELEFONISTKA_RECOVERY_INTERVAL": "-1"},
        {"TELEFONISTKA_CENSUS_INTERVAL": "now and then"},
        {"TELEFONISTKA_STORAGE_MAX_SIZE": "1 GB"},
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


def test_there_is_no_ceiling_by_default() -> None:
    """A drop-in changes nothing of what repositories may do."""
    found = read()
    assert (found.promotion_auto_merge, found.promotion_auto_approve) == (True, True)
    assert (found.github_repositories, found.promotion_targets, found.approver) == ((), (), None)


def test_the_ceiling_is_what_the_operator_says() -> None:
    found = read(
        TELEFONISTKA_GITHUB_REPOSITORIES="acme/iac, other/*",
        TELEFONISTKA_PROMOTION_TARGETS="staging/,prod/",
        TELEFONISTKA_PROMOTION_AUTO_MERGE="false",
        TELEFONISTKA_PROMOTION_AUTO_APPROVE="0",
        TELEFONISTKA_PROMOTION_MAX_AUTO_MERGE_DELETIONS="0",
    )
    assert found.github_repositories == ("acme/iac", "other/*")
    assert found.promotion_targets == ("staging/", "prod/")
    assert (found.promotion_auto_merge, found.promotion_auto_approve) == (False, False)
    assert found.promotion_max_auto_merge_deletions == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TELEFONISTKA_GITHUB_REPOSITORIES", "acme"),
        ("TELEFONISTKA_GITHUB_REPOSITORIES", "acme/iac/x"),
        ("TELEFONISTKA_PROMOTION_AUTO_MERGE", "no"),
        ("TELEFONISTKA_PROMOTION_AUTO_APPROVE", "off"),
        ("TELEFONISTKA_PROMOTION_MAX_AUTO_MERGE_DELETIONS", "many"),
    ],
)
def test_a_ceiling_that_is_not_understood_stops_the_start(name: str, value: str) -> None:
    """It would be none, and that would be the opposite of what is meant."""
    (problem,) = problems(**{name: value})
    assert problem.startswith(f"{name} ")


def test_the_approver_is_a_token_or_an_app(tmp_path: Path) -> None:
    """By the original's variables, or by credential files of the same names."""
    assert read(APPROVER_GITHUB_OAUTH_TOKEN="a").approver == TokenCredentials("a")
    (tmp_path / "approver-github-app-private-key").write_text(KEY)
    found = read(APPROVER_GITHUB_APP_ID="9", CREDENTIALS_DIRECTORY=str(tmp_path)).approver
    assert found == AppCredentials(9, KEY)


def test_an_approvers_key_is_checked_at_the_start() -> None:
    (problem,) = problems(APPROVER_GITHUB_APP_ID="9")
    assert problem.startswith("APPROVER_GITHUB_APP_PRIVATE_KEY_PATH is not set, but APPROVER_GITHUB_APP_ID is.")


def test_what_the_relay_may_do_is_the_operators_choice() -> None:
    """Hosts by name, special networks, certificates; nothing of it by default."""
    found = read(
        TELEFONISTKA_RELAY_ALLOWED_HOSTS="Example.com, argocd.example.net.",
        TELEFONISTKA_RELAY_ALLOWED_NETWORKS="127.0.0.0/8,::1/128",
        TELEFONISTKA_RELAY_INSECURE_TLS="1",
    )
    assert found.relay_allowed_hosts == ("example.com", "argocd.example.net")
    assert [str(network) for network in found.relay_allowed_networks] == ["127.0.0.0/8", "::1/128"]
    assert found.relay_insecure_tls
    default = read()
    assert (default.relay_allowed_hosts, default.relay_allowed_networks, default.relay_insecure_tls) == ((), (), False)


def test_secrets_of_receivers_are_credentials(tmp_path: Path) -> None:
    """One for all, and one for a host of its own; never shown."""
    (tmp_path / "relay-secret").write_text("hunter2\n")
    (tmp_path / "relay-secret-argocd.example.com").write_text("hunter3")
    found = read(CREDENTIALS_DIRECTORY=str(tmp_path))
    assert found.relay_secrets == {"": b"hunter2", "argocd.example.com": b"hunter3"}
    assert "hunter" not in repr(found)


def test_the_operators_listener_is_a_socket_or_on_loopback(tmp_path: Path) -> None:
    """Whoever reaches it may send deliveries again."""
    assert read(TELEFONISTKA_ADMIN_LISTEN=f"unix:{tmp_path}/a.sock").admin_listen == tmp_path / "a.sock"
    assert read(TELEFONISTKA_ADMIN_LISTEN="[::1]:8081").admin_listen == Address("::1", 8081)
    asked = settings.admin({"TELEFONISTKA_STATE_DIR": str(tmp_path / "elsewhere")})
    assert (asked.listen, asked.database.name) == (tmp_path / "elsewhere" / "admin.sock", "telefonistka.db")
    assert not (tmp_path / "elsewhere").exists()


def test_how_much_is_kept_is_the_operators_choice() -> None:
    """In seconds, and in megabytes."""
    found = read(TELEFONISTKA_STORAGE_MAX_AGE="86400", TELEFONISTKA_STORAGE_MAX_SIZE="100")
    assert (found.storage_max_age, found.storage_max_size) == (86400.0, 100 << 20)


def test_how_often_github_is_asked_is_the_operators_choice() -> None:
    """In seconds; nought is never."""
    found = read(TELEFONISTKA_RECOVERY_INTERVAL="0", TELEFONISTKA_CENSUS_INTERVAL="600")
    assert (found.recovery_interval, found.census_interval) == (0.0, 600.0)
    assert (read().recovery_interval, read().census_interval) == (300.0, 60.0)


def test_the_operators_words_stand_in_a_directory(tmp_path: Path) -> None:
    """Which may end with a slash, as the original wants it; a file is none."""
    assert read(TEMPLATES_PATH=f"{tmp_path}/").templates_path == tmp_path
    file = tmp_path / "file"
    file.touch()
    for wrong in (file, tmp_path / "missing"):
        with pytest.raises(Invalid, match=r"TEMPLATES_PATH is .*, no directory that can be read"):
            read(TEMPLATES_PATH=str(wrong))


def test_a_link_template_that_is_missing_is_no_reason_not_to_start(tmp_path: Path) -> None:
    """D91: the daemon warns, and leads to its comments."""
    path = tmp_path / "missing"
    assert read(CUSTOM_COMMIT_STATUS_URL_TEMPLATE_PATH=str(path)).status_url_template == path


def test_traces_are_exported_where_an_endpoint_is_given() -> None:
    """By the standard variables, which also switch them off."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    url = "https://jaeger.example.com/trace/{trace_id}"
    assert (read(TELEFONISTKA_TRACE_URL=url).traces, read(TELEFONISTKA_TRACE_URL=url).trace_url) == (None, url)
    assert read(**endpoint).traces == 8192
    own = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector/v1/traces", "OTEL_BSP_MAX_QUEUE_SIZE": "512"}
    assert read(**own).traces == 512
    assert read(**endpoint, OTEL_TRACES_EXPORTER="none").traces is None
    assert read(**endpoint, OTEL_SDK_DISABLED="true").traces is None
    # The variable of traces goes before that of everything.
    own = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert read(**endpoint, **own).traces is not None
