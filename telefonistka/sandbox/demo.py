"""The demo: one change on its way from the lab to production, past a real daemon and the sandbox, told line by line.

What belongs here: the story, and that each step comes true. Sandbox and daemon are processes of their own, and
everything is done as a person would do it: with git, and over the public REST API.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import aiohttp
import anyio
import orjson

from telefonistka.core import lineage
from telefonistka.sandbox import example, hosting, processes
from telefonistka.sandbox.odb import ENVIRONMENT, GIT
from telefonistka.sandbox.processes import Failed, Process
from telefonistka.sandbox.receivers import Receiver, receiving

FILES_A_CALL = 100  # changed files that one API call lists
AFTER_A_MERGE = 13  # API calls: the plan, the status, the result, and that of the merge before
A_PROMOTION = 16  # API calls: opening it, and looking at it when GitHub tells that it is open
UNDER_WAY = ("waiting", "running")  # work
COLUMN = 12  # characters for what a line is about
NO_PAUSES = {"TELEFONISTKA_GITHUB_WRITE_INTERVAL": "0", "TELEFONISTKA_GITHUB_NOTIFY_INTERVAL": "0"}


class Tone(StrEnum):
    """How a piece of text is meant, for whoever has colours."""

    PLAIN = "plain"
    STRONG = "strong"
    DIM = "dim"
    GOOD = "good"
    LINK = "link"


Span = tuple[str, Tone]
Tell = Callable[[Sequence[Span]], None]  # one line


async def run(tell: Tell, environment: Mapping[str, str], *, stay: bool) -> None:
    """Tell the story, then, if asked to stay, the addresses to look around, and wait for Ctrl-C.

    Raises Failed where a step does not come true.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="telefonistka-demo-") as name:
        async with _stage(Path(name), environment) as stage:
            try:
                story = _Story(stage, tell, started)
                await story.tell_all()
                if stay:
                    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                        story.tell_addresses()
                        await anext(aiter(signals))
            except Failed as failed:
                words = f"{failed}\n\nThe daemon's last words:\n\n{stage.daemon.last_words()}"
                raise Failed(words) from failed


# Who takes part


