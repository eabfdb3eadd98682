"""Who we are: installations found, tokens minted, renewed in time and only once."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import anyio
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from telefonistka import telemetry
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import Forbidden, auth
from telefonistka.github.auth import App, Token
from telefonistka.github.client import Client
from telefonistka.github.endpoint import Endpoint
from telefonistka.github.limits import Pacing
from tests.github.scripted import Asked, Reply, Scripted, Stopwatch, identity

THING = "/repos/acme/iac/thing"
MINT = "POST /app/installations/7/access_tokens"
MINTED = Reply(201, {"token": "t", "expires_at": "2001-01-01T00:00:00Z"})


@pytest.fixture(scope="module")
def app() -> App:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return App(12, pem.decode())


class Mint:
    """Gives tokens t1, t2 … that live an hour; `valid` is the one that the thing below accepts."""

    def __init__(self, github: Scripted) -> None:
        self.given = 0
        self.accepted = ""
        github.on(MINT, self.token)
        github.on(f"GET {THING}", self.thing)

    async def token(self, asked: Asked) -> Reply:
        self.given += 1
        self.accepted = f"t{self.given}"
        return Reply(201, {"token": self.accepted, "expires_at": "2001-01-01T00:00:00Z"})

    async def thing(self, asked: Asked) -> Reply:
        good = asked.headers["Authorization"] == f"token {self.accepted}"
        return Reply(200, {"id": 1}) if good else Reply(401, {"message": "Bad credentials"})


async def test_an_installation_token_is_kept_and_renewed_early(github: Scripted, watch: Stopwatch, app: App) -> None:
    """Even where GitHub's clock and ours disagree by years."""
    mint = Mint(github)
    async with identity(github, app, watch) as us:
        client = await us.client("acme", "iac", 7)
        await client.get(THING)
        watch.now += 4 * 60
        await client.get(THING)
        assert mint.given == 1
        watch.now += 60 * 60
        await client.get(THING)
        assert mint.given == 2


async def test_the_app_proves_itself_with_a_short_lived_jwt(github: Scripted, watch: Stopwatch, app: App) -> None:
    """Issued a minute ago, for less than ten minutes in all, by the App's id."""
    Mint(github)
    async with identity(github, app, watch) as us:
        await (await us.client("acme", "iac", 7)).get(THING)
    scheme, _, token = github.asked[0].headers["Authorization"].partition(" ")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert scheme == "bearer"
    assert claims["iss"] == "12"
    assert claims["exp"] - claims["iat"] <= 600


@pytest.mark.parametrize("status", [200, 404])
async def test_an_identity_asks_whether_it_is_known(github: Scripted, watch: Stopwatch, app: App, status: int) -> None:
    """A token what is left of its limits, which an Enterprise Server may not have; an App who it is."""
    for who, asks, scheme in ((Token("t0ken"), "/rate_limit", "token"), (app, "/app", "bearer")):
        github.on(f"GET {asks}", Reply(status, {}))
        async with identity(github, who, watch) as us:
            await us.greet()
            assert (github.asked[-1].path, github.asked[-1].headers["Authorization"].split()[0]) == (asks, scheme)
            github.on(f"GET {asks}", Reply(401, {"message": "Bad credentials"}))
        async with identity(github, who, watch) as us:
            with pytest.raises(Forbidden):
                await us.greet()
            assert us.refused


async def test_each_installation_has_a_budget_of_its_own(github: Scripted, watch: Stopwatch, app: App) -> None:
    """In the metrics under the account on which the App is installed, also where a path names none."""
    told = {"x-ratelimit-limit": "5500", "x-ratelimit-reset": "9", "x-ratelimit-resource": "graphql"}
    data = {"data": {"viewer": {"login": "bot"}}}
    left = [told | {"x-ratelimit-remaining": number} for number in ("77", "78")]
    github.on("POST /graphql", *(Reply(200, data, headers) for headers in left))
    async with identity(github, app, watch) as us:
        for owner, installation in (("first-org", 7), ("second-org", 8)):
            github.on(f"POST /app/installations/{installation}/access_tokens", MINTED)
            await (await us.client(owner, "iac", installation)).query("query Viewer { viewer { login } }")
    text = telemetry.render().decode()
    for owner, number in (("first-org", 77), ("second-org", 78)):
        labels = f'identity="main",repo_owner="{owner}",resource="graphql"'
        assert f"telefonistka_github_rate_remaining{{{labels}}} {number}.0\n" in text


