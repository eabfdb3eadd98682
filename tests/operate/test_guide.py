"""The operator's guide: what anybody can run is run, the rest agrees with the units, the alerts and the commands."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from subprocess import DEVNULL

import aiohttp
import anyio
import orjson
import pytest
from aiohttp import web
from ruamel.yaml import YAML

from telefonistka import server
from telefonistka.cli import commands
from telefonistka.sandbox import tls
from telefonistka.storage import sqlite
from tests.cli.test_help import golden, names
from tests.daemon import manager
from tests.daemon.test_process import EXIT_DEADLINE, SECRET, environment, running
from tests.daemon.values import StatusBoard, headers, pull_request, until
from tests.faults.place import reserved
from tests.test_readme import run
from tests.tools import tool

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "systemd" / "README.md"
DOCUMENTS = (ROOT / "README.md", ROOT / "config" / "README.md", GUIDE, ROOT / "tests" / "README.md")
PLACES = re.compile(r"/(?:opt|etc|var/lib)/telefonistka\b[\w./-]*")


@pytest.fixture
async def board() -> AsyncIterator[StatusBoard]:
    async with StatusBoard().running() as running_board:
        yield running_board


def fenced(language: str, text: str | None = None) -> list[str]:
    """The blocks of the guide in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text or GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def prompted(prompt: str) -> list[str]:
    """The commands after a prompt, a block each."""
    found = ("\n".join(line[2:] for line in one.splitlines() if line.startswith(prompt)) for one in fenced("console"))
    return [block for block in found if block]


def roots() -> Iterator[list[str]]:
    """The commands for root, a list of words each."""
    for block in prompted("# "):
        for line in block.splitlines():
            yield shlex.split(line)


@pytest.mark.parametrize("block", prompted("$ "))
def test_what_anybody_can_run_works(block: str, tmp_path: Path) -> None:
    """In a clone, as README's blocks."""
    ended_well, output = run(block, tmp_path)
    assert ended_well, output.decode(errors="replace")


def test_the_guide_has_blocks() -> None:
    """So that nothing here passes by finding none."""
    assert any("storage restore" in block for block in prompted("$ "))
    assert len(list(roots())) > 40


def test_each_alert_has_its_section() -> None:
    """Where `runbook` leads, in the same order; no section is left over."""
    (group,) = YAML(typ="safe").load(ROOT / "config" / "prometheus-alerts.yaml")["groups"]
    alerts = [rule["alert"] for rule in group["rules"]]
    sections = re.findall(r"^### (Telefonistka\w+)$", GUIDE.read_text(), re.MULTILINE)
    assert sections == alerts
    runbooks = [rule["annotations"]["runbook"] for rule in group["rules"]]
    assert runbooks == [f"systemd/README.md#{alert.lower()}" for alert in alerts]


def test_the_guide_puts_things_where_the_units_look_for_them() -> None:
    """The program, the server file, the credentials and the state, each by the units' own paths."""
    program, *rest = manager.told(manager.SERVICE, "ExecStart")[0].split()
    server_file = rest[rest.index("--config") + 1]
    credentials = manager.told(manager.SERVICE, "LoadCredential")[0].partition(":")[2]
    state = f"/var/lib/{manager.told(manager.SERVICE, 'StateDirectory')[0]}"
    virtual = str(Path(program).parents[1])
    known = {virtual, program, f"{virtual}/bin/pip", server_file, str(Path(server_file).parent)}
    known |= {credentials, state, f"{state}/telefonistka.db"}
    text = GUIDE.read_text() + (ROOT / "systemd" / "telefonistka.sh").read_text()
    found = {one.rstrip(".") for one in PLACES.findall(text)}
    assert {one for one in found - known if str(Path(one).parent) != credentials} == set()
    assert {program, server_file, credentials, state} <= found


