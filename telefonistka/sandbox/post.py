"""How webhooks leave the sandbox: GitHub's limits, and what a test asks to go wrong on their way."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields

import anyio

from telefonistka.sandbox.state import Delivery

# https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks
DEADLINE = 10.0  # seconds for the receiver's answer
# https://docs.github.com/en/enterprise-server@latest/webhooks/using-webhooks/best-practices-for-using-webhooks
ENTERPRISE_DEADLINE = 30.0  # seconds
# https://docs.github.com/en/webhooks/webhook-events-and-payloads
LARGEST = 25 * 2**20  # bytes; what is larger is neither sent nor logged


@dataclass
class Post:
    """How deliveries leave the sandbox. The counts are of deliveries to come, the percentages of each by `seed`."""

    deadline: float = DEADLINE
    largest: int = LARGEST
    delay: float = 0.0  # seconds before each
    drop: int = 0
    drop_percent: float = 0.0
    duplicate: int = 0
    duplicate_percent: float = 0.0
    throttle: int = 0  # held back by GitHub for a moment, which its log tells
    reorder: int = 0  # held back until all of them are there, then sent the last one first
    seed: int = 0
    under_way: int = field(default=0, init=False)
    _idle: anyio.Event | None = field(default=None, init=False, repr=False)
    _held: list[Delivery] = field(default_factory=list, init=False, repr=False)
    _dice: random.Random = field(default_factory=random.Random, init=False, repr=False)

    def __post_init__(self) -> None:
        self._dice.seed(self.seed)

    def change(self, **settings: float) -> dict[str, float]:
        """All settings, after these have changed. Raises ValueError for one that there is not."""
        known = {one.name for one in fields(self) if one.init}
        if unknown := settings.keys() - known:
            raise ValueError(f"unknown key {min(unknown)!r}; known are {', '.join(sorted(known))}")
        for name, value in settings.items():
            setattr(self, name, value)
        if "seed" in settings:
            self._dice.seed(self.seed)
        return {name: getattr(self, name) for name in sorted(known)}

    async def idle(self) -> None:
        """Returns when no delivery is under way; what waits to be reordered is not."""
        while self.under_way:
            self._idle = self._idle or anyio.Event()
            await self._idle.wait()

    def ended(self) -> None:
        """One delivery less is under way."""
        self.under_way -= 1
        if not self.under_way and self._idle is not None:
            self._idle.set()
            self._idle = None

    def drops(self) -> bool:
        """Whether the next delivery fails without being sent."""
        if self.drop:
            self.drop -= 1
            return True
        return self._dice.random() * 100 < self.drop_percent

    def duplicates(self) -> bool:
        if self.duplicate:
            self.duplicate -= 1
            return True
        return self._dice.random() * 100 < self.duplicate_percent

    def throttles(self) -> bool:
        """Whether the next delivery is held back."""
        if not self.throttle:
            return False
        self.throttle -= 1
        return True

    def ready(self, delivery: Delivery) -> list[Delivery]:
        """What may be sent now that this delivery is there, in the order to keep."""
        if not self.reorder:
            return [delivery]
        self.reorder -= 1
        self._held.append(delivery)
        if self.reorder:
            return []
        held, self._held = self._held[::-1], []
        return held
