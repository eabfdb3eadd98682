"""Where GitHub's API is: github.com, GitHub Enterprise Cloud with data residency, or a GitHub Enterprise Server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

PUBLIC = frozenset({"github.com", "www.github.com", "api.github.com"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The addresses of one GitHub, without a slash at the end."""

    rest: str
    graphql: str
    web: str

    @classmethod
    def of(cls, host: str) -> Self:
        """The GitHub that GITHUB_HOST names: a host name or a full URL, empty for github.com.

        Raises ValueError with a sentence for the operator where it is neither.
        """
        text = host.strip()
        if not text:
            return cls._public()
        url = urlsplit(text if "://" in text else f"https://{text}")
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or "@" in url.netloc:
            raise ValueError(f"GITHUB_HOST is {host!r}: give a host name or a URL, such as ghe.example.com")
        if url.path.rstrip("/") not in ("", "/api/v3"):
            raise ValueError(f"GITHUB_HOST is {host!r}: give it without a path")
        if url.hostname in PUBLIC:
            return cls._public()
        if url.hostname.endswith(".ghe.com"):
            return cls._residency(url.hostname.removeprefix("api."))
        web = f"{url.scheme}://{url.netloc}"
        # https://docs.github.com/en/enterprise-server/rest/using-the-rest-api/getting-started-with-the-rest-api
        return cls(rest=f"{web}/api/v3", graphql=f"{web}/api/graphql", web=web)

    @classmethod
    def _public(cls) -> Self:
        return cls(rest="https://api.github.com", graphql="https://api.github.com/graphql", web="https://github.com")

    @classmethod
    def _residency(cls, host: str) -> Self:
        # https://docs.github.com/en/enterprise-cloud@latest/admin/data-residency/network-details-for-ghecom
        return cls(rest=f"https://api.{host}", graphql=f"https://api.{host}/graphql", web=f"https://{host}")

    def path(self, url: str) -> str | None:
        """The API path of an address below this endpoint, None for any other address."""
        if url == self.graphql:
            return "/graphql"
        if url.startswith(f"{self.rest}/"):
            return url.removeprefix(self.rest).partition("?")[0]
        return None
