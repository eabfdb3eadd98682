"""Clone, fetch and push over HTTP: git's own backend, then what the API would do after a ref has moved.

https://git-scm.com/docs/git-http-backend
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from aiohttp import web

from telefonistka.sandbox import auth, moves
from telefonistka.sandbox.auth import Identity
from telefonistka.sandbox.box import Box
from telefonistka.sandbox.odb import ENVIRONMENT, GIT
from telefonistka.sandbox.rest import Refused
from telefonistka.sandbox.state import RANKS, Access, Repo, User

TAIL = r"{tail:info/refs|HEAD|git-upload-pack|git-receive-pack|objects/.+}"
PUSHED = ("refs/heads/", "refs/tags/")
PUSHER = "you"  # who pushes without a token, where the box allows it
CHALLENGE = {"WWW-Authenticate": 'Basic realm="sandbox"'}  # without it, git does not send what it knows


def routes(box: Box) -> list[web.RouteDef]:
    async def handle(request: web.Request) -> web.Response:
        return await serve(box, request)

    paths = (f"/{{owner}}/{{repo}}.git/{TAIL}", f"/{{owner}}/{{repo}}/{TAIL}")
    return [web.RouteDef(method, path, handle, {}) for path in paths for method in ("GET", "POST")]


async def serve(box: Box, request: web.Request) -> web.Response:
    repo = box.repo(request.match_info["owner"], request.match_info["repo"])
    try:
        identity = auth.identify(box, request.headers.get("Authorization"))
    except Refused:
        identity = None
    if identity is None:
        return web.Response(status=401, headers=CHALLENGE)
    if repo is None or not identity.sees(box, repo):
        return web.Response(status=404) if identity.user else web.Response(status=401, headers=CHALLENGE)
    if "git-receive-pack" not in request.path_qs:
        return await backend(repo, request)
    if identity.token is None and not box.anonymous_push:
        return web.Response(status=401, headers=CHALLENGE)
    if repo.archived:
        return web.Response(status=403, text="This repository was archived so it is read-only.\n")
    if not may_push(box, repo, identity):
        return web.Response(status=403, text=f"Permission to {repo.full_name}.git denied to {identity.name}.\n")
    before = pushed_refs(repo)
    answer = await backend(repo, request)
    await follow(box, repo, before, identity.user or box.account(PUSHER, type_="User"))
    return answer


def may_push(box: Box, repo: Repo, identity: Identity) -> bool:
    if identity.token is None:
        return not repo.private
    if identity.token.installation is not None:
        return identity.refusal(box, repo, ["contents"], "write") is None
    return RANKS.index(box.access(identity.token.user, repo)) >= RANKS.index(Access.WRITE)


def pushed_refs(repo: Repo) -> dict[str, str]:
    return {name: oid for name, oid in repo.git.refs().items() if name.startswith(PUSHED)}


async def follow(box: Box, repo: Repo, before: Mapping[str, str], pusher: User) -> None:
    after = pushed_refs(repo)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            await moves.moved(box, repo, name, before.get(name), after.get(name), sender=pusher)


async def backend(repo: Repo, request: web.Request) -> web.Response:
    """What `git http-backend` answers, a CGI program."""
    environment = ENVIRONMENT | {
        "GIT_PROJECT_ROOT": str(repo.path),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": "/" + request.match_info["tail"],
        "QUERY_STRING": request.query_string,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": "",  # aiohttp has undone it already
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "REMOTE_USER": "sandbox",
        "REMOTE_ADDR": request.remote or "",
    }
    done = await anyio.run_process([GIT, "http-backend"], input=await request.read(), env=environment, check=False)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200").split(" ")[0])
    return web.Response(status=status, body=body, headers=headers)
