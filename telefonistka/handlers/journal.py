"""What the ledger holds of one merged pull request: its pin, what was opened from it, and how far that has come.

Handlers that work on the same promotion meet here, not in each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from telefonistka.core.events import Repository
from telefonistka.core.promotion import Plan, Promotion
from telefonistka.core.results import Result, Standing
from telefonistka.core.reviews import Reviews
from telefonistka.core.trees import Oid, Sha
from telefonistka.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The commit that one merge is promoted from, and the plan at it."""

    commit: Sha
    tree: Oid
    default_branch: str
    plan: Plan
    dry_run: bool
    approve: bool = False
    overtakes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by key: open ones with older content
    merge: Sha | None = None  # the commit that merged the pull request
    head: Sha | None = None  # of the merged pull request, where its status is


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """How far one promotion has come."""

    commit: Sha | None = None
    branch: str | None = None
    pull: int | None = None
    base: Sha | None = None  # the default branch's head when the pull request was opened
    since: float = 0.0  # seconds since 1970 when GitHub was asked to open it
    labelled: bool = False
    over: bool = False  # people had closed or merged it before we could go on
    note: str = ""
    refused: str = ""  # why there is no pull request
    retired: bool = False  # the pull requests with older content were told


class Stage(StrEnum):
    """Where a promotion pull request is on its way to its merge by itself; the last three are its ends."""

    UNDER_WAY = "under way"
    WAITING = "waiting"
    HANDED_OVER = "handed over"  # to GitHub's auto-merge or merge queue
    MERGED = "merged"
    CLOSED = "closed"
    LEFT = "left to people"


ENDS = frozenset({Stage.MERGED, Stage.CLOSED, Stage.LEFT})


class Approval(StrEnum):
    """How far the approval of the head has come."""

    WANTED = "wanted"
    TRIED = "tried"
    GIVEN = "given"  # and whether it is enough is still to be asked
    ENDED = "ended"  # given, or refused and said so


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """A promotion pull request of ours that is to be approved or merged by itself."""

    repository: Repository
    number: int
    source: int  # the merged pull request that it comes from
    key: str  # of its promotion
    branch: str
    heads: tuple[Sha, ...]  # ours, stored before they are pushed; the last one is the one to merge
    base: Sha  # the commit that the last head was made on
    merges: bool
    approval: Approval
    tried: bool  # so that GitHub is asked before anything is done again
    since: float = 0.0  # seconds since 1970 when it was opened
    rebuilds: int = 0
    stage: Stage = Stage.UNDER_WAY
    reason: str = ""
    looks: int = 0  # since it waits for this reason
    stuck: str = ""  # why it is not rebuilt although it is in conflict; people were told

    @property
    def head(self) -> Sha:
        return self.heads[-1]

    @property
    def ended(self) -> bool:
        return self.stage in ENDS or (not self.merges and self.approval is Approval.ENDED)

    @property
    def lands(self) -> bool:
        """It is still to be merged by itself."""
        return self.merges and self.stage not in ENDS

    @property
    def note(self) -> str:
        """What there is to say of it after its number."""
        if not self.merges:
            return ""
        match self.stage:
            case Stage.UNDER_WAY:
                return " (not merged yet)"
            case Stage.WAITING:
                return f" (waiting: {self.reason})"
            case Stage.HANDED_OVER:
                return f" (left to GitHub: {self.reason})"
            case Stage.MERGED:
                return " (merged)"
            case Stage.CLOSED:
                return " (closed without a merge)"
            case Stage.LEFT:
                return f" (left to people: {self.reason})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What was said last of what became of a merge, and what failed."""

    text: str
    failures: tuple[str, ...] = ()

    def saying(self, text: str) -> Ending:
        return replace(self, text=text)


class Fate(StrEnum):
    """What people or GitHub have done with a pull request of ours."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A pull request of ours: the merges that led to it, its branch, and our commits at the branch's end."""

    sources: tuple[int, ...]
    key: str  # of the promotion, in the plan of the last source
    branch: str
    heads: tuple[Sha, ...]
    fate: Fate = Fate.OPEN
    note: str = ""  # what happened to it since


