"""systemd, where it has started us: what it hears of us, and the sockets that it has opened for us.

What belongs here: its two protocols. When something is said, and that somebody listens, is the daemon's business.
https://www.freedesktop.org/software/systemd/man/252/sd_notify.html
https://www.freedesktop.org/software/systemd/man/252/sd_listen_fds.html
"""

from __future__ import annotations

import socket
import time

from telefonistka.telemetry import log

FIRST = 3  # the first file descriptor that is handed over: SD_LISTEN_FDS_START


class Supervisor:
    """Who listens at an address of ours; nobody, where it is empty."""

    def __init__(self, address: str) -> None:
        # An abstract socket's name begins with a zero byte: https://man7.org/linux/man-pages/man7/unix.7.html
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def ready(self, status: str) -> None:
        """We have started, or reloaded; `status` is a line for people."""
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Settings are being read again."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """We are ending in order."""
        self._say("STOPPING=1", "STATUS=ending what is under way")

    def alive(self) -> None:
        """The watchdog has nothing to do."""
        self._say("WATCHDOG=1")

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.setblocking(False)
                connection.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("systemd cannot be told", said=lines[0], reason=str(error))


def inherited(count: int) -> list[socket.socket]:
    """The sockets that were opened for us; raises OSError where there are none. No child of ours gets them."""
    found = [socket.socket(fileno=number) for number in range(FIRST, FIRST + count)]
    for one in found:
        one.set_inheritable(False)
        one.setblocking(False)
    return found
