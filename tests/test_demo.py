"""The commands `demo` and `sandbox` as somebody on a terminal has them: processes, Ctrl-C, git, HTTP."""

from __future__ import annotations

import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from telefonistka.sandbox import example, processes

PROGRAM = (sys.executable, "-P", "-m", "telefonistka")
DEADLINE = 60  # seconds for what takes three on an idle machine
NOTHING = "nothing to promote: no changed file belongs to a component of a flow"
GRACE = 5  # seconds for what ends by itself
ESCAPE = "\x1b["
GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command as the leader of a session of its own, so that what it leaves behind can be found."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        for member in session(process.pid):
            os.kill(member, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def session(leader: int) -> set[int]:
    """The processes of a session; those that have ended and wait to be reaped count, too."""
    members = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if int(fields[3]) == leader:
            members.add(int(stat.parent.name))
    return members


def left(leader: int) -> set[int]:
    """The processes of a session that do not end; git's own helpers take a moment to notice that git is gone."""
    deadline = time.monotonic() + GRACE
    while (members := session(leader)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return members


def read(process: subprocess.Popen[bytes], until: str | None = None) -> str:
    """What the process says: all of it, or until a text is in it."""
    assert process.stdout is not None
    output, deadline = b"", time.monotonic() + DEADLINE
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while until is None or until.encode() not in output:
            assert time.monotonic() < deadline, output.decode()
            if not selector.select(timeout=1):
                continue
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                break
            output += chunk
    text = output.decode()
    assert until is None or until in text, text
    return text


def git(*arguments: str | Path, at: Path) -> str:
    done = subprocess.run(
        ["git", *AUTHOR, *arguments], cwd=at, env=os.environ | GIT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def addresses(text: str) -> list[str]:
    return re.findall(r"http://127\.0\.0\.1:\d+", text)


async def get(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as answer:
        assert answer.status == 200, await answer.text()
        body = await answer.read()
        return orjson.loads(body) if answer.content_type == "application/json" else body.decode()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Somebody's own repository, with a file that is not committed."""
    path = tmp_path / "our deployments"
    path.mkdir()
    git("init", "--quiet", "--initial-branch", "trunk", at=path)
    (path / "lab.yaml").write_text("replicas: 1\n")
    git("add", "lab.yaml", at=path)
    git("commit", "--quiet", "--message", "First", at=path)
    (path / "draft.yaml").write_text("not yet\n")
    return path


def everything(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_the_demo_ends_well() -> None:
    """With --exit: readable without a terminal, on 100 columns, and nothing is left running."""
    with running("demo", "--exit") as process:
        text = read(process)
        assert process.wait(timeout=DEADLINE) == 0, text
        assert left(process.pid) == set()
    assert ESCAPE not in text
    assert max(map(len, text.splitlines())) <= 100
    assert "opened #3, #4" in text
    assert text.count("2 pushes, signatures right") == 5
    assert "0 API calls for the second push" in text
    assert f"clusters/staging/europe-west4/c1/{example.BLOCKED}/telefonistka.yaml:3" in text
    assert f"needs the label {example.LABEL}" in text


async def test_the_demo_does_what_it_says(tmp_path: Path) -> None:
    """Content, commit statuses and costs, read from the sandbox while it waits; then Ctrl-C ends all of it."""
    with running("demo") as process:
        text = read(process, until="metrics")
        sandbox, daemon = dict.fromkeys(addresses(text))
        repository = f"{example.OWNER}/{example.NAME}"
        async with aiohttp.ClientSession() as http:
            state = await get(http, f"{sandbox}/_sandbox/state?repo={repository}")
            calls = await get(http, f"{sandbox}/_sandbox/calls")
            files = await changed_files(http, f"{sandbox}/repos/{repository}/pulls", state)
            assert await get(http, f"{daemon}/ready")
            assert "telefonistka_outcomes_total" in await get(http, f"{daemon}/metrics")
            assert "Production Europe" in await get(http, f"{sandbox}/{repository}")
        git("clone", "--quiet", f"{sandbox}/{repository}", "clone", at=tmp_path)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=DEADLINE) == 0, read(process)
        assert left(process.pid) == set()
    assert_content(tmp_path / "clone")
    assert_statuses(state)
    assert_costs(state, calls, files)


async def changed_files(http: aiohttp.ClientSession, pulls: str, state: dict[str, Any]) -> dict[int, int]:
    numbers = [pull["number"] for pull in state["pulls"]]
    return {number: len(await get(http, f"{pulls}/{number}/files?per_page=100")) for number in numbers}


def assert_content(clone: Path) -> None:
    """Production is what staging is, to the bit, but for what may not go there."""
    for component in example.RELEASED:
        clusters = (example.LAB, *example.STAGING, *example.PRODUCTION)
        assert len({git("rev-parse", f"HEAD:{cluster}{component}", at=clone) for cluster in clusters}) == 1
        assert all((clone / cluster / component / "values.yaml").is_file() for cluster in clusters)
    assert not (clone / example.LAB / "redis/sentinel.yaml").exists()
    for cluster in example.PRODUCTION:
        assert sorted(path.name for path in (clone / cluster).iterdir()) == sorted(example.RELEASED)
    for cluster in example.STAGING:
        assert (clone / cluster / example.BLOCKED / "telefonistka.yaml").is_file()


def assert_statuses(state: dict[str, Any]) -> None:
    assert [pull["merged"] for pull in state["pulls"]] == [True] * 4
    statuses = {name: shown["telefonistka"] for name, shown in state["statuses"].items()}
    assert {name: status["state"] for name, status in statuses.items()} == {f"#{n}": "success" for n in range(1, 5)}
    assert (statuses["#1"]["description"], statuses["#2"]["description"]) == ("opened #2", "opened #3, #4")


def assert_costs(state: dict[str, Any], calls: list[dict[str, Any]], files: dict[int, int]) -> None:
    """Between one merge and the next: at most 13 + ⌈files/100⌉ + 16 for each pull request that was opened."""
    opened = {0: 1, 1: 1, 2: 2, 3: 0, 4: 0}
    made = dict.fromkeys(opened, 0)
    merged = 0
    for call in calls:
        if call["method"] == "PUT":
            merged = int(call["path"].split("/")[-2])
        elif call["identity"] == "telefonistka-bot":
            made[merged] += 1
    for number, count in made.items():
        assert 0 < count <= 13 + -(-files.get(number, 0) // 100) + 16 * opened[number]


def test_the_demo_can_be_interrupted() -> None:
    """Ctrl-C in the middle ends both processes within seconds, and says so to the shell."""
    with running("demo") as process:
        read(process, until="You merge #1")
        assert len(session(process.pid)) >= 3
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=DEADLINE) == 130
        assert left(process.pid) == set()


async def test_what_does_not_come_up_says_why(tmp_path: Path) -> None:
    """A daemon that cannot start is shown with its own words."""
    environment = {"PATH": os.environ["PATH"], "TELEFONISTKA_STATE_DIR": str(tmp_path / "state")}
    async with processes.running("daemon", ["server"], environment=environment, directory=tmp_path) as daemon:
        with pytest.raises(processes.Failed, match=r"(?s)ended with exit code 1\..*GITHUB_WEBHOOK_SECRET is not set"):
            await daemon.listening("listening")


def test_the_sandbox_serves_a_clone(own: Path, tmp_path: Path) -> None:
    """One can clone it and push to it over HTTP; the original stays as it is, to the byte."""
    before = everything(own)
    with running("sandbox", "--repo", str(own)) as process:
        text = read(process, until="Ctrl-C")
        git("clone", "--quiet", found(r"git clone (\S+)", text), at=tmp_path)
        clone = tmp_path / found(r"&& cd (\S+)", text)
        assert (clone / "lab.yaml").read_text() == "replicas: 1\n"
        assert not (clone / "draft.yaml").exists()
        git("switch", "--quiet", "--create", "change", at=clone)
        (clone / "lab.yaml").write_text("replicas: 2\n")
        git("commit", "--quiet", "--all", "--message", "More", at=clone)
        git("push", "--quiet", "origin", "change", at=clone)
        head = git("rev-parse", "HEAD", at=clone)
        assert git("ls-remote", "origin", "refs/heads/change", at=clone).split()[0] == head
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=DEADLINE) == 0, read(process)
    assert everything(own) == before


async def test_what_the_sandbox_prints_works(own: Path, tmp_path: Path) -> None:
    """The exports, as they stand, make a daemon that answers a merge; the curl line opens the pull request for it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    with running("sandbox", "--repo", str(own), "--webhook", f"http://{listen}/webhook") as process:
        text = read(process, until="Ctrl-C")
        with daemon(text):
            clone = tmp_path / "clone"
            git("clone", "--quiet", found(r"git clone (\S+)", text), clone, at=own)
            git("switch", "--quiet", "--create", "change", at=clone)
            (clone / "telefonistka.yaml").write_text("promotionPaths: []\n")
            git("add", "telefonistka.yaml", at=clone)
            git("commit", "--quiet", "--message", "Change", at=clone)
            git("push", "--quiet", "origin", "change", at=clone)
            fields, pulls = found(r"--data '(.*)'", text), found(r"(http\S+/pulls)", text)
            token = {"Authorization": found(r"'Authorization: ([^']*)'", text)}
            async with aiohttp.ClientSession() as http:
                async with http.post(pulls, data=fields, headers=token) as answer:
                    assert answer.status == 201, await answer.text()
                async with http.post(found(r"pages +(\S+)", text) + "/pull/1/merge") as answer:
                    assert answer.status == 200, await answer.text()
                assert (
                    await status(http, text) == "nothing to promote: no changed file belongs to a component of a flow"
                )
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=DEADLINE) == 0


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


@contextmanager
def daemon(text: str) -> Iterator[None]:
    """The daemon that the printed shell lines start."""
    lines = re.search(r"(?m)^  export.*?^  telefonistka server$", text, re.DOTALL)
    assert lines is not None, text
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-e", "-c", lines[0].replace("telefonistka server", "exec telefonistka server")],
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        read(process, until="listening")
        yield
    finally:
        process.terminate()
        assert process.wait(timeout=DEADLINE) == 0
        assert process.stdout is not None
        process.stdout.close()


async def status(http: aiohttp.ClientSession, text: str) -> str:
    """The commit status of the first pull request, once it tells of its merge and no longer of its opening."""
    url, repository = found(r"API +(\S+)/api/v3", text), found(r"repository +([^ ,]+)", text)

    async def look() -> str | None:
        state = await get(http, f"{url}/_sandbox/state?repo={repository}")
        shown = state["statuses"].get("#1", {}).get("telefonistka", {"state": "pending"})
        return str(shown["description"]) if shown["state"] != "pending" and "promote" in shown["description"] else None

    return await processes.until("a final status", look)


def test_the_sandbox_keeps_its_data_where_it_is_told(tmp_path: Path) -> None:
    """The repository is there after the end; a second start into it is refused with what to do."""
    directory = tmp_path / "data"
    with running("sandbox", "--dir", str(directory), "--json") as process:
        place = orjson.loads(read(process, until="}\n"))
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=DEADLINE) == 0
    (bare,) = directory.glob("repos/*.git")
    assert "telefonistka.yaml" in git("ls-tree", "--name-only", place["default_branch"], at=bare)
    assert refused("sandbox", "--dir", str(directory)) == (
        f"telefonistka: {directory} is not empty. Give --dir a directory that is new or empty, or leave it out.\n"
    )


def test_a_taken_port_is_one_line() -> None:
    """And says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused("sandbox", "--port", str(port)) == (
            f"telefonistka: port {port} is taken. Choose another with --port, or leave it out for a free one.\n"
        )


def test_a_directory_without_repository_is_one_line(tmp_path: Path) -> None:
    """And says what to do."""
    said = refused("sandbox", "--repo", str(tmp_path))
    assert said.startswith(f"telefonistka: {tmp_path} cannot be cloned. Give --repo the root of a git repository. (")
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", ["demo", "sandbox"])
def test_without_its_extra_the_sandbox_says_how_to_get_it(command: str, tmp_path: Path) -> None:
    """A module that is found first stands for one that is not installed."""
    (tmp_path / "graphql.py").write_text("raise ModuleNotFoundError(\"No module named 'graphql'\", name='graphql')\n")
    said = refused(command, environment={"PYTHONPATH": str(tmp_path)})
    assert said.endswith("Install telefonistka with its extra: pip install 'telefonistka[sandbox]'\n")
    assert said.count("\n") == 1


def refused(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What a command says that does not start."""
    done = subprocess.run(
        [*PROGRAM, *arguments],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr
