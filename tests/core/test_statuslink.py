"""The commit status' link by a template of the original's users; what times look like is as Go writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from telefonistka.core import statuslink

NOW = datetime(2024, 3, 7, 15, 4, 5, 123_456, tzinfo=UTC)
THERE = datetime(2006, 1, 2, 3, 4, 5, 7_000, tzinfo=timezone(timedelta(hours=-7, minutes=-30), "MST"))


def test_the_original_documentations_example_works() -> None:
    """A window of twenty minutes around the status, for a page of logs."""
    text = (
        "{{ $calculated_time := .CommitTime.Add -600000000000 }}"
        "https://logs.example.com/?start={{ $calculated_time.UnixMilli }}&end={{ .CommitTime.UnixMilli }}\n"
    )
    link = statuslink.parse(text).render(NOW)
    assert link == "https://logs.example.com/?start=1709823245123&end=1709823845123"


# What Go 1.22 prints for `.CommitTime.Format`.
LAYOUTS = [
    (NOW, "2006-01-02T15:04:05Z07:00", "2024-03-07T15:04:05Z"),
    (NOW, "Monday, 02-Jan-06 15:04:05 MST", "Thursday, 07-Mar-24 15:04:05 UTC"),
    (NOW, "Jan _2 3:04PM", "Mar  7 3:04PM"),
    (NOW, "January 2 03:04:05.000 pm 002", "March 7 03:04:05.123 pm 067"),
    (NOW, "1/2/06 5,999999", "3/7/24 5,123456"),
    (NOW, "15h04m_2006", "15h04m_2024"),
    (THERE, "Mon Jan _2 15:04:05 2006 -0700", "Mon Jan  2 03:04:05 2006 -0730"),
    (THERE, "Z07:00 -07:00 Z0700 -07 .00 .999", "-07:30 -07:30 -0730 -07 .00 .007"),
    (THERE, "Month day", "Month day"),
]


@pytest.mark.parametrize(("time", "layout", "text"), LAYOUTS)
def test_layouts_are_gos(time: datetime, layout: str, text: str) -> None:
    assert statuslink.formatted(time, layout) == text


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("https://x/{{.CommitTime.Unix}}", "https://x/1709823845"),
        ("https://x/{{- .CommitTime.Unix -}} ?a", "https://x/1709823845?a"),
        ('https://x/{{ .CommitTime.Format "2006" }}', "https://x/2024"),
        ("https://x/{{ .CommitTime.Format `01` }}", "https://x/03"),
        ("{{/* where to */}}https://x/", "https://x/"),
        ("{{$a := .CommitTime}}{{$b := $a.Add 1000000000}}https://x/{{$b.Unix}}", "https://x/1709823846"),
    ],
)
def test_what_is_understood(text: str, link: str) -> None:
    assert statuslink.parse(text).render(NOW) == link


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://x/{{.CommitSha}}", "line 1: '{{.CommitSha}}' is not understood"),
        ("https://x/\n{{ printf .CommitTime }}", "line 2: '{{printf .CommitTime}}' is not understood"),
        ("https://x/{{ $unknown.Unix }}", "line 1: '{{$unknown.Unix}}' is not understood"),
        ("https://x/{{ if true }}", "line 1: '{{if true}}' is not understood"),
        ("https://x/{{.CommitTime.Unix", "a '{{' has no '}}'"),
        ("{{.CommitTime.Unix}}", "no http(s) address"),
        ("javascript:alert(1)", "no http(s) address"),
        ("https://x/{{.CommitTime}}", "no http(s) address"),
        ("", "no http(s) address"),
        ("{{$a := .CommitTime.Add 999999999999999999}}" * 2 + "https://x", ""),
    ],
)
def test_what_is_not_is_refused_with_its_line(text: str, reason: str) -> None:
    """D91: the daemon then says so once, and leads to its comments."""
    if not reason:
        assert statuslink.parse(text).render(NOW) == "https://x"
        return
    with pytest.raises(statuslink.Invalid) as raised:
        statuslink.parse(text)
    assert reason in str(raised.value)