def test_the_guide_names_credentials_that_are_read() -> None:
    """Those of config/README.md."""
    read = set(re.findall(r"credentials? `([a-z<>-]+)`", (ROOT / "config" / "README.md").read_text()))
    credentials = manager.told(manager.SERVICE, "LoadCredential")[0].partition(":")[2]
    named = set(re.findall(rf"{credentials}/([\w-]+)", GUIDE.read_text()))
    named |= set(re.findall(r"`((?:github|approver)-[a-z-]+|relay-secret[a-z<>-]*)`", GUIDE.read_text()))
    assert named <= read | {"relay-secret-<host>"}
    assert len(named) >= 6


def test_the_commands_for_root_exist() -> None:
    """Of ours, with their options; files that are copied are there."""
    known = {words: golden(words).read_text() for words in names(commands) if words}
    seen = set()
    for words in roots():
        if words[0] == "telefonistka":
            called = next(one for one in sorted(known, key=len, reverse=True) if tuple(words[1 : 1 + len(one)]) == one)
            seen.add(called[0])
            options = [word for word in words[1:] if word.startswith("-")]
            assert [option for option in options if not re.search(rf"{option}\b", known[called])] == [], words
        elif words[0] == "install" and "-d" not in words:
            assert [one for one in words[3:-1] if not (ROOT / one).is_file()] == [], words
    assert seen == {"server", "github-app", "doctor", "deliveries", "storage"}


def anchors(document: Path) -> set[str]:
    """https://docs.github.com/en/get-started/writing-on-github/getting-started-with-writing-and-formatting-on-github/basic-writing-and-formatting-syntax#section-links"""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """To a file of this repository, and to a title in it."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def placed(text: str, **places: str) -> str:
    """The text with our places for those of the machine that it was written for."""
    for theirs, ours in places.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    return text


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The wrapper as it is installed, and where its places are here; the storage is there, and a server file."""
    places = {
        "/opt/telefonistka/bin/telefonistka": str(Path(sys.executable).parent / "telefonistka"),
        "/etc/telefonistka": str(tmp_path / "etc"),
        "/var/lib/telefonistka": str(tmp_path / "state"),
    }
    wrapper = tmp_path / "bin" / "telefonistka"
    (tmp_path / "etc" / "credentials").mkdir(parents=True)
    (tmp_path / "backups").mkdir()
    wrapper.parent.mkdir()
    # Anybody may run the tests.
    text = placed((ROOT / "systemd" / "telefonistka.sh").read_text(), **places, **{'"$(id -u)" -eq 0': "0 -eq 0"})
    wrapper.write_text(text)
    wrapper.chmod(0o755)
    (tmp_path / "etc" / "server.yaml").write_text("promotion: {targets: [prod]}\n")
    (tmp_path / "etc" / "credentials" / "github-webhook-secret").write_text("s")
    (tmp_path / "etc" / "credentials" / "github-oauth-token").write_text("t")
    return {"/usr/local/bin/telefonistka": str(wrapper), "/var/backups": str(tmp_path / "backups")}


def fresh(command: str, *, path: str = "") -> subprocess.CompletedProcess[str]:
    """A command in a shell that knows of nothing else."""
    variables = {"PATH": f"{path}/usr/bin:/bin"}
    return subprocess.run(["sh", "-c", command], env=variables, cwd="/", capture_output=True, text=True, check=False)


def test_the_commands_for_root_work_in_a_fresh_shell(machine: dict[str, str], tmp_path: Path) -> None:
    """Twice, as upgrades and days come again: they find server file, credentials and storage by themselves."""
    bins = f"{tmp_path}/bin:"
    asked = [line for block in prompted("# ") for line in block.splitlines() if line.startswith("telefonistka ")]
    ran = [line for line in asked if re.search(r"server --check|deliveries (?:list|dead)|storage ", line)]
    assert len(ran) >= 8
    missing = fresh("telefonistka storage check", path=bins)
    assert f"There is no {tmp_path}/state/telefonistka.db." in missing.stderr
    anyio.run(emptied, tmp_path / "state" / "telefonistka.db")
    for line in [*ran, *ran]:
        done = fresh(line.replace("/var/backups", machine["/var/backups"]), path=bins)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    lone = fresh("TELEFONISTKA_CONFIG=/nowhere telefonistka storage check", path=bins)
    assert "TELEFONISTKA_CONFIG is '/nowhere'" in lone.stderr


