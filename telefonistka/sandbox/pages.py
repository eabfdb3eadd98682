"""Plain pages of the sandbox for people: repositories, files, pull requests, calls and deliveries.

What belongs here: HTML of what the box holds, and forms. A form's act goes through the REST API as a person, so that
it is checked, told and logged like anybody's.
"""

from __future__ import annotations

import html
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
from aiohttp import web

from telefonistka.sandbox import deliveries, gitobjects
from telefonistka.sandbox.git import Change
from telefonistka.sandbox.odb import Missing
from telefonistka.sandbox.state import RANKS, Access, Call, Comment, Delivery, Pull, Repo, Token

if TYPE_CHECKING:
    from telefonistka.sandbox.box import Box

SHOWN = 200  # calls and deliveries on the log's page, the newest of each
LONGEST = 200_000  # characters of a file or a diff; a page should not take longer than reading it
HIDDEN = re.compile(r"<!--.*?-->", re.DOTALL)

STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d8dee4, #3d444d); --dim: light-dark(#59636e, #9198a1);
  --good: light-dark(#1a7f37, #3fb950); --bad: light-dark(#cf222e, #f85149); --link: light-dark(#0969da, #4493f8);
  --merged: light-dark(#8250df, #ab7df8); --wait: light-dark(#9a6700, #d29922) }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem 1.5rem 4rem }
header { display: flex; gap: 1.5rem; border-bottom: 1px solid var(--line); padding-bottom: .5rem; margin-bottom: 1rem }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
h1 { font-size: 1.6rem; font-weight: 500; margin: .6rem 0 } h2 { font-size: 1.1rem; margin: 1.6rem 0 .5rem }
table { border-collapse: collapse; width: 100% } td, th { border-top: 1px solid var(--line); padding: .35rem .6rem;
  text-align: left; vertical-align: top } th { border: 0; color: var(--dim); font-weight: 500 }
pre, .box { border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; overflow-x: auto; margin: .5rem 0 }
pre { font: 13px/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere }
small, .dim { color: var(--dim) } .open, .success, .add { color: var(--good) } .merged { color: var(--merged) }
.closed, .failure, .error, .del { color: var(--bad) } .pending, .hunk { color: var(--wait) }
.label { border: 1px solid; border-radius: 1em; padding: 0 .6em; font-size: .85em; margin-right: .3em }
form { display: inline } button { font: inherit; padding: .25rem .8rem } textarea { width: 100%; font: inherit }
"""

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(box: Box) -> list[web.RouteDef]:
    """Every page and form; they come after the API's own routes, for `/{owner}/{repo}` would match many of those."""

    def get(path: str, page: Callable[[Box, web.Request], Awaitable[str]]) -> web.RouteDef:
        async def answer(request: web.Request) -> web.StreamResponse:
            return respond(await page(box, request))

        return web.get(path, answer)

    def post(path: str, act: Callable[[Box, web.Request], Awaitable[None]]) -> web.RouteDef:
        async def answer(request: web.Request) -> web.StreamResponse:
            refuse_foreign(request)
            await act(box, request)
            raise web.HTTPSeeOther(request.path.rpartition("/")[0])

        return web.post(path, answer)

    return [
        get("/", home),
        get("/_sandbox", log),
        post("/_sandbox/again", redeliver),
        get("/{owner}/{repo}", repository),
        get("/{owner}/{repo}/{kind:tree|blob}/{rest:.+}", content),
        get("/{owner}/{repo}/pull/{number:\\d+}", pull_request),
        post("/{owner}/{repo}/pull/{number:\\d+}/{act:merge|close|reopen|comment}", act_on_pull),
        post("/{owner}/{repo}/pulls", open_pull),
    ]


# Pages


async def home(box: Box, request: web.Request) -> str:
    rows = [
        (f'<a href="/{url(r.full_name)}">{text(r.full_name)}</a>', text(r.description or ""), open_pulls(r))
        for r in sorted(box.repos.values(), key=lambda repo: repo.full_name.lower())
    ]
    people = ", ".join(sorted(user.login for user in box.users.values()))
    return page("Repositories", table(("repository", "", "open"), rows), f"<p><small>Here: {text(people)}</small></p>")


def open_pulls(repo: Repo) -> str:
    return str(sum(pull.state == "open" for pull in repo.pulls.values()))


async def repository(box: Box, request: web.Request) -> str:
    repo = found(box, request)
    head = repo.git.branch(repo.default_branch)
    files = listing(repo, repo.default_branch, repo.git.commit(head).tree, "") if head else "<p>It is empty.</p>"
    branches = [branch_row(repo, name, sha) for name, sha in sorted(repo.git.branches().items())]
    pulls = [pull_row(repo, pull) for pull in sorted(repo.pulls.values(), key=lambda pull: -pull.number)]
    return page(
        text(repo.full_name),
        f"<h2>Pull requests</h2>{table(('', '', '', ''), pulls) if pulls else '<p>None yet.</p>'}",
        f"<h2>Files <small>on {text(repo.default_branch)}</small></h2>{files}",
        f"<h2>Branches</h2>{table(('', '', ''), branches)}",
    )


def branch_row(repo: Repo, name: str, sha: str) -> tuple[str, ...]:
    link = f'<a href="/{url(repo.full_name)}/tree/{url(name)}">{text(name)}</a>'
    known = name == repo.default_branch or any(pull.head_ref == name for pull in repo.pulls.values())
    form = (
        f'<form method="post" action="/{url(repo.full_name)}/pulls">'
        f'<button name="head" value="{text(name)}">open a pull request</button></form>'
    )
    return link, f"<code>{sha[:10]}</code>", "" if known else form


def pull_row(repo: Repo, pull: Pull) -> tuple[str, ...]:
    title = f'<a href="/{url(repo.full_name)}/pull/{pull.number}">{text(pull.title)}</a> {labels(pull)}'
    way = f"<small>{text(pull.base_ref)} ← {text(pull.head_ref)}</small>"
    return f"#{pull.number}", f"{title}<br>{way}", state(pull), f"<small>{text(pull.user.login)}</small>"


async def content(box: Box, request: web.Request) -> str:
    repo = found(box, request)
    ref, path = split_ref(repo, request.match_info["rest"].rstrip("/"))
    try:
        root = repo.git.commit(repo.git.resolve(ref, repo.default_branch)).tree
    except Missing as error:
        raise web.HTTPNotFound(text=f"no commit {ref}") from error
    entry = repo.git.lookup(root, path) if path else None
    if path and entry is None:
        raise web.HTTPNotFound(text=f"no {path} in {ref}")
    title = (
        f'<a href="/{url(repo.full_name)}">{text(repo.full_name)}</a> / {text(path) or "·"} <small>{text(ref)}</small>'
    )
    if entry is not None and entry.kind == "commit":
        return page(title, f"<pre>Submodule at {entry.oid}</pre>")
    if entry is not None and entry.kind == "blob":
        return page(title, f"<pre>{blob(repo.git.read('blob', entry.oid))}</pre><small>mode {entry.mode}</small>")
    return page(title, listing(repo, ref, entry.oid if entry else root, path))


def split_ref(repo: Repo, rest: str) -> tuple[str, str]:
    """The branch (its name may hold slashes) or commit, and the path behind it."""
    branches = [name for name in repo.git.branches() if f"{rest}/".startswith(f"{name}/")]
    ref = max(branches, key=len, default=rest.partition("/")[0])
    return ref, rest[len(ref) :].strip("/")


def listing(repo: Repo, ref: str, tree: str, path: str) -> str:
    entries = sorted(repo.git.tree(tree).items(), key=lambda item: (item[1].kind != "tree", item[0]))
    rows = []
    for name, entry in entries:
        kind = "tree" if entry.kind == "tree" else "blob"
        target = "/".join(filter(None, (repo.full_name, kind, ref, path, name)))
        note = {"120000": "symlink", "160000": "submodule", "100755": "executable"}.get(entry.mode, "")
        mark = "/" if kind == "tree" else ""
        rows.append((f'<a href="/{url(target)}">{text(name)}{mark}</a>', f"<small>{note}</small>"))
    return table(("", ""), rows)


def blob(data: bytes) -> str:
    return "Binary." if b"\0" in data else text(data.decode(errors="replace")[:LONGEST])


async def pull_request(box: Box, request: web.Request) -> str:
    repo = found(box, request)
    pull = found_pull(repo, request)
    base = await gitobjects.pull_base(repo, pull)
    changes = await repo.git.changes(base, pull.head_sha)
    return page(
        f'{text(pull.title)} <small><a href="/{url(repo.full_name)}">{text(repo.full_name)}</a> #{pull.number}</small>',
        f"<p>{state(pull)} · {text(pull.user.login)} · {text(pull.base_ref)} ← {text(pull.head_ref)} {labels(pull)}"
        f"<small>{assigned(pull)}</small></p>",
        said(pull.body or "No description."),
        *(
            f"<h2>{text(c.user.login)} <small>{c.created_at:%H:%M:%S}</small></h2>{said(c.body)}"
            for c in pull.comments.values()
        ),
        statuses(repo, pull),
        buttons(box, pull, request.path),
        f"<h2>Files changed ({len(changes)})</h2>{table(('', '', ''), map(file_row, changes))}",
        f"<pre>{diff(await repo.git.patch(base, pull.head_sha))}</pre>",
    )


def file_row(change: Change) -> tuple[str, ...]:
    before = f"<br><small>from {text(change.previous)}</small>" if change.previous else ""
    lines = f'<span class="add">+{change.additions}</span> <span class="del">−{change.deletions}</span>'
    return text(change.path) + before, change.status, lines


def assigned(pull: Pull) -> str:
    names = ", ".join(user.login for user in pull.assignees)
    return f" · assigned to {text(names)}" if names else ""


def said(body: str) -> str:
    """What somebody wrote: as it is, with what the page on GitHub would not show put aside."""
    hidden = "\n".join(HIDDEN.findall(body))
    aside = f"<details><summary><small>hidden</small></summary><pre>{text(hidden)}</pre></details>" if hidden else ""
    shown = HIDDEN.sub("", body).replace("&nbsp;", "\u00a0").strip()
    return f"<pre>{text(shown)}</pre>{aside}"


def said_by(comment: Comment) -> str:
    return f"<h2>{text(comment.user.login)} <small>{comment.created_at:%H:%M:%S}</small></h2>{said(comment.body)}"


def statuses(repo: Repo, pull: Pull) -> str:
    latest = {status.context: status for status in repo.statuses.get(pull.head_sha, [])}
    rows = [
        (f'<span class="{s.state}">{s.state}</span>', text(s.context), text(s.description or ""))
        for s in sorted(latest.values(), key=lambda status: status.context)
    ]
    return f"<h2>Statuses of <code>{pull.head_sha[:10]}</code></h2>{table(('', '', ''), rows)}" if rows else ""


def buttons(box: Box, pull: Pull, path: str) -> str:
    acts = ["merge", "close"] if pull.state == "open" else [] if pull.merged else ["reopen"]
    made = "".join(f'<form method="post" action="{text(path)}/{a}"><button>{a}</button></form> ' for a in acts)
    comment = f'<form method="post" action="{text(path)}/comment"><textarea name="body" rows="3" required></textarea>'
    return f"<h2>As {text(person(box).user.login)}</h2>{made}<div>{comment}<button>comment</button></form></div>"


def diff(patch: str) -> str:
    kinds = {"+": "add", "-": "del", "@": "hunk", "d": "dim"}
    lines = patch[:LONGEST].splitlines()
    return "\n".join(f'<span class="{kinds.get(line[:1], "")}">{text(line)}</span>' for line in lines)


async def log(box: Box, request: web.Request) -> str:
    sent = [delivery_row(d) for d in sorted(box.deliveries.values(), key=lambda d: -d.id)[:SHOWN]]
    calls = [call_row(call) for call in box.calls[: -SHOWN - 1 : -1]]
    return page(
        "What went to and fro",
        f"<h2>Deliveries ({len(box.deliveries)})</h2>",
        table(("at", "event", "to", "ended", "", ""), sent),
        f"<h2>Calls ({len(box.calls)})</h2>{table(('', 'call', 'by', 'answer', 'ms'), calls)}",
    )


def delivery_row(delivery: Delivery) -> tuple[str, ...]:
    good = "success" if delivery.status == "OK" else "pending" if not delivery.status else "failure"
    again = f'<form method="post" action="/_sandbox/again"><button name="id" value="{delivery.id}">redeliver</button>'
    return (
        f"{delivery.delivered_at:%H:%M:%S}",
        text(".".join(filter(None, (delivery.event, delivery.action)))),
        f"<small>{text(delivery.hook.url)}<br>{delivery.guid}</small>",
        f'<span class="{good}">{delivery.status_code or ""} {text(delivery.status or "under way")}</span>',
        "<small>again</small>" if delivery.redelivery else "",
        f"{again}</form>",
    )


def call_row(call: Call) -> tuple[str, ...]:
    target = f"{call.path}?{call.query}" if call.query else call.path
    words = f"{call.method} {target}" + (f" · {call.operation}" if call.operation else "")
    answer = f'<span class="{"success" if 200 <= call.status < 400 else "failure"}">{call.status or "cut"}</span>'
    return str(call.n), f"<code>{text(words)}</code>", text(call.identity), answer, f"{call.ms:.0f}"


# Acts


async def redeliver(box: Box, request: web.Request) -> None:
    delivery = box.deliveries.get(int(str((await request.post())["id"])))
    if delivery is None:
        raise web.HTTPNotFound(text="no such delivery")
    deliveries.redeliver(box, delivery)


async def act_on_pull(box: Box, request: web.Request) -> None:
    repo = found(box, request)
    pull = found_pull(repo, request)
    calls = {
        "merge": ("PUT", f"pulls/{pull.number}/merge", {}),
        "close": ("PATCH", f"pulls/{pull.number}", {"state": "closed"}),
        "reopen": ("PATCH", f"pulls/{pull.number}", {"state": "open"}),
        "comment": ("POST", f"issues/{pull.number}/comments", {"body": str((await request.post()).get("body", ""))}),
    }
    await as_person(box, repo, *calls[request.match_info["act"]])


async def open_pull(box: Box, request: web.Request) -> None:
    """A pull request from the branch that the form names, called what its last commit is."""
    repo = found(box, request)
    head = str((await request.post()).get("head", ""))
    sha = repo.git.branch(head)
    if sha is None:
        raise web.HTTPNotFound(text="no such branch")
    title = repo.git.commit(sha).message.partition("\n")[0] or head
    await as_person(box, repo, "POST", "pulls", {"title": title, "head": head, "base": repo.default_branch})


async def as_person(box: Box, repo: Repo, method: str, path: str, body: dict[str, str]) -> None:
    """One call of the REST API; raises what the page should say where GitHub would refuse."""
    token = {"Authorization": f"token {person(box).value}"}
    target = f"{box.url}/api/v3/repos/{url(repo.full_name)}/{path}"
    async with aiohttp.ClientSession(headers=token) as session, session.request(method, target, json=body) as answer:
        if answer.status >= 400:
            raise web.HTTPConflict(text=f"GitHub would say {answer.status}: {(await answer.json()).get('message')}")


def person(box: Box) -> Token:
    """Who sits before the browser: somebody here who may write, or a newcomer called `you`."""
    for token in box.tokens.values():
        writes = RANKS.index(token.user.access) >= RANKS.index(Access.WRITE)
        if token.installation is None and writes and not token.user.login.endswith("bot"):
            return token
    return box.person("you", access=Access.ADMIN)


def refuse_foreign(request: web.Request) -> None:
    """A page of another site in the same browser may not press our buttons."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        raise web.HTTPForbidden(text="this form was not sent from here")


# HTML


def found(box: Box, request: web.Request) -> Repo:
    repo = box.repo(request.match_info["owner"], request.match_info["repo"])
    if repo is None:
        raise web.HTTPNotFound(text="no such repository")
    return repo


def found_pull(repo: Repo, request: web.Request) -> Pull:
    pull = repo.pulls.get(int(request.match_info["number"]))
    if pull is None:
        raise web.HTTPNotFound(text="no such pull request")
    return pull


def state(pull: Pull) -> str:
    word = "merged" if pull.merged else pull.state
    return f'<span class="{word}">{word}</span>'


def labels(pull: Pull) -> str:
    return "".join(f'<span class="label">{text(label.name)}</span>' for label in pull.labels)


def text(value: str) -> str:
    """The words of anybody, fit for a page; a path's odd bytes become the sign for them."""
    return html.escape(value.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def url(path: str) -> str:
    return quote(path.encode("utf-8", "surrogateescape"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head) if any(head) else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def page(title: str, *parts: str) -> str:
    plain = re.sub(r"<[^>]*>", "", title)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{plain}</title>'
    menu = '<header><b>Telefonistka sandbox</b><a href="/">Repositories</a><a href="/_sandbox">Calls and deliveries</a>'
    return f"<!doctype html>{head}<style>{STYLE}</style>{menu}</header><h1>{title}</h1>{''.join(parts)}"


def respond(body: str, *, leads_to: str = "") -> web.Response:
    """The page; its forms may lead to another origin, too."""
    forms = f"form-action 'self' {leads_to}".strip()
    rules = f"default-src 'none'; style-src 'unsafe-inline'; {forms}; frame-ancestors 'none'"
    return web.Response(text=body, content_type="text/html", headers={"Content-Security-Policy": rules})