async def test_waiting_callers_share_one_renewal(github: Scripted, watch: Stopwatch, app: App) -> None:
    mint = Mint(github)
    async with identity(github, app, watch) as us, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon((await us.client("acme", "iac", 7)).get, THING)
    assert mint.given == 1


async def test_a_token_that_is_refused_is_renewed_once_for_all(github: Scripted, watch: Stopwatch, app: App) -> None:
    """Revoked early: every caller goes on with the same new token."""
    mint = Mint(github)
    async with identity(github, app, watch) as us:
        client = await us.client("acme", "iac", 7)
        await client.get(THING)
        mint.accepted = "revoked"
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(client.get, THING)
    assert mint.given == 2


async def test_an_app_that_is_always_refused_stops_asking(github: Scripted, watch: Stopwatch, app: App) -> None:
    """One renewal, one more try, then the operator is told."""
    Mint(github)
    github.on(f"GET {THING}", Reply(401, {"message": "Bad credentials"}))
    async with identity(github, app, watch) as us:
        with pytest.raises(Forbidden, match="private key"):
            await (await us.client("acme", "iac", 7)).get(THING)
    assert github.count(MINT) == 2


async def test_whether_github_knows_us_is_what_it_said_last(github: Scripted, watch: Stopwatch, app: App) -> None:
    """A token that was renewed in time is no trouble, and neither is what we may not do."""
    mint = Mint(github)
    answers = [Reply(401, {"message": "Bad credentials"}), Reply(), Reply(403, {"message": "No"})]
    github.on(f"GET {THING}", *answers, Reply(401, {"message": "Bad credentials"}))
    async with identity(github, app, watch) as us:
        client = await us.client("acme", "iac", 7)
        await client.get(THING)
        assert (us.refused, mint.given) == (False, 2)
        with pytest.raises(Forbidden):
            await client.get(THING)
        assert not us.refused
        with pytest.raises(Forbidden):
            await client.get(THING)
        assert us.refused
        github.on(f"GET {THING}", Reply())
        await client.get(THING)
        assert not us.refused


async def test_another_pace_counts_for_the_next_write(github: Scripted, watch: Stopwatch) -> None:
    """Of clients that are there already, and of later ones."""
    github.on("POST /repos/acme/iac/git/refs", Reply(201))
    async with identity(github, Token("t"), watch) as us:
        client = await us.client("acme", "iac")
        us.pace(Pacing(write=5, notify=5))
        start = watch.now
        for passed in (0, 5, 10):
            await client.post("/repos/acme/iac/git/refs", data={})
            assert watch.now - start == passed


async def test_minting_is_repeated_after_a_passing_fault(github: Scripted, watch: Stopwatch, app: App) -> None:
    mint = Mint(github)
    github.on(MINT, Reply(502), mint.token)
    async with identity(github, app, watch) as us:
        await (await us.client("acme", "iac", 7)).get(THING)


async def test_a_removed_installation_is_named(github: Scripted, watch: Stopwatch, app: App) -> None:
    async with identity(github, app, watch) as us:
        with pytest.raises(Rejected, match="installation 7 is gone"):
            await (await us.client("acme", "iac", 7)).get(THING)


async def test_the_installation_is_looked_up_where_the_payload_does_not_say(
    github: Scripted, watch: Stopwatch, app: App
) -> None:
    """Asked once, then remembered for some minutes."""
    Mint(github)
    github.on("GET /repos/acme/iac/installation", Reply(200, {"id": 7}))
    async with identity(github, app, watch) as us:
        first: Client = await us.client("acme", "iac")
        assert first is await us.client("Acme", "other")
        await first.get(THING)
        watch.now += 60 * 60
        await us.client("acme", "iac")
    assert github.count("GET /repos/acme/iac/installation") == 2


async def test_the_installation_is_found_on_any_page(github: Scripted, watch: Stopwatch, app: App) -> None:
    """By its owner, in any case; the original read the first thirty only."""
    Mint(github)
    link = {"link": f'<{github.url}/api/v3/app/installations?page=2>; rel="next"'}
    github.on("GET /app/installations?per_page=100", Reply(200, [_installation(1, "a")], link))
    enterprise = {"id": 3, "account": {"slug": "acme"}}
    github.on("GET /app/installations?page=2", Reply(200, [enterprise, _installation(7, "ACME")]))
    async with identity(github, app, watch) as us:
        assert await (await us.client("acme", "iac")).get(THING) == {"id": 1}


async def test_an_owner_without_the_app_is_told(github: Scripted, watch: Stopwatch, app: App) -> None:
    github.on("GET /app/installations?per_page=100", Reply(200, []))
    async with identity(github, app, watch) as us:
        with pytest.raises(Rejected, match="not installed on `acme`"):
            await us.client("acme", "iac")


