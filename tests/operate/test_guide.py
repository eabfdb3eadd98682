"""The operator's guide: what anybody can run is run, the rest agrees with the units, the alerts and the commands."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
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
from ruamel.yaml import YAML

from telefonistka import server
from telefonistka.cli import commands
from telefonistka.sandbox import tls
from tests.cli.test_help import golden, names
from tests.daemon import manager
from tests.daemon.test_process import SECRET, running
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
    environment = str(Path(program).parents[1])
    known = {environment, program, f"{environment}/bin/pip", server_file, str(Path(server_file).parent)}
    known |= {credentials, state, f"{state}/telefonistka.db"}
    found = {one.rstrip(".") for one in PLACES.findall(GUIDE.read_text())}
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


def test_the_list_of_githubs_addresses_becomes_rules() -> None:
    """By the guide's own line."""
    (line,) = (words for words in roots() if words[0] == "python3" and words[1] == "-c")
    answer = {"hooks": ["192.30.252.0/22", "2a0a:a440::/29"]}
    code = line[2].replace('open("/run/github-meta.json")', "__import__('sys').stdin")
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(answer), capture_output=True, text=True, check=True
    )
    assert done.stdout == "allow 192.30.252.0/22;\nallow 2a0a:a440::/29;\ndeny all;\n"


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
