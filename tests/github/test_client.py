"""How calls to GitHub end: what is repeated, waited for, followed, refused."""

from __future__ import annotations

import anyio
import pytest

from telefonistka import telemetry
from telefonistka.errors import Rejected, TryAgain
from telefonistka.github import Forbidden, NotFound, Refused
from telefonistka.github.client import ATTEMPTS
from telefonistka.github.limits import Pacing
from tests.github.scripted import Asked, Cut, Reply, Scripted, Stopwatch, client

THING = "/repos/acme/iac/thing"
QUERY = "query Thing { viewer { login } }"
LIMITED = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-resource": "core"}
DATE = {"date": "Fri, 20 Nov 2026 10:00:00 GMT"}
RESET = 1795168830  # 30 s after DATE


async def test_headers_say_who_calls_and_which_version(github: Scripted, watch: Stopwatch) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/getting-started-with-the-rest-api#headers"""
    github.on(f"GET {THING}", Reply(body={"id": 1}))
    async with client(github, watch) as us:
        assert await us.get(THING) == {"id": 1}
    headers = github.asked[0].headers
    assert headers["Authorization"] == "token t0ken"
    assert headers["X-GitHub-Api-Version"] == "2022-11-28"
    assert headers["User-Agent"] == "telefonistka"


@pytest.mark.parametrize("fault", [Reply(500), Reply(502, b"<html>"), Reply(520, b""), Cut()])
async def test_a_read_is_repeated_after_a_passing_fault(github: Scripted, watch: Stopwatch, fault: Reply | Cut) -> None:
    """5xx (also such that HTTP does not know) and a broken connection are tried again after a pause."""
    github.on(f"GET {THING}", fault, fault, Reply(body={"id": 1}))
    async with client(github, watch) as us:
        assert await us.get(THING) == {"id": 1}
    assert len(github.asked) == 3
    assert watch.slept


async def test_a_lasting_fault_ends_in_try_again(github: Scripted, watch: Stopwatch) -> None:
    """After some attempts the journal takes over; nothing is read as an answer."""
    github.on(f"GET {THING}", Reply(503))
    async with client(github, watch) as us:
        with pytest.raises(TryAgain, match="503"):
            await us.get(THING)
    assert len(github.asked) == ATTEMPTS


async def test_an_answer_that_does_not_come_is_given_up(github: Scripted, watch: Stopwatch) -> None:
    """The next attempt may be luckier."""

    async def silence(asked: Asked) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    github.on(f"GET {THING}", silence, Reply(body={"id": 1}))
    async with client(github, watch, pacing=Pacing(timeout=0.1)) as us:
        assert await us.get(THING) == {"id": 1}


async def test_the_cause_of_a_broken_connection_is_kept(github: Scripted, watch: Stopwatch) -> None:
    """The traceback shows what the network said."""
    github.on(f"GET {THING}", Cut())
    async with client(github, watch) as us:
        with pytest.raises(TryAgain) as caught:
            await us.get(THING)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("fault", [Reply(502), Cut()])
async def test_a_comment_is_not_written_twice(github: Scripted, watch: Stopwatch, fault: Reply | Cut) -> None:
    """Nobody knows whether the first attempt was carried out, and there is no second comment to adopt."""
    path = "/repos/acme/iac/issues/1/comments"
    github.on(f"POST {path}", fault)
    async with client(github, watch) as us:
        with pytest.raises(TryAgain):
            await us.post(path, data={"body": "hello"})
    assert len(github.asked) == 1


@pytest.mark.parametrize("path", ["git/refs", "git/trees", "git/commits", "pulls", "statuses/abc"])
async def test_what_can_be_adopted_or_ignored_is_written_again(github: Scripted, watch: Stopwatch, path: str) -> None:
    """Objects nobody points to cost nothing; a ref or a pull request that exists is refused with 422."""
    github.on(f"POST /repos/acme/iac/{path}", Cut(), Reply(201, {"id": 1}))
    async with client(github, watch) as us:
        assert await us.post(f"/repos/acme/iac/{path}", data={}) == {"id": 1}


async def test_an_unreachable_github_is_asked_again_even_to_comment(watch: Stopwatch) -> None:
    """Without a connection nothing can have happened."""
    async with Scripted().running() as gone:
        pass
    async with client(gone, watch) as us:
        with pytest.raises(TryAgain, match="cannot be reached"):
            await us.post("/repos/acme/iac/issues/1/comments", data={})
    assert len(watch.slept) == ATTEMPTS - 1


