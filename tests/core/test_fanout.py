"""From changed files to endpoints: the contract's examples, what is refused, and what no path can make of a host."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telefonistka.core import config, fanout
from telefonistka.core.events import Malformed
from telefonistka.core.fanout import Change, Endpoint, Routes
from tests.core import values

DOCUMENTED = r"^clusters/([^/]*)/([^/]*)/([^/]*)/.*"
CLUSTER = "https://kube-argocd-${3}.${1}.service.${2}.example.com/api/webhook"
HOSTILE = (
    "evil.com#",
    "evil.com?",
    "u@169.254.169.254:80?",
    "evil.com:8443\\",
    "[::1]",
    "evil。com#",
    "evil.com\t",
    "a\r\nX-Evil: 1",
    "évil",
    "c1.",
    "..",
    "0x7f.1#",
    "%2f",
    "C1",
    "127.0.0.1",
    "-a",
    "a-",
    "a_b",
    "a" * 64,
    "\udcff",
    "",
    "${1}",
    "$$",
    "@",
    "//evil.com/",
)


def rule(expression: str, *replacements: str, **keys: Any) -> dict[str, Any]:
    return {"expression": expression, "replacements": list(replacements), **keys}


def routes(*rules: dict[str, Any], allowed_hosts: tuple[str, ...] = (), **keys: Any) -> Routes:
    return Routes(values.repo_config(webhookEndpointRegexs=rules, **keys), allowed_hosts=allowed_hosts)


def push(*files: str, branch: str = "main", doubt: str = "") -> Change:
    return Change(event="push", branch=branch, default_branch="main", files=tuple(sorted(files)), doubt=doubt)


def urls(routes: Routes, change: Change, **keys: Any) -> list[str]:
    return [endpoint.url for endpoint in routes.endpoints(change, **keys).endpoints]


def reasons(routes: Routes, change: Change) -> list[str]:
    return [refused.reason for refused in routes.endpoints(change).refused]


# The contract


@pytest.mark.parametrize(
    ("expression", "replacement", "path", "url"),
    [
        (r"^workspace/[^/]*/.*", "https://a.example.com/api/webhook", "workspace/x/f", "https://a.example.com/api/webhook"),
        (r"^workspace/", "https://a.example.com/api/webhook", "workspace/x/f", "https://a.example.com/api/webhookx/f"),
        (
            DOCUMENTED,
            "https://kube-argocd-${3}.${1}.service.{2}.example.com/api/webhook",
            "clusters/prod/eu/c1/app/f",
            "https://kube-argocd-c1.prod.service.{2}.example.com/api/webhook",
        ),
        (DOCUMENTED, CLUSTER, "clusters/prod/eu/c1/f", "https://kube-argocd-c1.prod.service.eu.example.com/api/webhook"),
        (r"^(.*)$", "http://a/${1}", "x y/ü#?%2f", "http://a/x%20y/%C3%BC%23%3F%252f"),
        (r"^.*", "http://A.b:8080", "f", "http://a.b:8080/"),
        (r"^.*", "http://a/$$", "f", "http://a/$"),
        (r"^.*", "http://a/b?c=d", "f", "http://a/b?c=d"),
        (r"^a/", "http://a/b#c", "a/f", "http://a/b"),
        (r"^a", "http://a", "a/f", "http://a/f"),
        (r"a/", "http://a/b/", "a/a/f", "http://a/b/http%3A//a/b/f"),
        (r"^.*", "http://[::1]:80/x", "f", "http://[::1]:80/x"),
        (r"^.*", "http://argocd_server.argocd.svc./x", "f", "http://argocd_server.argocd.svc./x"),
        (r"^([^/]*)/.*", "http://${1}.argocd.svc./x", "lab/f", "http://lab.argocd.svc./x"),
        (r"^.*", "http://a/%2f", "f", "http://a/%2f"),
        (r"(?P<name>[^/]+)/.*", "http://${name}.example.com/${name}", "lab/f", "http://lab.example.com/lab"),
        (r"^(.*)$", "http://a/${1}", "\udcff", "http://a/%FF"),
    ],
)  # fmt: skip
def test_a_path_gives_the_url_of_the_contract(expression: str, replacement: str, path: str, url: str) -> None:
    """As the original builds it, but for the characters that must be escaped."""
    assert urls(routes(rule(expression, replacement)), push(path)) == [url]


def test_a_file_counts_for_the_first_matching_rule_only() -> None:
    """With all of that rule's replacements; the same endpoint twice is one."""
    rules = routes(
        rule("^a/.*", "http://one/", "http://two/"),
        rule("^a/b/.*", "http://never/"),
        rule(".*", "http://two/", "http://rest/"),
    )
    assert urls(rules, push("a/b/c", "a/x")) == ["http://one/", "http://two/"]
    assert urls(rules, push("a/b/c", "z")) == ["http://one/", "http://rest/", "http://two/"]
    assert urls(rules, push()) == []


