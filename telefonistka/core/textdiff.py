"""What differs between two texts, as a unified diff: exact, and bounded in time however they differ.

Myers' algorithm, "An O(ND) Difference Algorithm and Its Variations": https://doi.org/10.1007/BF01840446
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

DIFFERING = 1_000  # lines that both texts have elsewhere; the work grows with its square, this takes half a second
CONTEXT = 3  # lines around a change, as diff has them

Step = tuple[str, int, int]  # " ", "-" or "+", and where we are in both texts before it


def unified(before: str, after: str) -> list[str] | None:
    """The hunks that turn one text into the other, without the lines that name files; None: more than can be told."""
    old, new = _lines(before), _lines(after)
    steps = _steps(old, new)
    if steps is None:
        return None
    return [line for hunk in _hunks(steps) for line in _shown(hunk, old, new)]


def _lines(text: str) -> list[str]:
    """The lines with their ends, since only some texts end with one."""
    # str.splitlines also breaks at characters that are no line ends to git.
    parts = text.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _steps(old: Sequence[str], new: Sequence[str]) -> list[Step] | None:
    """The shortest way from one list to the other, through the lines that stay."""
    stay = _staying(old, new)
    if stay is None:
        return None
    steps: list[Step] = []
    i = j = 0
    for at_old, at_new in [*stay, (len(old), len(new))]:
        steps += [("-", gone, j) for gone in range(i, at_old)]
        steps += [("+", at_old, come) for come in range(j, at_new)]
        steps += [(" ", at_old, at_new)]
        i, j = at_old + 1, at_new + 1
    return steps[:-1]


def _staying(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]] | None:
    """The places of the most lines that two lists share in order; None where that is too much work to find out."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    # What only one of them has stays in no case, and costs nothing.
    common = set(old[start : len(old) - end]) & set(new[start : len(new) - end])
    places = [at for at in range(start, len(old) - end) if old[at] in common]
    others = [at for at in range(start, len(new) - end) if new[at] in common]
    middle = _longest([old[at] for at in places], [new[at] for at in others])
    if middle is None:
        return None
    first = [(at, at) for at in range(start)]
    last = [(len(old) - back, len(new) - back) for back in range(end, 0, -1)]
    return first + [(places[i], others[j]) for i, j in middle] + last


def _longest(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]] | None:
    """Myers' greedy search: the furthest that each diagonal of the edit graph is reached with so many changes."""
    furthest = {1: 0}
    trail = []
    for depth in range(DIFFERING + 1):
        trail.append(dict(furthest))
        for diagonal in range(-depth, depth + 1, 2):
            i = furthest[diagonal + 1] if _down(furthest, diagonal, depth) else furthest[diagonal - 1] + 1
            j = i - diagonal
            while i < len(old) and j < len(new) and old[i] == new[j]:
                i, j = i + 1, j + 1
            furthest[diagonal] = i
            if i >= len(old) and j >= len(new):
                return _walked(trail, len(old), len(new))
    return None


def _down(furthest: Mapping[int, int], diagonal: int, depth: int) -> bool:
    return diagonal == -depth or (diagonal != depth and furthest[diagonal - 1] < furthest[diagonal + 1])


def _walked(trail: Sequence[Mapping[int, int]], i: int, j: int) -> list[tuple[int, int]]:
    """The equal lines on the way to the end, from the furthest points of each depth."""
    found = []
    for depth in range(len(trail) - 1, -1, -1):
        diagonal = i - j
        came = diagonal + 1 if _down(trail[depth], diagonal, depth) else diagonal - 1
        before_i = trail[depth][came]
        before_j = before_i - came
        while i > max(before_i, 0) and j > max(before_j, 0):
            i, j = i - 1, j - 1
            found.append((i, j))
        i, j = before_i, before_j
    return found[::-1]


def _hunks(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """The changes with the lines around them; those that touch are one."""
    changes = [at for at, (sign, _, _) in enumerate(steps) if sign != " "]
    begin = None
    for at, after in zip(changes, [*changes[1:], None], strict=False):
        begin = max(at - CONTEXT, 0) if begin is None else begin
        if after is None or after - at > 2 * CONTEXT + 1:
            yield steps[begin : at + CONTEXT + 1]
            begin = None


def _shown(hunk: Sequence[Step], old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    _, i, j = hunk[0]
    removed, added = sum(sign != "+" for sign, _, _ in hunk), sum(sign != "-" for sign, _, _ in hunk)
    yield f"@@ -{_range(i, removed)} +{_range(j, added)} @@"
    for sign, at_old, at_new in hunk:
        line = new[at_new] if sign == "+" else old[at_old]
        yield sign + line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _range(start: int, count: int) -> str:
    """As POSIX has it: an empty range is named by the line before it, a count of one is left out."""
    if count == 1:
        return str(start + 1)
    return f"{start + 1 if count else start},{count}"