@pytest.mark.parametrize("status", [403, 429])
async def test_retry_after_is_waited_for(github: Scripted, watch: Stopwatch, status: int) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit"""
    path = "/repos/acme/iac/issues/1/comments"
    github.on(f"POST {path}", Reply(status, {}, {"retry-after": "7"}), Reply(201, {"id": 1}))
    async with client(github, watch) as us:
        assert await us.post(path, data={}) == {"id": 1}
    assert watch.slept == [7]


async def test_a_long_wait_is_left_to_the_journal(github: Scripted, watch: Stopwatch) -> None:
    """The worker learns how long, and the next call is not even sent before that."""
    github.on(f"GET {THING}", Reply(403, {}, {"retry-after": "600"}))
    async with client(github, watch) as us:
        with pytest.raises(TryAgain) as first:
            await us.get(THING)
        with pytest.raises(TryAgain) as second:
            await us.get("/repos/acme/iac/other")
    assert (first.value.after, second.value.after) == (600, 600)
    assert len(github.asked) == 1


async def test_the_primary_limit_waits_for_its_reset(github: Scripted, watch: Stopwatch) -> None:
    """The reset is measured by GitHub's own clock, so that ours may be wrong."""
    github.on(f"GET {THING}", Reply(403, {}, {**LIMITED, **DATE, "x-ratelimit-reset": str(RESET)}), Reply())
    async with client(github, watch) as us:
        await us.get(THING)
    assert watch.slept == [31]


async def test_graphql_has_a_budget_of_its_own(github: Scripted, watch: Stopwatch) -> None:
    """REST's spent budget does not stop GraphQL, and is not forgotten over it."""
    github.on(f"GET {THING}", Reply(200, {}, {**LIMITED, **DATE, "x-ratelimit-reset": str(RESET)}))
    left = {**LIMITED, "x-ratelimit-remaining": "99", "x-ratelimit-resource": "graphql", "x-ratelimit-reset": "9"}
    github.on("POST /graphql", Reply(200, {"data": {"viewer": {"login": "bot"}}}, left))
    async with client(github, watch) as us:
        await us.get(THING)
        await us.query(QUERY)
        assert watch.slept == []
        await us.get(THING)
        assert watch.slept == [31]
        assert us.limits.buckets["graphql"].remaining == 99


async def test_each_budget_is_a_metric(github: Scripted, watch: Stopwatch) -> None:
    """Which the original has for REST alone; what GitHub may call a limit one day makes no series without end."""
    limits = {**LIMITED, **DATE, "x-ratelimit-reset": str(RESET)}
    for left, resource in enumerate(("core", "graphql", "tomorrow"), start=40):
        headers = limits | {"x-ratelimit-remaining": str(left), "x-ratelimit-resource": resource}
        github.on(f"GET {THING}/{resource}", Reply(200, {}, headers))
    async with client(github, watch) as us:
        for resource in ("core", "graphql", "tomorrow"):
            await us.get(f"{THING}/{resource}")
    text = telemetry.render().decode()
    for left, resource in enumerate(("core", "graphql", "other"), start=40):
        labels = f'{{identity="main",repo_owner="",resource="{resource}"}}'
        assert f"telefonistka_github_rate_remaining{labels} {left}.0\n" in text
        assert f"telefonistka_github_rate_limit{labels} 5000.0\n" in text