@dataclass(frozen=True, slots=True)
class Line:
    """Pull requests of ours, in the order of their opening."""

    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A comment as it was written last, and its page."""

    page: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A commit status as it was written last."""

    state: str
    text: str
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The head of a pull request as its last delivery told it, and the places of deliveries in the inbox."""

    head: Sha
    seq: int  # of that delivery
    turn: int = 0  # of the last one that leads to all that is said of a head, and to its status


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the configuration of an open pull request asks for beyond the operator's ceiling, as it was said."""

    head: Sha
    excesses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Journal:
    """The documents of one repository."""

    ledger: Ledger
    repository: int

    async def pin(self, source: int) -> Pin | None:
        return await self.ledger.get("pin", f"{self.repository}/{source}", Pin)

    async def put_pin(self, source: int, pin: Pin) -> None:
        await self.ledger.put("pin", f"{self.repository}/{source}", pin)

    async def opened(self, source: int, item: Promotion) -> Opened | None:
        return await self.ledger.get("promotion", f"{self.repository}/{source}/{item.key}", Opened)

    async def put_opened(self, source: int, item: Promotion, opened: Opened) -> None:
        await self.ledger.put("promotion", f"{self.repository}/{source}/{item.key}", opened)

    async def landing(self, number: int) -> Landing | None:
        """None: the pull request is not one that we opened and are to land."""
        return await self.ledger.get("landing", f"{self.repository}/{number}", Landing)

    async def landing_of(self, head: Sha) -> Landing | None:
        """The same, by a commit of ours."""
        number = await self.ledger.get("head", f"{self.repository}/{head}", int)
        return None if number is None else await self.landing(number)

    async def put_landing(self, landing: Landing) -> None:
        await self.ledger.put("head", f"{self.repository}/{landing.head}", landing.number)
        await self.ledger.put("landing", f"{self.repository}/{landing.number}", landing)

    async def origin(self, number: int) -> Origin | None:
        """None: the pull request is not one that we opened."""
        return await self.ledger.get("origin", f"{self.repository}/{number}", Origin)

    async def put_origin(self, number: int, origin: Origin) -> None:
        await self.ledger.put("origin", f"{self.repository}/{number}", origin)

    async def touched(self, number: int) -> bool:
        """Whether an event has told that somebody did something to a pull request of ours before it could land."""
        return await self.ledger.get("touched", f"{self.repository}/{number}", bool) or False

    async def put_touched(self, number: int) -> None:
        await self.ledger.put("touched", f"{self.repository}/{number}", True)

    async def brings(self, number: int) -> Promotion | None:
        """What an open pull request of ours promotes; None where it is none, or not open."""
        origin = await self.origin(number)
        pin = await self.pin(origin.sources[-1]) if origin is not None and origin.fate is Fate.OPEN else None
        if origin is None or pin is None:
            return None
        return next((item for item in pin.plan.promotions if item.key == origin.key), None)

    async def open_ones(self) -> dict[int, Promotion]:
        """The open pull requests of ours, and what they promote."""
        known = await self.ledger.get("open", str(self.repository), Line) or Line()
        found = {number: await self.brings(number) for number in known.numbers}
        return {number: item for number, item in found.items() if item is not None}

    async def put_open(self, number: int) -> None:
        """It is one of them, until its origin says that it has ended."""
        async with self.ledger.locked(f"open {self.repository}"):
            numbers = {*await self.open_ones(), number}
            await self.ledger.put("open", str(self.repository), Line(tuple(sorted(numbers))))

    async def line(self, item: Promotion) -> tuple[int, ...]:
        """The open pull requests from the same source to the same targets, the oldest first."""
        line = await self.ledger.get("line", self._line(item), Line) or Line()
        return tuple([number for number in line.numbers if await self.brings(number) is not None])

    async def put_into_line(self, item: Promotion, number: int) -> None:
        async with self.ledger.locked(f"line {self.repository}"):
            numbers = [one for one in await self.line(item) if one != number]
            await self.ledger.put("line", self._line(item), Line((*numbers, number)))
        await self.put_open(number)

    def _line(self, item: Promotion) -> str:
        # Config paths may hold anything, so their hash is the key.
        text = "\n".join((item.source_path, *item.targets)).encode("utf-8", "surrogateescape")
        return f"{self.repository}/{hashlib.sha256(text).hexdigest()}"

    async def reviews(self, number: int) -> Reviews:
        """What is known of the reviews of a pull request of ours."""
        return await self.ledger.get("reviews", f"{self.repository}/{number}", Reviews) or Reviews()

    async def put_reviews(self, number: int, reviews: Reviews) -> None:
        await self.ledger.put("reviews", f"{self.repository}/{number}", reviews)

    async def told(self, source: int) -> bool:
        """Whether it may have been said on the merged pull request what came of it."""
        return await self.ledger.get("notice", f"{self.repository}/{source}", bool) or False

    async def put_told(self, source: int) -> None:
        await self.ledger.put("notice", f"{self.repository}/{source}", True)

    async def said(self, source: int) -> Said | None:
        """What was said last on the merged pull request of what came of it."""
        return await self.ledger.get("result", f"{self.repository}/{source}", Said)

    async def put_said(self, source: int, said: Said) -> None:
        # The page first: what was said is not said again, so nothing would come back to the page.
        await self.put_page(source, said.page)
        await self.ledger.put("result", f"{self.repository}/{source}", said)

    async def page(self, number: int) -> str:
        """The comment on a pull request that says most, "" where there is none."""
        return await self.ledger.get("page", f"{self.repository}/{number}", str) or ""

    async def put_page(self, number: int, page: str) -> None:
        await self.ledger.put("page", f"{self.repository}/{number}", page)

    async def status(self, head: Sha) -> Status | None:
        return await self.ledger.get("status", f"{self.repository}/{head}", Status)

    async def put_status(self, head: Sha, status: Status) -> None:
        await self.ledger.put("status", f"{self.repository}/{head}", status)

    async def toggled(self, comment: int) -> Status | None:
        """What a commit status was to become because of a comment."""
        return await self.ledger.get("toggle", f"{self.repository}/{comment}", Status)

    async def put_toggled(self, comment: int, status: Status) -> None:
        await self.ledger.put("toggle", f"{self.repository}/{comment}", status)

    async def checked(self, number: int) -> bool:
        """Whether something was said of the configuration that a pull request brings."""
        return await self.ledger.get("check", f"{self.repository}/{number}", bool) or False

    async def put_checked(self, number: int) -> None:
        await self.ledger.put("check", f"{self.repository}/{number}", True)

    async def seen(self, number: int) -> Seen | None:
        """The head of a pull request by its last delivery; None: there was none."""
        return await self.ledger.get("seen", f"{self.repository}/{number}", Seen)

    async def put_seen(self, number: int, seen: Seen) -> None:
        await self.ledger.put("seen", f"{self.repository}/{number}", seen)

    async def asked(self, number: int) -> Asked | None:
        return await self.ledger.get("ceiling", f"{self.repository}/{number}", Asked)

    async def put_asked(self, number: int, asked: Asked) -> None:
        await self.ledger.put("ceiling", f"{self.repository}/{number}", asked)

    async def ending(self, source: int) -> Ending | None:
        return await self.ledger.get("ending", f"{self.repository}/{source}", Ending)

    async def put_ending(self, source: int, ending: Ending) -> None:
        await self.ledger.put("ending", f"{self.repository}/{source}", ending)

    async def results(self, source: int, pin: Pin) -> tuple[Result, ...]:
        """What stands now of what was planned, for people."""
        return tuple([await self._result(source, item) for item in pin.plan.to_open])

    async def _result(self, source: int, item: Promotion) -> Result:
        opened = await self.opened(source, item) or Opened()
        landing = origin = None
        reviews = Reviews()
        if opened.pull is not None:
            landing, origin = await self.landing(opened.pull), await self.origin(opened.pull)
            reviews = await self.reviews(opened.pull)
        standing, reason = _standing(item, opened, landing, origin, reviews)
        notes = (opened.note.strip(" ()"), origin.note if origin is not None else "")
        return Result(
            source=item.source,
            description=item.description or " ".join(item.told_targets),
            components=item.components,
            standing=standing,
            number=opened.pull,
            reason=reason,
            remarks=tuple(filter(None, notes)),
        )

    async def report(self, source: int, pin: Pin) -> str:
        """What stands now of what was opened, in one line; empty where nothing was."""
        parts = []
        for item in pin.plan.to_open:
            opened = await self.opened(source, item)
            if opened is not None and opened.pull is not None:
                landing = await self.landing(opened.pull)
                parts.append(f"#{opened.pull}{opened.note}{''.join(_notes(item, landing))}")
        return f"opened {', '.join(parts)}" if parts else ""