def test_a_rule_is_for_the_default_branch_unless_it_names_others() -> None:
    """A rule that is not for a branch does not stand before one that is."""
    rules = routes(rule(".*", "http://main/"), rule(".*", "http://other/", branches=["dev", "feature/x"]))
    assert urls(rules, push("f")) == ["http://main/"]
    assert urls(rules, push("f", branch="feature/x")) == ["http://other/"]
    assert urls(rules, push("f", branch="x")) == []
    assert not rules.wants(push("f", branch="x"))


def test_pull_requests_go_where_rules_ask_for_them() -> None:
    """`events` is `[push]` unless a rule says otherwise."""
    rules = routes(rule(".*", "http://push/"), rule(".*", "http://sets/", events=["pull_request"]))
    pull = Change(event="pull_request", branch="main", default_branch="main", files=("f",))
    assert urls(rules, pull) == ["http://sets/"]
    assert urls(rules, push("f")) == ["http://push/"]


def test_certificates_go_unchecked_only_where_the_configuration_says_so() -> None:
    """The operator has the last word, elsewhere."""
    [checked] = routes(rule(".*", "https://a/")).endpoints(push("f")).endpoints
    [unchecked] = routes(rule(".*", "https://a/"), whProxtSkipTLSVerifyUpstream=True).endpoints(push("f")).endpoints
    assert (checked.verify, unchecked.verify) == (True, False)


# Files in doubt


def test_files_in_doubt_go_to_all_endpoints() -> None:
    """To those without captures, and to the known ones, but to none that is not allowed now."""
    known = (Endpoint("http", "lab.example.com", None, "/x"), Endpoint("http", "old.example.org", None, "/x"))
    rules = routes(
        rule("^a/.*", "http://a.example.com/"),
        rule("^b/([^/]*)/.*", "http://${1}.example.com/x"),
        allowed_hosts=("example.com",),
    )
    doubtful = push("b/dev/f", doubt="forced")
    everything = ["http://a.example.com/", "http://dev.example.com/x", "http://lab.example.com/x"]
    assert urls(rules, doubtful, known=known) == everything
    assert rules.endpoints(doubtful).unknown == "forced"
    assert urls(rules, doubtful.of(["b/dev/f"]), known=known) == ["http://dev.example.com/x"]


def test_files_in_doubt_may_count_for_nothing() -> None:
    """With `relay.onUnknownFiles: none` only what is listed counts."""
    rules = routes(rule("^a/.*", "http://a/"), rule("^b/.*", "http://b/"), relay={"onUnknownFiles": "none"})
    assert urls(rules, push("b/f", doubt="forced")) == ["http://b/"]
    assert rules.endpoints(push("b/f", doubt="forced")).unknown == "forced"


def commit(*files: str, kind: str = "modified") -> dict[str, list[str]]:
    return {"added": [], "modified": [], "removed": [], kind: list(files)}


def payload(*commits: dict[str, list[str]], **keys: Any) -> dict[str, Any]:
    whole = {
        "ref": "refs/heads/main",
        "before": "1" * 40,
        "after": "2" * 40,
        "commits": list(commits),
        "forced": False,
        "created": False,
        "deleted": False,
        "repository": {"default_branch": "main"},
    }
    return {**whole, **keys}


def test_a_push_has_the_files_of_all_its_commits() -> None:
    """Added, modified and removed."""
    pushed = payload(commit("b"), commit("a", kind="removed"), commit("c", "b", kind="added"))
    found = fanout.change("push", pushed)
    assert found is not None
    assert (found.files, found.doubt, found.branch) == (("a", "b", "c"), "", "main")
    assert (found.before, found.after) == ("1" * 40, "2" * 40)


@pytest.mark.parametrize(
    ("pushed", "doubt"),
    [
        (payload(), "lists no files"),
        (payload(commit()), "lists no files"),
        (payload(commit("a"), forced=True), "forced"),
        (payload(commit("a"), created=True, before="0" * 40), "new"),
        (payload(*[commit("a")] * 2048), "2,048 commits"),
        (payload(commit(*[f"f{number}" for number in range(3000)])), "3,000 files"),
    ],
)
def test_a_list_of_files_that_may_be_cut_is_in_doubt(pushed: dict[str, Any], doubt: str) -> None:
    """GitHub's limits, force pushes, new branches, and lists that are empty."""
    found = fanout.change("push", pushed)
    assert found is not None
    assert doubt in found.doubt


