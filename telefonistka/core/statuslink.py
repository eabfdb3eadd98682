"""The commit status' link by the operator's template: the part of Go's language that the original's users write.

`{{.CommitTime}}`, its `.Unix`, `.UnixMilli`, `.Format "layout"`, `{{ $v := .CommitTime.Add nanoseconds }}` and the
same of `{{$v}}`. Nothing else is carried out: whatever is not of this form makes the template invalid.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

LIMIT = 65_535  # bytes of a template

_STEP = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_VALUE = re.compile(
    r"""\s*(?P<name>\.CommitTime|\$[A-Za-z_]\w*)
        (?:\.(?:(?P<number>Unix|UnixMilli)|Format\s+(?P<layout>"(?:[^"\\\n]|\\["\\])*"|`[^`]*`)))?\s*""",
    re.VERBOSE,
)
_SHIFT = re.compile(
    r"\s*(?P<name>\$[A-Za-z_]\w*)\s*:=\s*(?P<of>\.CommitTime|\$[A-Za-z_]\w*)(?:\.Add\s+(?P<by>[+-]?\d{1,18}))?\s*"
)
_COMMENT = re.compile(r"/\*.*\*/", re.DOTALL)

# What Go's time.Format replaces, the longer before the shorter: https://pkg.go.dev/time#pkg-constants
_LAYOUT = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|Z07:00|-07:00|Z0700|-0700|-07|[.,]0+(?!\d)|[.,]9+(?!\d)"
    r"|002|01|02|03|04|05|06|15|PM|pm|_2(?!006)|1|2|3|4|5"
)
MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()  # noqa: SIM905


class Invalid(ValueError):  # noqa: N818 - what it says of a template
    """The template is not one that we can fill; the text says what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A variable is a time, so many nanoseconds away from another one."""

    name: str
    of: str
    by: int


@dataclass(frozen=True, slots=True)
class Value:
    """A time in the text, in one of its forms."""

    name: str
    form: Callable[[datetime], str]


@dataclass(frozen=True, slots=True)
class Template:
    """A link in the making."""

    steps: tuple[str | Shift | Value, ...]

    def render(self, now: datetime) -> str:
        """The link at this moment."""
        times, text = {".CommitTime": now}, ""
        for step in self.steps:
            match step:
                case str():
                    text += step
                case Shift(name=name, of=of, by=by):
                    times[name] = times[of] + timedelta(microseconds=by // 1000)
                case Value(name=name, form=form):
                    text += form(times[name])
        return text.strip()


def parse(text: str) -> Template:
    """The template; raises Invalid where it is none, or gives no address."""
    if len(text.encode()) > LIMIT:
        raise Invalid(f"it has more than {LIMIT} bytes")
    steps: list[str | Shift | Value] = []
    known, end, trim = {".CommitTime"}, 0, False
    for found in _STEP.finditer(text):
        plain = text[end : found.start()]
        plain = plain.lstrip() if trim else plain
        steps.append(plain.rstrip() if found[1] else plain)
        line = text.count("\n", 0, found.start()) + 1
        step = _step(found[2], known, line)
        if step is not None:
            steps.append(step)
        end, trim = found.end(), bool(found[3])
    rest = text[end:]
    steps.append(rest.lstrip() if trim else rest)
    for one in steps:
        if isinstance(one, str) and "{{" in one:
            raise Invalid("a '{{' has no '}}'")
    made = Template(tuple(steps))
    _check(made)
    return made


def _check(template: Template) -> None:
    try:
        link = template.render(datetime.now(UTC))
    except OverflowError as error:
        raise Invalid("a time is out of range") from error
    # GitHub refuses any other: https://docs.github.com/en/rest/commits/statuses#create-a-commit-status
    if not link.startswith(("http://", "https://")) or any(one.isspace() for one in link):
        raise Invalid(f"it gives {link[:60]!r}, which is no http(s) address")


def _step(text: str, known: set[str], line: int) -> Shift | Value | None:
    if _COMMENT.fullmatch(text):
        return None
    shift = _SHIFT.fullmatch(text)
    if shift is not None and shift["of"] in known:
        known.add(shift["name"])
        return Shift(shift["name"], shift["of"], int(shift["by"] or 0))
    value = _VALUE.fullmatch(text)
    if value is not None and value["name"] in known:
        return Value(value["name"], _form(value["number"], value["layout"]))
    raise Invalid(f"line {line}: '{{{{{text.strip()}}}}}' is not understood")


def _form(number: str | None, layout: str | None) -> Callable[[datetime], str]:
    if number == "Unix":
        return lambda time: str(int(time.timestamp() // 1))
    if number == "UnixMilli":
        return lambda time: str(int(time.timestamp() * 1000 // 1))
    if layout is None:
        return lambda time: formatted(time, "2006-01-02 15:04:05.999999999 -0700 MST")
    plain = layout[1:-1] if layout[0] == "`" else re.sub(r"\\(.)", r"\1", layout[1:-1])
    return lambda time: formatted(time, plain)


def formatted(time: datetime, layout: str) -> str:
    """The time as Go's `time.Format` writes it."""
    return _LAYOUT.sub(lambda found: _part(found[0], time), layout)


def _part(part: str, time: datetime) -> str:
    hour = time.hour % 12 or 12
    plain = {
        "January": MONTHS[time.month - 1],
        "Jan": MONTHS[time.month - 1][:3],
        "Monday": DAYS[time.weekday()],
        "Mon": DAYS[time.weekday()][:3],
        "MST": time.tzname() or "UTC",
        "2006": f"{time.year:04}",
        "06": f"{time.year % 100:02}",
        "01": f"{time.month:02}",
        "1": str(time.month),
        "002": f"{time.timetuple().tm_yday:03}",
        "02": f"{time.day:02}",
        "_2": f"{time.day:2}",
        "2": str(time.day),
        "15": f"{time.hour:02}",
        "03": f"{hour:02}",
        "3": str(hour),
        "04": f"{time.minute:02}",
        "4": str(time.minute),
        "05": f"{time.second:02}",
        "5": str(time.second),
        "PM": "AM" if time.hour < 12 else "PM",
        "pm": "am" if time.hour < 12 else "pm",
    }
    if part in plain:
        return plain[part]
    if part[0] in ".,":
        digits = f"{time.microsecond:06}000"[: len(part) - 1]
        kept = digits if part[1] == "0" else digits.rstrip("0")
        return part[0] + kept if kept else ""
    return _zone(part, time)


def _zone(part: str, time: datetime) -> str:
    seconds = int((time.utcoffset() or timedelta()).total_seconds())
    if part.startswith("Z") and seconds == 0:
        return "Z"
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    hours = f"{sign}{minutes // 60:02}"
    if part == "-07":
        return hours
    return f"{hours}{':' if ':' in part else ''}{minutes % 60:02}"