async def test_a_secondary_limit_without_a_time_waits_a_minute_then_longer(github: Scripted, watch: Stopwatch) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit"""
    words = {"message": "You have exceeded a secondary rate limit."}
    github.on(f"GET {THING}", Reply(403, words))
    async with client(github, watch) as us:
        with pytest.raises(TryAgain) as caught:
            await us.get(THING)
    assert watch.slept == [60]
    assert caught.value.after == 120


@pytest.mark.parametrize(
    "fault",
    [
        Reply(200, {"data": None, "errors": [{"message": "Something went wrong while executing your query."}]}),
        Reply(200, {"data": {"viewer": None}, "errors": [{"message": "Something went wrong", "path": ["viewer"]}]}),
        Reply(200, {"data": None, "errors": [{"type": "SERVICE_UNAVAILABLE", "message": "x"}]}),
        Reply(200, b'{"data": {"viewer": {"log'),
        Reply(200, {}),
        Reply(200, b""),
        Reply(200, b"<html>", {"content-type": "text/html"}),
        Reply(502, b"<html>", {"content-type": "text/html"}),
    ],
)
async def test_graphql_is_asked_again_where_its_answer_is_not_whole(
    github: Scripted, watch: Stopwatch, fault: Reply
) -> None:
    """Faults arrive with 200, and data beside an error is not data."""
    github.on("POST /graphql", fault, Reply(200, {"data": {"viewer": {"login": "bot"}}}))
    async with client(github, watch) as us:
        assert await us.query(QUERY) == {"viewer": {"login": "bot"}}
    assert len(watch.slept) == 1


async def test_a_graphql_limit_with_200_is_waited_for(github: Scripted, watch: Stopwatch) -> None:
    """https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api"""
    headers = {**LIMITED, **DATE, "x-ratelimit-resource": "graphql", "x-ratelimit-reset": str(RESET)}
    limited = Reply(200, {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}, headers)
    github.on("POST /graphql", limited, Reply(200, {"data": {"viewer": {}}}))
    async with client(github, watch) as us:
        await us.query(QUERY)
    assert watch.slept == [31]


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        ({"type": "NOT_FOUND", "message": "Could not resolve to a Repository"}, NotFound),
        ({"type": "FORBIDDEN", "message": "Resource not accessible by integration"}, Forbidden),
        ({"extensions": {"code": "undefinedField"}, "message": "Field 'x' doesn't exist"}, Refused),
        ({"locations": [{"line": 1, "column": 2}], "message": "Parse error"}, Refused),
    ],
)
async def test_graphql_errors_end_as_those_of_rest(
    github: Scripted, watch: Stopwatch, error: dict[str, object], ending: type[Refused]
) -> None:
    """One error model, decided by the error's type; the operation's name is in the text."""
    github.on("POST /graphql", Reply(200, {"data": {"repository": None}, "errors": [error]}))
    async with client(github, watch) as us:
        with pytest.raises(ending, match="Thing") as caught:
            await us.query(QUERY)
    assert type(caught.value) is ending


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_redirects_are_followed_with_the_same_method(
    github: Scripted, watch: Stopwatch, method: str, status: int
) -> None:
    """A renamed repository: https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects"""
    github.on(f"{method} {THING}", Reply(status, {}, {"location": f"{github.url}/api/v3/repositories/7/thing"}))
    github.on(f"{method} /repositories/7/thing", Reply(200, {"id": 1}))
    async with client(github, watch) as us:
        asked = us.get(THING) if method == "GET" else us.post(THING, data={"a": 1})
        assert await asked == {"id": 1}
    assert github.asked[1].json == (None if method == "GET" else {"a": 1})


async def test_credentials_do_not_follow_a_redirect_elsewhere(github: Scripted, watch: Stopwatch) -> None:
    """Another host, port or path prefix is not GitHub's API."""
    async with Scripted().running() as elsewhere:
        github.on(f"GET {THING}", Reply(302, {}, {"location": f"{elsewhere.url}/api/v3/thing"}))
        async with client(github, watch) as us:
            with pytest.raises(Rejected, match="not below"):
                await us.get(THING)
        assert elsewhere.asked == []


async def test_a_circle_of_redirects_ends(github: Scripted, watch: Stopwatch) -> None:
    github.on(f"GET {THING}", Reply(302, {}, {"location": f"{github.url}/api/v3{THING}"}))
    async with client(github, watch) as us:
        with pytest.raises(Refused, match="too often"):
            await us.get(THING)


async def test_an_object_that_an_event_names_may_appear_late(github: Scripted, watch: Stopwatch) -> None:
    """GitHub's replicas lag behind its webhooks: a 404 is asked again within ten seconds."""
    github.on(f"GET {THING}", Reply(404), Reply(404), Reply(200, {"id": 1}))
    async with client(github, watch) as us:
        assert await us.get(THING, named=True) == {"id": 1}
    assert sum(watch.slept) <= 10


async def test_absent_is_told_at_once_where_no_event_names_the_object(github: Scripted, watch: Stopwatch) -> None:
    async with client(github, watch) as us:
        with pytest.raises(NotFound):
            await us.get(THING)
    assert len(github.asked) == 1