@pytest.mark.parametrize(
    "pushed", [payload(*[commit("a")] * 2047), payload(commit(*[f"f{number}" for number in range(2999)]))]
)
def test_a_list_below_the_limits_is_believed(pushed: dict[str, Any]) -> None:
    """One less than may be cut."""
    found = fanout.change("push", pushed)
    assert found is not None
    assert found.doubt == ""


@pytest.mark.parametrize(
    ("event", "body"),
    [("push", payload(ref="refs/tags/v1")), ("push", payload(deleted=True)), ("issue_comment", {})],
)
def test_nothing_is_relayed_of(event: str, body: dict[str, Any]) -> None:
    """Tags, deleted branches, and events that no rule can name."""
    assert fanout.change(event, body) is None


def test_a_pull_request_has_its_base_and_no_files_yet() -> None:
    """They are asked for, since the payload does not list them."""
    pull = {"number": 7, "base": {"ref": "main", "sha": "1" * 40}, "head": {"sha": "2" * 40}}
    found = fanout.change("pull_request", {"pull_request": pull, "repository": {"default_branch": "main"}})
    assert found is not None
    assert (found.branch, found.number, found.files) == ("main", 7, ())
    assert found.doubt


@pytest.mark.parametrize("body", [{}, {"ref": 1}, payload(repository=None), payload(commits=[1])])
def test_a_payload_of_another_shape_is_said_to_be_one(body: dict[str, Any]) -> None:
    """It never ends in anything else."""
    with pytest.raises(Malformed):
        fanout.change("push", body)


# What is refused


@pytest.mark.parametrize(
    ("expression", "replacement", "reason"),
    [
        ("^.*", "${1}://a/", "must begin with http"),
        ("^.*", "ftp://a/", "must begin with http"),
        ("^.*", "//a/", "must begin with http"),
        ("^.*", "http:///x", "no host"),
        ("^(.*)", "http://a:${1}/", "port"),
        ("^.*", "http://a:0/", "port"),
        ("^.*", "http://a:65536/", "port"),
        ("^.*", "http://user:secret@a/", "passwords"),
        ("^(.*)", "http://${1}@a.example.com/", "passwords"),
        ("^(.*)", "http://a/?x=${1}", "query"),
        ("^(.*)", "http://${1}/", "literal labels"),
        ("^(.*)", "http://${1}.example/", "literal labels"),
        ("^(.*)", "http://a.example.com.${1}/", "literal labels"),
        ("^(.*)", "http://a.example.com${1}", "literal labels"),
        ("^(.*)", "http://${1}.0.0.1/", "address"),
        ("^(.*)", "http://a\\b.${1}.example.com/", "host name"),
        ("^(.*)", "http://..${1}.example.com/", "host name"),
        ("^.*", "http://a b/", "host name"),
        ("^.*", "http://a\\@b/", "passwords"),
        ("^.*", "http://a\\b/", "host name"),
        ("^.*", "http://[::1/", "host name"),
        ("^.*", "http://[fe80::1%25eth0]/", "one link"),
        ("^.*", "http://a/%zz", "hexadecimal"),
        ("^.*", "http://a/../b", "'..'"),
        ("^.*", "http://a/%2e%2E/b", "'..'"),
        ("^dir/", "http://a/b?c=d", "query"),
        ("^dir/", "http://a.example.com", "host"),
        ("name", "http://a/", "start of the path"),
        (DOCUMENTED, "https://k-$3.$1x.example.com/$$", "cannot be part of a host name"),
    ],
)
def test_a_replacement_without_a_url_is_refused_alone(expression: str, replacement: str, reason: str) -> None:
    """The rule's other replacements go on."""
    rules = routes(rule(expression, replacement, "http://good/#"))
    path = "clusters/prod/eu/c1/name" if expression == DOCUMENTED else "dir/name"
    routing = rules.endpoints(push(path))
    assert reason in routing.refused[0].reason
    assert routing.refused[0].template == replacement
    if expression != "name":
        assert [endpoint.name for endpoint in routing.endpoints] == ["http://good"]


@pytest.mark.parametrize("capture", HOSTILE)
def test_a_capture_that_is_no_dns_label_does_not_get_into_a_host(capture: str) -> None:
    """It is refused, never rewritten."""
    routing = routes(rule(r"(?s)^x/(.*)", "https://k-${1}.example.com/", "https://${1}.example.com/"))
    found = routing.endpoints(push(f"x/{capture}"))
    assert found.endpoints == ()
    assert len(found.refused) == 2