def _notes(item: Promotion, landing: Landing | None) -> Iterator[str]:
    if landing is not None:
        yield landing.note
    if item.auto_merge and item.held:
        yield f" (left to people: {item.held})"


def _standing(
    item: Promotion, opened: Opened, landing: Landing | None, origin: Origin | None, reviews: Reviews
) -> tuple[Standing, str]:
    """Where a promotion stands, and for what it waits or why there is none."""
    if opened.pull is None:
        return (Standing.REFUSED, opened.refused) if opened.refused else (Standing.TO_COME, "")
    fate = origin.fate if origin is not None else Fate.OPEN
    stage = landing.stage if landing is not None and landing.merges else None
    if fate is Fate.MERGED or stage is Stage.MERGED:
        return Standing.MERGED, ""
    if fate is Fate.CLOSED:
        return Standing.CLOSED, ""
    why = landing.reason if landing is not None else ""
    match stage:
        case Stage.UNDER_WAY:
            return Standing.OPEN, "Telefonistka merges it by itself (autoMerge)"
        case Stage.WAITING:
            return Standing.OPEN, f"{why}; then Telefonistka merges it by itself"
        case Stage.HANDED_OVER:
            return Standing.OPEN, f"{why}; then GitHub merges it by itself"
        case Stage.LEFT:
            return Standing.OPEN, f"left to people, because {why}"
    if landing is not None and landing.stuck:
        return Standing.OPEN, "it conflicts with the default branch, which is for people to resolve"
    if item.auto_merge and item.held:
        return Standing.OPEN, f"left to people, because {item.held}"
    return Standing.OPEN, reviews.waits