async def emptied(database: Path) -> None:
    async with sqlite.opened(database):
        pass


def test_cron_has_all_that_it_needs(machine: dict[str, str], tmp_path: Path) -> None:
    """Five times, a user, and a command that works with cron's own environment, without a word."""
    anyio.run(emptied, tmp_path / "state" / "telefonistka.db")
    (table,) = fenced("cron")
    for line in table.splitlines():
        *times, user, command = line.split(maxsplit=6)
        assert (len(times), user) == (5, "root")
        assert "%" not in command  # which is a line's end to cron
        done = fresh(placed(command, **machine))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), line
    assert (tmp_path / "backups" / "telefonistka.db").exists()


GOOD = {"hooks": ["192.30.252.0/22", "2a0a:a440::/29"]}
OLD = "allow 192.0.2.0/24;\ndeny all;\n"


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, json.dumps(GOOD)),
        (200, ""),
        (200, "{}"),
        (200, json.dumps({"hooks": []})),
        (200, json.dumps(GOOD)[:-5]),
        (200, "<html>Bad gateway</html>"),
        (200, json.dumps({"hooks": ["192.30.252.0/22", "all; allow all"]})),
    ],
)
async def test_a_broken_list_of_githubs_addresses_changes_nothing(tmp_path: Path, status: int, answer: str) -> None:
    """An empty list would let everybody in, or nobody."""
    assert await fetched(tmp_path, status, answer) == (False, OLD, [])


async def test_the_list_of_githubs_addresses_becomes_rules(tmp_path: Path) -> None:
    """And nginx takes them, and is told."""
    rules = "allow 192.30.252.0/22;\nallow 2a0a:a440::/29;\ndeny all;\n"
    assert await fetched(tmp_path, 200, json.dumps(GOOD)) == (True, rules, ["-t", "reload nginx"])


async def fetched(directory: Path, status: int, answer: str) -> tuple[bool, str, list[str]]:
    """Whether the guide's script ends well with this answer, the list then, and what nginx and systemd were told."""
    (script,) = (one for one in fenced("sh") if "/meta" in one)
    told, rules = directory / "told", directory / "rules.conf"
    rules.write_text(OLD)
    for name in ("nginx", "systemctl"):
        (directory / name).write_text(f'#!/bin/sh\necho "$@" >>{told}\n')
        (directory / name).chmod(0o755)

    async def meta(request: web.Request) -> web.Response:
        return web.Response(status=status, text=answer)

    app = web.Application()
    app.router.add_get("/meta", meta)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        places = {"https://api.github.com": f"http://{host}:{port}", "/etc/nginx/github-hooks.conf": str(rules)}
        variables = {"PATH": f"{directory}:{os.environ['PATH']}", "NO_PROXY": "*"}
        done = await anyio.run_process(["sh", "-c", placed(script, **places)], check=False, env=variables)
    finally:
        await runner.cleanup()
    return done.returncode == 0, rules.read_text(), told.read_text().splitlines() if told.exists() else []


async def test_the_socket_listens_for_the_proxy_and_for_prometheus(tmp_path: Path, board: StatusBoard) -> None:
    """As the guide's drop-in has it: the daemon serves both addresses, one of which the proxies use."""
    (drop_in,) = fenced("ini")
    first, *listens = re.findall(r"^ListenStream=(.*)$", drop_in, re.MULTILINE)
    assert (first, len(listens)) == ("", 2)
    upstreams = set(re.findall(r"127\.0\.0\.1:\d+", fenced("nginx")[0] + fenced("caddyfile")[0]))
    (scraped,) = re.findall(r"targets: \[telefonistka\.internal:(\d+)\]", GUIDE.read_text())
    assert {listens[0]} == upstreams
    assert listens[1].endswith(f":{scraped}")
    assert not listens[1].startswith("127.")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.2", 0)) as other:
        # systemd hands sockets over from descriptor 3 on, to a process that knows itself to be meant.
        handed = 'exec 3<&$0 4<&$1; export LISTEN_PID=$$ LISTEN_FDS=2; shift; exec "$@"'
        given = [str(one.fileno()), str(other.fileno())]
        command = ["bash", "-c", handed, *given, sys.executable, "-m", "telefonistka", "server"]
        environ = environment(tmp_path / "state", board.url)
        with (tmp_path / "log").open("wb") as log:
            process = await anyio.open_process(
                command, env=environ, stdin=DEVNULL, stdout=log, stderr=log, pass_fds=(one.fileno(), other.fileno())
            )
        try:
            async with aiohttp.ClientSession() as http:
                for host, port in (one.getsockname(), other.getsockname()):
                    async with http.get(f"http://{host}:{port}/metrics") as answer:
                        assert "telefonistka_ready" in await answer.text()
            process.terminate()
            with anyio.fail_after(EXIT_DEADLINE):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
            await process.aclose()


