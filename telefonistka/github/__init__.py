"""The door to GitHub: who we are (auth), how we call (client, limits), what we ask (repo).

What belongs here: everything that knows GitHub's API. Callers see core values and the endings below, never HTTP:

    TryAgain     GitHub cannot answer now: network, 5xx, limits, a half answer. Always after short retries of our own.
    Refused      GitHub understood and said no (4xx). A caller that has another way looks at `status`; for all
                 others it is a Rejected whose text tells the operator what to do.
    NotFound     Refused with 404 or 410: there is no such thing, or it is hidden from us.
    Forbidden    Refused with 401 or 403: our credentials or permissions do not reach this far.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from telefonistka.errors import Rejected

# GitHub gives all its reasons not to merge one status, so its words must do.
_METHOD = re.compile(r"(?i)merge commits|(?:squash|rebase) merges|merge method")
EXCERPT = 256  # characters of an answer that a message may quote; enough for GitHub's sentences


class Refused(Rejected):
    """GitHub's no: the HTTP status, its message, and its list of errors as it sent them."""

    def __init__(self, asked: str, status: int, message: str = "", errors: Sequence[Any] = ()) -> None:
        self.asked = asked
        self.status = status
        self.message = message[:EXCERPT]
        self.errors = tuple(errors)
        super().__init__(self._sentence())

    @property
    def is_about_method(self) -> bool:
        """Whether it was not the merge that was refused, but this way of merging."""
        return _METHOD.search(self.message) is not None

    def _sentence(self) -> str:
        details = "; ".join(filter(None, map(detail, self.errors)))[:EXCERPT]
        said = ": ".join(filter(None, (self.message, details)))
        return f"GitHub answered {self.status} to `{self.asked}`" + (f": {said}" if said else ".")


class NotFound(Refused):
    """There is no such thing, or our credentials may not see it: GitHub does not say which."""

    def _sentence(self) -> str:
        return (
            f"GitHub does not find `{self.asked}`: it is gone, or hidden from us. "
            "Check that the App is installed on the repository, or that the token may read it."
        )


class Forbidden(Refused):
    """Our credentials are not valid, or may not do this."""

    def __init__(self, asked: str, status: int, message: str = "", *, needed: str = "") -> None:
        self.needed = needed  # permissions that would do, as GitHub names them
        super().__init__(asked, status, message)

    def _sentence(self) -> str:
        advice = "Check the App's private key, its installation and its permissions, or the token."
        if self.needed:
            advice = f"It needs the permission `{self.needed}`: grant it, and accept the change where it is installed."
        return f"{super()._sentence().rstrip('.')}. {advice}"


def detail(error: Any) -> str:
    """One entry of GitHub's `errors` in words: https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#validation-failed"""
    if not isinstance(error, dict):
        return str(error)
    if error.get("message"):
        return str(error["message"])
    return " ".join(str(error[key]) for key in ("resource", "field", "code") if error.get(key))