@dataclass(frozen=True, slots=True)
class _Person:
    """Somebody at the sandbox's API."""

    session: aiohttp.ClientSession
    url: str

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. Raises Failed where it is no good one."""
        try:
            async with self.session.request(method, self.url + path, json=body) as answer:
                said = await answer.read()
        except aiohttp.ClientError as error:
            raise Failed(f"{method} {path} got no answer: {error}") from error
        if answer.status >= 400:
            raise Failed(f"{method} {path} was answered with {answer.status}: {said.decode(errors='replace')}")
        return orjson.loads(said)


@dataclass(frozen=True, slots=True)
class _Stage:
    """The sandbox and the daemon, running, and who uses them."""

    place: Mapping[str, Any]  # what the sandbox says of itself: hosting.Place
    person: _Person
    daemon: Process
    daemon_url: str
    directory: Path
    environment: Mapping[str, str]
    argo_cds: Sequence[Receiver]

    @property
    def repo(self) -> str:
        """Its path in the REST API."""
        return f"/api/v3/repos/{self.place['repository']}"

    @property
    def page(self) -> str:
        return f"{self.place['url']}/{self.place['repository']}"


@asynccontextmanager
async def _stage(directory: Path, environment: Mapping[str, str]) -> AsyncIterator[_Stage]:
    """Two processes, ready; they have ended when the block has."""
    alone = ["sandbox", "--json", "--webhook", "", "--dir", str(directory / "sandbox")]
    async with processes.running("sandbox", alone, environment=environment, directory=directory) as sandbox:
        place = orjson.loads((await sandbox.listening(r"^\{.*\}\n"))[0])
        secrets = {"GITHUB_OAUTH_TOKEN": place["bot"]["token"], "GITHUB_WEBHOOK_SECRET": place["secret"]}
        where = {
            "GITHUB_HOST": place["url"],
            "TELEFONISTKA_LISTEN": "127.0.0.1:0",
            "TELEFONISTKA_STATE_DIR": str(directory / "state"),
            "TELEFONISTKA_RELAY_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        theirs = {**environment, **secrets, **where, **NO_PAUSES}
        async with (
            processes.running("daemon", ["server"], environment=theirs, directory=directory) as daemon,
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {place['person']['token']}"}) as session,
        ):
            port = int((await daemon.listening(r'"port":(\d+),.*"event":"listening".*\n'))[1])
            url = f"http://127.0.0.1:{port}"
            person = _Person(session, place["url"])
            hook = {"repo": place["repository"], "url": f"{url}/webhook", "secret": place["secret"]}
            await person.ask("POST", "/_sandbox/hooks", hook | {"events": hosting.EVENTS})
            async with AsyncExitStack() as stack:
                receivers = [Receiver(name, place["secret"]) for name in example.ARGO_CDS]
                receivers[-1].busy = 1
                for receiver in receivers:
                    await stack.enter_async_context(receiving(receiver))
                yield _Stage(place, person, daemon, url, directory, environment, receivers)


# What happens


@dataclass(frozen=True, slots=True)
class _Merge:
    """What a merged pull request led to."""

    status: Mapping[str, Any]
    opened: Sequence[Mapping[str, Any]]
    calls: int
    most: int  # calls that may be made
    milliseconds: float


class _Story:
    def __init__(self, stage: _Stage, tell: Tell, started: float) -> None:
        self._stage = stage
        self._ask = stage.person.ask
        self._tell = tell
        self._started = started
        self._step = 0
        self._calls = 0
        self._clone = stage.directory / "clone"

    async def tell_all(self) -> None:
        """Every step, as it happens. Raises Failed."""
        await self._introduce()
        first = await self._open()
        (staging,) = await self._merge(first, "Staging")
        await self._preview(staging)
        for production in await self._merge(staging, "Production Europe", "Production America and Asia"):
            await self._merge(production)
        await self._compare()
        await self._fan_out()
        self._sum_up()

    async def _introduce(self) -> None:
        ready = await self._daemon_is("ready")
        took = (time.perf_counter() - self._started) * 1000
        self._line(("Telefonistka: one change on its way from the lab to production", Tone.STRONG))
        self._line()
        self._field("sandbox", (self._stage.place["url"], Tone.LINK), ("  a local GitHub over real git", Tone.DIM))
        note = f"  telefonistka server, {ready} after {took:.0f} ms"
        self._field("daemon", (self._stage.daemon_url, Tone.LINK), (note, Tone.DIM))
        shape = ": 1 cluster in the lab → 2 for staging → 3 for production"
        self._field("repository", (self._stage.place["repository"] + shape, Tone.PLAIN))

    async def _daemon_is(self, what: str) -> str:
        async def look() -> str | None:
            url = f"{self._stage.daemon_url}/{what}"
            try:
                async with self._stage.person.session.get(url, headers={"Authorization": ""}) as answer:
                    return what if answer.status == 200 else None
            except aiohttp.ClientError:
                return None

        return await processes.until(f"the daemon is {what}", look)

    # What the person does

    async def _open(self) -> Mapping[str, Any]:
        """The pull request of the change, made with git and the API."""
        await self._git("clone", "--quiet", f"{self._stage.page}.git", str(self._clone), at=self._stage.directory)
        await self._git("switch", "--quiet", "--create", example.BRANCH)
        for path, text in example.change().items():
            file = self._clone / path
            if text is None:
                file.unlink()
            else:
                file.parent.mkdir(exist_ok=True)
                file.write_text(text)
        await self._git("add", "--all")
        await self._git("commit", "--quiet", "--message", example.TITLE)
        await self._git("push", "--quiet", "origin", example.BRANCH)
        fields = {"title": example.TITLE, "head": example.BRANCH, "base": self._stage.place["default_branch"]}
        pull: Mapping[str, Any] = await self._ask("POST", f"{self._stage.repo}/pulls", fields)
        self._headline(f"You change all three components in the lab, push, and open #{pull['number']}")
        self._field("pull", (f"#{pull['number']} {pull['title']}", Tone.PLAIN))
        self._field("files", (await self._files(pull), Tone.PLAIN))
        return pull

    async def _merge(self, pull: Mapping[str, Any], *expected: str) -> Sequence[Mapping[str, Any]]:
        """What the daemon opened because the pull request was merged. Raises Failed if that is not what is expected."""
        number = pull["number"]
        merge = await self._merged(pull)
        self._calls += merge.calls
        self._headline(f"You merge #{number}: {pull['title']}")
        self._field("status", (merge.status["state"], Tone.GOOD), (f"  {merge.status['description']}", Tone.PLAIN))
        for opened in merge.opened:
            await self._promotion(number, opened)
        cost = f"{merge.calls} API calls of at most {merge.most}, {merge.milliseconds:.0f} ms from merge to status"
        self._field("cost", (cost, Tone.DIM))
        titles = [str(one["title"]) for one in merge.opened]
        if merge.status["state"] != "success" or not _ends(titles, expected) or merge.calls > merge.most:
            wanted = " and ".join(expected) or "nothing"
            raise Failed(
                f"expected after the merge of #{number}: success, promotion to {wanted}, at most {merge.most} calls; "
                f"found: {merge.status['state']}, {titles or 'no pull request'}, {merge.calls} calls"
            )
        return merge.opened

    async def _merged(self, pull: Mapping[str, Any]) -> _Merge:
        number, repo = pull["number"], self._stage.repo
        known = {one["number"] for one in await self._ask("GET", f"{repo}/pulls?state=all&per_page=100")}
        files = len(await self._ask("GET", f"{repo}/pulls/{number}/files?per_page=100"))
        looked_at = await self._verdict(number)
        before = await self._calls_so_far()
        started = time.perf_counter()
        await self._ask("PUT", f"{repo}/pulls/{number}/merge", {"merge_method": "merge"})
        status = await self._verdict(number, after=looked_at)
        milliseconds = (time.perf_counter() - started) * 1000
        every = await self._ask("GET", f"{repo}/pulls?state=all&per_page=100&direction=asc")
        opened = [one for one in every if one["number"] not in known]
        for one in opened:
            await self._verdict(one["number"])
        calls = await self._calls_so_far() - before
        most = AFTER_A_MERGE + -(-files // FILES_A_CALL) + A_PROMOTION * len(opened)
        return _Merge(status, opened, calls, most, milliseconds)

    async def _verdict(self, number: int, *, after: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The final commit status of a pull request's head, which is another one than before."""
        standing = "no status"

        async def look() -> Mapping[str, Any] | None:
            nonlocal standing
            if self._stage.daemon.running.returncode is not None:
                raise Failed(f"the daemon ended with exit code {self._stage.daemon.running.returncode}")
            state = await self._ask("GET", f"/_sandbox/state?repo={self._stage.place['repository']}")
            status: Mapping[str, Any] | None = state["statuses"].get(f"#{number}", {}).get("telefonistka")
            standing = f"{status['state']}: {status['description']}" if status else standing
            return None if status is None or status["state"] == "pending" or status == after else status

        return await processes.until(f"a final commit status of #{number}", look, stands=lambda: standing)

    async def _calls_so_far(self) -> int:
        """How many API calls the bot has made, once there is nothing to do for it."""

        async def look() -> str | None:
            async with self._stage.person.session.get(f"{self._stage.daemon_url}/metrics") as answer:
                text = await answer.text()
            return text if all(f'telefonistka_inbox_items{{state="{one}"}} 0.0' in text for one in UNDER_WAY) else None

        await processes.until("that the daemon has nothing to do", look)
        calls = await self._ask("GET", "/_sandbox/calls")
        return sum(call["identity"] == self._stage.place["bot"]["login"] for call in calls)

    # What there is to see

    async def _promotion(self, merged: int, pull: Mapping[str, Any]) -> None:
        self._field("opened", (f"#{pull['number']} {pull['title']}", Tone.STRONG))
        hop = lineage.parse(pull["body"] or "").hops[merged]
        for number, target in enumerate(hop.targets):
            start = f"{hop.source} → " if number == 0 else " " * len(f"{hop.source} → ")
            self._field("", (start + target, Tone.PLAIN))
        labels = ", ".join(label["name"] for label in pull["labels"])
        people = ", ".join(user["login"] for user in pull["assignees"])
        self._field("", (f"{await self._files(pull)}; label {labels}; assigned to {people}", Tone.DIM))

    async def _files(self, pull: Mapping[str, Any]) -> str:
        files = await self._ask("GET", f"{self._stage.repo}/pulls/{pull['number']}/files?per_page=100")
        kinds = Counter(file["status"] for file in files)
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1]))
        plus, minus = sum(file["additions"] for file in files), sum(file["deletions"] for file in files)
        return f"{listed}: +{plus} −{minus} lines"

    async def _preview(self, pull: Mapping[str, Any]) -> None:
        """What the product's own `plan` says of a pull request, from the clone alone."""
        branch = pull["head"]["ref"]
        await self._git("fetch", "--quiet", "origin")
        base, head = f"origin/{self._stage.place['default_branch']}", f"origin/{branch}"
        plan = await self._plan("--repo", str(self._clone), "--base", base, "--head", head)
        self._headline(f"Before you merge #{pull['number']}, `telefonistka plan` says what would follow")
        blocked: dict[tuple[str, str], set[str]] = defaultdict(set)
        places: dict[tuple[str, str], str] = {}
        for promotion in plan["promotions"]:
            components = ", ".join(promotion["components"])
            self._field("opens", (f"{promotion['description']}: {components}", Tone.PLAIN))
            for skip in promotion["skipped"]:
                blocked[skip["component"], skip["reason"]].add(skip["target"])
                places.setdefault((skip["component"], skip["reason"]), skip["place"])
        for (component, reason), targets in blocked.items():
            self._field("skips", (component, Tone.STRONG), (f" in {len(targets)} targets, {reason}", Tone.PLAIN))
            self._field("", ("at ", Tone.DIM), (places[component, reason], Tone.PLAIN))
        for flow in plan["untaken"]:
            self._field("passes", (f"the flow at telefonistka.yaml:{flow['line']}, ", Tone.PLAIN), _needs(flow))
        if {component for component, _ in blocked} != {example.BLOCKED}:
            raise Failed(f"expected: {example.BLOCKED} is kept out of production; found: {sorted(blocked)}")

    async def _compare(self) -> None:
        """The end: every cluster as it should be, by git's own object ids."""
        main = await self._ask("GET", f"{self._stage.repo}/git/trees/{self._stage.place['default_branch']}?recursive=1")
        oids = {entry["path"]: entry["sha"] for entry in main["tree"] if entry["type"] == "tree"}
        self._headline("The end: what stands in every cluster, by git's object ids")
        for name in (*example.RELEASED, example.BLOCKED):
            clusters = [example.LAB, *example.STAGING] + list(example.PRODUCTION) * (name in example.RELEASED)
            found = {oids.get(cluster + name) for cluster in clusters}
            stray = [cluster for cluster in example.PRODUCTION if cluster not in clusters and cluster + name in oids]
            if len(found) != 1 or None in found or stray:
                raise Failed(f"expected: {name} is the same in {', '.join(clusters)} and nowhere else; found: {oids}")
            where = "lab = 2 × staging = 3 × production" if name in example.RELEASED else "lab = 2 × staging; not in"
            note = "" if name in example.RELEASED else " production, as its rule says"
            self._field(name, (f"{found.pop()}"[:10], Tone.GOOD), (f"  {where}{note}", Tone.PLAIN))

    async def _fan_out(self) -> None:
        """Five Argo CDs hear of every push."""
        argo_cds, branch = self._stage.argo_cds, self._stage.place["default_branch"]
        hook = {"repo": self._stage.place["repository"], "url": f"{self._stage.daemon_url}/webhook"}
        await self._ask("POST", "/_sandbox/hooks", hook | {"secret": self._stage.place["secret"], "events": ["push"]})
        self._headline(f"You write down where your {len(argo_cds)} Argo CDs are, and push twice")
        await self._git("switch", "--quiet", branch)
        await self._git("pull", "--quiet", "origin", branch)
        rules = self._clone / "telefonistka.yaml"
        note = self._clone / example.NOTE
        note.write_text("One directory per cluster.\n")
        rules.write_text(rules.read_text() + example.relay(one.url for one in argo_cds))
        await self._pushed("Tell our Argo CDs of every push", 1)
        before = await self._calls_so_far()
        note.write_text(note.read_text() + "Its name is its region's.\n")
        milliseconds = await self._pushed("Say more", 2)
        for one in argo_cds:
            retried = one.requests - len(one.taken)
            said = f"  {len(one.taken)} pushes, signatures right" + f"; busy once, told again {retried}×" * bool(
                retried
            )
            self._field("told", (f"{one.name:<14}", Tone.GOOD), (said, Tone.PLAIN))
        calls = await self._calls_so_far() - before
        cost = f"{calls} API calls for the second push, all {len(argo_cds)} told {milliseconds:.0f} ms after it began"
        self._field("cost", (cost, Tone.DIM))
        if calls or any(one.taken != argo_cds[0].taken for one in argo_cds):
            raise Failed(
                f"expected: the same bytes everywhere, no call; found: {[len(o.taken) for o in argo_cds]}, {calls}"
            )

    async def _pushed(self, message: str, pushes: int) -> float:
        """Every Argo CD has heard of so many pushes; the milliseconds since the last of them began."""
        await self._git("add", "--all")
        await self._git("commit", "--quiet", "--message", message)
        started = time.perf_counter()
        await self._git("push", "--quiet", "origin", f"HEAD:{self._stage.place['default_branch']}")

        async def look() -> float | None:
            missing = [one for one in self._stage.argo_cds if len(one.taken) < pushes]
            return None if missing else (time.perf_counter() - started) * 1000

        def standing() -> str:
            return str({one.name: len(one.taken) for one in self._stage.argo_cds})

        return await processes.until(f"every Argo CD has heard of push {pushes}", look, stands=standing)

    def _sum_up(self) -> None:
        took = time.perf_counter() - self._started
        self._line()
        self._line((f"{self._calls} API calls for four merged pull requests; all of it in {took:.1f} s.", Tone.STRONG))
        self._line(("On GitHub the daemon pauses between writes, as GitHub asks; here it does not.", Tone.DIM))

    def tell_addresses(self) -> None:
        """Where to look around."""
        daemon = self._stage.daemon_url
        self._line()
        self._line(("Look around, until Ctrl-C:", Tone.STRONG))
        self._line()
        self._field("files", (self._stage.page, Tone.LINK))
        self._field("pulls", (f"{self._stage.page}/pull/2", Tone.LINK), ("  and the others: 1, 3, 4", Tone.DIM))
        self._field("calls", (f"{self._stage.place['url']}/_sandbox", Tone.LINK), ("  and webhooks", Tone.DIM))
        self._field("daemon", (f"{daemon}/ready", Tone.LINK), ("  ", Tone.PLAIN), (f"{daemon}/metrics", Tone.LINK))
        self._field("its log", (str(self._stage.daemon.log), Tone.PLAIN))

    # How it is done

    async def _git(self, *arguments: str, at: Path | None = None) -> None:
        login = self._stage.place["person"]["login"]
        names = {f"GIT_{who}_NAME": login for who in ("AUTHOR", "COMMITTER")}
        await _finished([GIT, *arguments], ENVIRONMENT | names, at or self._clone)

    async def _plan(self, *arguments: str) -> Any:
        command = [*processes.PROGRAM, "plan", "--json", *arguments]
        return orjson.loads((await _finished(command, self._stage.environment, self._clone)).stdout)

    def _headline(self, text: str) -> None:
        self._step += 1
        self._line()
        self._line((f"{self._step}. {text}", Tone.STRONG))

    def _field(self, name: str, *spans: Span) -> None:
        self._line((f"   {name:<{COLUMN}}", Tone.DIM), *spans)

    def _line(self, *spans: Span) -> None:
        self._tell(spans)


def _needs(flow: Mapping[str, Any]) -> Span:
    return f"which needs the label {' or '.join(flow['labels'])}", Tone.PLAIN


def _ends(titles: Sequence[str], expected: Sequence[str]) -> bool:
    return len(titles) == len(expected) and all(
        title.endswith(end) for title, end in zip(sorted(titles), sorted(expected), strict=True)
    )


async def _finished(command: Sequence[str], environment: Mapping[str, str], at: Path) -> CompletedProcess[bytes]:
    done = await anyio.run_process(command, env=environment, cwd=at, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise Failed(f"{' '.join(command)} ended with exit code {done.returncode}: {said}")
    return done
