"""How work ends other than well. Anything else that is raised is a bug, and the worker treats it as one."""


class Rejected(Exception):  # noqa: N818 - an ending, named as the outcome it becomes
    """The work cannot be done as asked; its text is Markdown for the person who caused it."""

    @property
    def text(self) -> str:
        return str(self)


class TryAgain(Exception):  # noqa: N818
    """The work may succeed later: GitHub is down, or asks to wait.

    `after` is in seconds, None where the next step of the usual backoff will do.
    """

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after