def nginx(directory: Path, **places: str) -> list[str]:
    """The command that starts nginx with the example, whose addresses are replaced by these."""
    (example,) = fenced("nginx")
    tls.server(directory, "127.0.0.1")
    (directory / "hooks.conf").write_text("allow 127.0.0.0/8;\ndeny all;\n")
    chain = str(directory / "server.pem")  # a file with certificate and key
    pairs = {
        "proxy_pass": f"include {directory}/hooks.conf;\n        proxy_pass",
        "/etc/ssl/telefonistka/fullchain.pem": chain,
        "/etc/ssl/telefonistka/key.pem": chain,
        **places,
    }
    for theirs, ours in pairs.items():
        assert theirs in example
        example = example.replace(theirs, ours)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    whole = f"daemon off;\n{user}\npid {directory}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}\n{example}}}\n"
    (directory / "nginx.conf").write_text(whole)
    return [tool("nginx", "nginx"), "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf")]


def test_nginx_takes_the_example(tmp_path: Path) -> None:
    """`nginx -t`, with a certificate of our own and GitHub's addresses included."""
    done = subprocess.run([*nginx(tmp_path), "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_behind_nginx_only_the_webhook_is_public(tmp_path: Path, board: StatusBoard) -> None:
    """With GitHub's largest body, and to the byte: its signature holds."""
    trust = ssl.create_default_context()
    with reserved() as port:
        async with running(tmp_path / "state", board.url) as daemon, AsyncExitStack() as stack:
            places = {"443 ssl": f"127.0.0.1:{port} ssl", "http://127.0.0.1:8080": daemon.url}
            front = await anyio.open_process(nginx(tmp_path, **places), stdin=DEVNULL, stdout=DEVNULL)
            stack.push_async_callback(front.aclose)
            stack.callback(front.terminate)
            trust.load_verify_locations(cafile=tmp_path / tls.AUTHORITY)
            connector = aiohttp.TCPConnector(ssl=trust)
            http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            url = f"https://127.0.0.1:{port}"
            await until(lambda: answers(http, url))
            large = orjson.dumps(pull_request(action="edited", merged=False, title="x" * (25 << 20)))
            async with http.post(f"{url}/webhook", data=io.BytesIO(large), headers=headers(large, SECRET)) as answer:
                assert answer.status == 202, await answer.text()
            for path in ("/metrics", "/ready", "/live", "/webhook/x"):
                async with http.get(f"{url}{path}") as answer:
                    assert answer.status == 404
            assert await daemon.stop() == 0


async def answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url):
            return True
    except aiohttp.ClientConnectionError:
        return False


def test_caddy_takes_the_example(tmp_path: Path) -> None:
    """`caddy validate`."""
    (example,) = fenced("caddyfile")
    (tmp_path / "Caddyfile").write_text(example)
    command = [tool("caddy", "caddy"), "validate", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    variables = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr


def test_proxies_let_githubs_largest_body_through() -> None:
    """The daemon's own limit, in each example."""
    assert server.BODY_LIMIT >> 20 == 26
    assert "client_max_body_size 26m;" in fenced("nginx")[0]
    assert "max_size 26MiB" in fenced("caddyfile")[0]