def _installation(id_: int, login: str) -> dict[str, object]:
    return {"id": id_, "account": {"login": login}}


async def test_the_login_of_an_app_is_that_of_its_bot(github: Scripted, watch: Stopwatch, app: App) -> None:
    github.on("GET /app", Reply(200, {"slug": "telefonistka"}))
    github.on("GET /user", Reply(200, {"login": "rob"}))
    async with identity(github, app, watch) as us:
        assert [await us.login(), await us.login()] == ["telefonistka[bot]"] * 2
    async with identity(github, Token("t"), watch) as us:
        assert await us.login() == "rob"
    assert len(github.asked) == 2


def test_a_wrong_key_is_told_at_start(app: App) -> None:
    app.check()
    with pytest.raises(ValueError, match="private key of App 12"):
        App(12, "-----BEGIN RSA PRIVATE KEY-----\nnonsense").check()


def test_secrets_are_not_printed(app: App) -> None:
    assert "PRIVATE" not in repr(app)
    assert "s3cret" not in repr(Token("s3cret"))


async def test_a_proxy_is_used_unless_it_is_excepted(
    github: Scripted, watch: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables that Go's and everyone else's HTTP clients honour; a ~/.netrc changes nothing."""
    monkeypatch.setenv("HTTP_PROXY", github.url)
    monkeypatch.setenv("http_proxy", github.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("no_proxy", "excepted.example")
    assert auth.proxy("http://excepted.example/api/v3") is None
    endpoint = Endpoint.of("http://ghe.example")
    github.on("GET http://ghe.example/api/v3/user", Reply(200, {"login": "rob"}))
    async with auth.session(endpoint) as session:
        us = auth.Identity(Token("t"), endpoint, session, clock=watch.clock)
        assert await us.login() == "rob"


def certified(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that signs itself, and a server's side of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ghe.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca_file, private = directory / "ca.pem", directory / "key.pem"
    ca_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(ca_file, private)
    return ca_file, server


async def test_a_server_of_a_private_authority_is_trusted_by_its_file(watch: Stopwatch, tmp_path: Path) -> None:
    """And without that file it is not, in so many words."""
    ca_file, tls = certified(tmp_path)
    async with Scripted().running(tls) as github:
        github.on("GET /user", Reply(200, {"login": "rob"}))
        async with auth.session(github.endpoint, ca_file=ca_file) as session:
            assert await auth.Identity(Token("t"), github.endpoint, session).login() == "rob"
        async with auth.session(github.endpoint) as session:
            with pytest.raises(TryAgain, match=r"certificate .* is not trusted"):
                await auth.Identity(Token("t"), github.endpoint, session).login()


async def test_a_ca_file_that_cannot_be_read_is_an_error_at_start(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("nonsense")
    with pytest.raises(ssl.SSLError):
        auth.session(Endpoint.of(""), ca_file=broken)


@pytest.mark.parametrize(
    ("host", "rest", "graphql"),
    [
        ("", "https://api.github.com", "https://api.github.com/graphql"),
        ("github.com", "https://api.github.com", "https://api.github.com/graphql"),
        ("https://api.github.com/", "https://api.github.com", "https://api.github.com/graphql"),
        ("ghe.example.com", "https://ghe.example.com/api/v3", "https://ghe.example.com/api/graphql"),
        (
            "https://ghe.example.com:8443/",
            "https://ghe.example.com:8443/api/v3",
            "https://ghe.example.com:8443/api/graphql",
        ),
        ("https://ghe.example.com/api/v3", "https://ghe.example.com/api/v3", "https://ghe.example.com/api/graphql"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/api/v3", "http://127.0.0.1:8080/api/graphql"),
        ("octo.ghe.com", "https://api.octo.ghe.com", "https://api.octo.ghe.com/graphql"),
    ],
)
def test_github_host_is_a_name_or_an_address(host: str, rest: str, graphql: str) -> None:
    """https://docs.github.com/en/enterprise-server/graphql/guides/forming-calls-with-graphql#the-graphql-endpoint"""
    endpoint = Endpoint.of(host)
    assert (endpoint.rest, endpoint.graphql) == (rest, graphql)


@pytest.mark.parametrize("host", ["ftp://ghe", "https://ghe/other", "https://user@ghe", "https://", "ghe?x=1"])
def test_a_host_that_is_neither_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="GITHUB_HOST is"):
        Endpoint.of(host)
