"""Who the environment says that we are at GitHub, for commands that are not the daemon."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from telefonistka.cli import terminal
from telefonistka.errors import Rejected

if TYPE_CHECKING:
    from telefonistka import settings
    from telefonistka.github import auth


@asynccontextmanager
async def main(host: str | None = None) -> AsyncIterator[auth.Identity]:
    """The first identity; raises Rejected with everything that is wrong with its settings."""
    from telefonistka import settings

    try:
        given = settings.github({**os.environ, **({"GITHUB_HOST": host} if host else {})})
    except settings.Invalid as error:
        raise _unasked(error) from None
    async with of({"": given.credentials}, given) as identities:
        yield identities[""]


@asynccontextmanager
async def of(
    credentials: Mapping[str, settings.TokenCredentials | settings.AppCredentials], given: settings.GitHub
) -> AsyncIterator[dict[str, auth.Identity]]:
    """Identities by the same names; raises Rejected where one cannot be used."""
    from telefonistka import telemetry
    from telefonistka.github import auth
    from telefonistka.github.endpoint import Endpoint
    from telefonistka.github.limits import Pacing

    telemetry.configure(terminal.log_level())
    try:
        endpoint = Endpoint.of(given.host)
        usable = {name: _usable(one) for name, one in credentials.items()}
        session = auth.session(endpoint, ca_file=given.ca_file)
    except (ValueError, OSError) as error:
        raise _unasked(error) from None
    async with session:
        pacing = Pacing(write=given.write_interval, notify=given.notify_interval)
        yield {name: auth.Identity(one, endpoint, session, pacing=pacing) for name, one in usable.items()}


def _usable(given: settings.TokenCredentials | settings.AppCredentials) -> auth.Token | auth.App:
    from telefonistka import settings
    from telefonistka.github import auth

    match given:
        case settings.TokenCredentials(token=token):
            return auth.Token(token)
        case settings.AppCredentials(id=number, private_key=key):
            app = auth.App(number, key)
            app.check()
            return app


def _unasked(error: Exception) -> Rejected:
    return Rejected(f"GitHub cannot be asked:\n{error}")