def test_the_operators_hosts_narrow_all_and_permit_short_suffixes() -> None:
    """An entry is a host or a domain, and allows what lies below it."""
    rules = routes(
        rule("^([^/]*)/.*", "http://${1}.svc/", "http://a.example.com/", "http://a.notexample.com/", "http://svc/"),
        allowed_hosts=("svc", "Example.com"),
    )
    assert urls(rules, push("lab/f")) == ["http://a.example.com/", "http://lab.svc/", "http://svc/"]
    assert ["TELEFONISTKA_RELAY_ALLOWED_HOSTS" in reason for reason in reasons(rules, push("lab/f"))] == [True]


def test_one_event_goes_to_a_bounded_number_of_endpoints() -> None:
    """What is beyond is refused and counted."""
    rules = routes(rule("^([^/]*)/.*", "http://${1}.example.com/"))
    routing = rules.endpoints(push(*[f"c{number}/f" for number in range(300)]))
    assert len(routing.endpoints) == 256
    assert len(routing.refused) + routing.uncounted == 44


def test_a_url_that_servers_would_not_take_is_refused() -> None:
    """A path may have 4,096 bytes, and each may become three characters."""
    assert "characters" in reasons(routes(rule("^(.*)", "http://a/${1}")), push("ü" * 2000))[0]


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        ("http://a.{2}.example.com/", "'{2}' stays as it is"),
        ("http://a/$1x", "did you mean '${1}'?"),
        ("http://a/${4}", "no group 4"),
        ("http://a/$4/x", "no group 4"),
        (r"http://a/\1", "a capture is '${1}'"),
        ("ftp://a/", "gives no URL"),
        ("http://a/${1}/$$1/$${2}x{7}", None),
    ],
)
def test_a_template_that_looks_like_a_slip_is_said_to_be_one(replacement: str, message: str | None) -> None:
    """Without any path, and where it stands."""
    text = {"webhookEndpointRegexs": [rule("a"), rule(DOCUMENTED, "http://ok/", replacement)]}
    parsed = config.repository(orjson.dumps(text))
    assert parsed.value is not None
    found = list(fanout.slips(parsed.value))
    assert [slip.key for slip in found] == [("webhookEndpointRegexs", 1, "replacements", 1)] * bool(message)
    assert all(slip.key in parsed.places for slip in found)
    assert message is None or message in found[0].message


# Laws

paths = st.text(st.one_of(st.characters(exclude_characters="\0"), st.sampled_from("@:/?#[]\\%.$。。/..")), max_size=30)
captures = st.one_of(
    st.sampled_from(HOSTILE), paths, st.builds("".join, st.lists(st.sampled_from(HOSTILE), max_size=3))
)


@settings(max_examples=500)
@given(st.lists(captures, min_size=1, max_size=4), st.sampled_from((".", "/")))
def test_no_path_chooses_another_domain(parts: list[str], between: str) -> None:
    """Whatever is captured, the host ends as the rule says, and nothing but host and path depends on it."""
    path = "x/" + between.join(parts)
    rules = routes(
        rule(
            r"(?s)^x/([^/]*)(/?.*)",
            "https://k-${1}.argo.example.com:8443/api/${1}${2}",
            "https://${1}.argo.example.com:8443/api",
            "https://fixed.argo.example.com:8443/api${2}",
            "https://fixed.argo.example.com:8443${2}",
        ),
        rule("(?s)^.", "https://fixed.argo.example.com:8443/api/"),
    )
    routing = rules.endpoints(push(path))
    assert routing.endpoints or routing.refused
    for endpoint in routing.endpoints:
        assert endpoint.host.endswith(".argo.example.com")
        assert (endpoint.scheme, endpoint.port) == ("https", 8443)
        assert endpoint.target.startswith("/")
        assert endpoint.url.isascii()
        assert not set(endpoint.url) & set(' \r\n\t\\?#@"<>')
        assert fanout.endpoint(endpoint.url) == endpoint


@given(st.lists(st.sampled_from(("a/x", "a/y", "b/x", "c/d/e", "zz")), max_size=5), st.randoms())
def test_the_order_of_files_does_not_matter(files: list[str], random: Any) -> None:
    """A set of files gives a set of endpoints."""
    rules = routes(rule("^a/(.*)", "http://a/${1}"), rule("^([bc])/", "http://bc/"), rule("", "http://rest/"))
    shuffled = random.sample(files, len(files))
    one = rules.endpoints(Change(event="push", branch="main", default_branch="main", files=tuple(files)))
    other = rules.endpoints(Change(event="push", branch="main", default_branch="main", files=tuple(shuffled)))
    assert one.endpoints == other.endpoints