async def test_an_object_that_stays_away_is_not_found(github: Scripted, watch: Stopwatch) -> None:
    async with client(github, watch) as us:
        with pytest.raises(NotFound):
            await us.get(THING, named=True)
    assert len(github.asked) == 4


async def test_a_refusal_is_data_and_text(github: Scripted, watch: Stopwatch) -> None:
    """A caller sees status, message and errors; a person reads them in one sentence."""
    errors = [{"resource": "PullRequest", "code": "custom", "message": "A pull request already exists"}]
    github.on("POST /repos/acme/iac/pulls", Reply(422, {"message": "Validation Failed", "errors": errors}))
    async with client(github, watch) as us:
        with pytest.raises(Refused) as caught:
            await us.post("/repos/acme/iac/pulls", data={})
    assert (caught.value.status, caught.value.errors) == (422, tuple(errors))
    assert caught.value.text == (
        "GitHub answered 422 to `POST /repos/acme/iac/pulls`: Validation Failed: A pull request already exists"
    )


async def test_a_missing_permission_is_named(github: Scripted, watch: Stopwatch) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#insufficient-permissions-errors"""
    refusal = Reply(403, {"message": "Resource not accessible by integration"})
    refusal = Reply(403, refusal.body, {"x-accepted-github-permissions": "pull_requests=write"})
    github.on(f"GET {THING}", refusal)
    async with client(github, watch) as us:
        with pytest.raises(Forbidden, match="`pull_requests=write`"):
            await us.get(THING)
    assert len(github.asked) == 1


async def test_a_refused_token_is_not_repeated(github: Scripted, watch: Stopwatch) -> None:
    """A token cannot be renewed; whoever runs the daemon must act."""
    github.on(f"GET {THING}", Reply(401, {"message": "Bad credentials"}))
    async with client(github, watch) as us:
        with pytest.raises(Forbidden, match="Bad credentials"):
            await us.get(THING)
    assert len(github.asked) == 1


async def test_all_pages_are_read(github: Scripted, watch: Stopwatch) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api"""
    link = {"link": f'<{github.url}/api/v3{THING}?page=2>; rel="next", <{github.url}/x>; rel="last"'}
    github.on(f"GET {THING}", Reply(200, [1, 2], link))
    github.on(f"GET {THING}?page=2", Reply(502), Reply(200, [3]))
    async with client(github, watch) as us:
        assert [one async for one in us.pages(THING)] == [1, 2, 3]


async def test_a_page_that_fails_fails_the_listing(github: Scripted, watch: Stopwatch) -> None:
    """Half a listing is not a listing."""
    github.on(f"GET {THING}", Reply(200, [1], {"link": f'<{github.url}/api/v3{THING}?page=2>; rel="next"'}))
    async with client(github, watch) as us:
        with pytest.raises(NotFound):
            _ = [one async for one in us.pages(THING, named=True)]


async def test_writes_keep_their_distance(github: Scripted, watch: Stopwatch) -> None:
    """A second between writes, three between those that notify; reads pass between them."""
    github.on("POST /repos/acme/iac/git/refs", Reply(201))
    github.on("POST /repos/acme/iac/pulls", Reply(201))
    github.on(f"GET {THING}", Reply())
    async with client(github, watch, pacing=Pacing()) as us:
        start = watch.now
        for path, passed in [("git/refs", 0), ("git/refs", 1), ("pulls", 2), ("git/refs", 3), ("pulls", 5)]:
            await us.get(THING)
            await us.post(f"/repos/acme/iac/{path}", data={})
            assert watch.now - start == passed


async def test_a_query_is_no_write(github: Scripted, watch: Stopwatch) -> None:
    github.on("POST /graphql", Reply(200, {"data": {"viewer": {}}}))
    async with client(github, watch, pacing=Pacing()) as us:
        await us.query(QUERY)
        await us.query(QUERY)
    assert watch.slept == []


async def test_few_requests_are_under_way_at_once(github: Scripted, watch: Stopwatch) -> None:
    """Ten by default, however many ask."""
    now = most = 0
    full = anyio.Event()

    async def slow(asked: Asked) -> Reply:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        await full.wait()
        now -= 1
        return Reply()

    github.on(f"GET {THING}", slow)
    async with client(github, watch, pacing=Pacing(at_once=3)) as us, anyio.create_task_group() as tasks:
        for _ in range(9):
            tasks.start_soon(us.get, THING)
    assert most == 3
    assert len(github.asked) == 9
