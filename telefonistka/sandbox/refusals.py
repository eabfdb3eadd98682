"""The refusals of GitHub's API, as exceptions that server.py turns into its error objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from telefonistka.sandbox.limits import Bucket

DOCS = "https://docs.github.com/rest"


class Refused(Exception):  # noqa: N818 - an answer, not an accident
    """An error as GitHub words it. https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api"""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        errors: Sequence[Mapping[str, Any] | str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"message": self.message}
        if self.errors:
            shown["errors"] = list(self.errors)
        return shown | {"documentation_url": DOCS, "status": str(self.status)}


def not_found() -> Refused:
    return Refused(404, "Not Found")


def read_only() -> Refused:
    """https://docs.github.com/en/repositories/archiving-a-github-repository/archiving-repositories"""
    return Refused(403, "Repository was archived so is read-only.")


def exceeded(bucket: Bucket, identity: str) -> Refused:
    """The primary rate limit's answer."""
    return Refused(403, f"API rate limit exceeded for {identity}.", headers=bucket.headers())


def secondary(seconds: int) -> Refused:
    """https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits"""
    text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    return Refused(403, text, headers={"Retry-After": str(seconds)})


def invalid(resource: str, field_: str, *, code: str = "invalid", message: str | None = None) -> Refused:
    """A 422 that names one field; with a message, GitHub's code is `custom`."""
    error = {"resource": resource, "code": code if message is None else "custom", "field": field_}
    if message is not None:
        error["message"] = message
    return Refused(422, "Validation Failed", errors=[error])
