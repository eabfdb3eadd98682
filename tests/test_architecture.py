"""The arrows, the doors and the absence of cycles, read from the imports of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "telefonistka"

# Who may import whom, by a module's first name below `telefonistka`. What is not named here does not exist yet.
ARROWS = {
    "__init__": set(),
    "__main__": {"cli"},
    "errors": set(),
    "core": {"core", "errors"},
    "settings": {"serverfile", "errors"},
    "serverfile": {"core"},
    "live": {"settings", "templates", "core", "telemetry"},
    "supervisor": {"telemetry"},
    "telemetry": {"telemetry"},
    "templates": set(),
    "git": {"core", "errors"},
    "github": {"github", "core", "errors", "telemetry"},
    "storage": {"storage", "errors", "telemetry"},
    "inbox": {"storage", "core", "errors", "telemetry"},
    "ledger": {"storage", "errors", "telemetry"},
    "handlers": {"handlers", "github", "ledger", "core", "errors", "telemetry"},
    "worker": {"inbox", "handlers", "ledger", "github", "core", "errors", "telemetry", "storage"},
    "wire": {"core"},
    "relay": {"wire", "core", "storage", "telemetry"},
    "outbox": {"relay", "core", "storage", "telemetry"},
    "configs": {"core", "storage", "errors", "telemetry"},
    "exchange": {
        "relay", "wire", "outbox", "configs", "inbox", "github", "core", "storage", "errors", "telemetry",
    },
    "repositories": {"ledger", "core", "storage", "errors", "telemetry"},
    "recovery": {
        "github", "inbox", "exchange", "ledger", "repositories", "handlers", "core", "storage", "errors", "telemetry",
    },
    "census": {"github", "repositories", "core", "storage", "errors", "telemetry"},
    "server": {"inbox", "exchange", "core", "errors", "telemetry", "storage"},
    "admin": {"inbox", "exchange", "core", "storage", "telemetry"},
    "daemon": {
        "server", "admin", "worker", "recovery", "census", "repositories",
        "exchange", "relay", "wire", "outbox", "configs", "inbox", "ledger",
        "storage", "github", "handlers", "core", "settings", "live", "supervisor",
        "telemetry", "errors",
    },
    "sandbox": {"sandbox", "core"},
    "bump": {"github", "core", "errors"},
    "registration": {"github", "errors"},
    "doctor": {"github", "relay", "wire", "core", "errors"},
    "cli": {
        "cli", "admin", "bump", "daemon", "doctor", "settings", "handlers", "core", "git", "github", "inbox",
        "registration", "sandbox", "storage", "templates", "telemetry", "wire", "errors",
    },
}  # fmt: skip

# One door per outside thing: the module, and who may import it.
DOORS = {
    "gidgethub": {"github"},
    "sqlite3": {"storage"},
    "re2": {"core.patterns"},
    "prometheus_client": {"telemetry"},
    "structlog": {"telemetry"},
    "opentelemetry": {"telemetry"},
    "asyncio": {"storage.sqlite", "daemon"},
    "graphql": {"sandbox"},
    "click": {"cli"},
}

# Calls that only these modules may make.
CALLS = {
    "os.environ": {"settings", "cli"},
    "os.getenv": set(),
    "print": {"cli"},
    "sys.exit": {"cli"},
}


@dataclass(frozen=True)
class Source:
    """One module: its name below the package, such as "core.trees", and its text."""

    name: str
    text: str

    @property
    def part(self) -> str:
        return self.name.split(".")[0]

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def imports(self) -> Iterator[str]:
        """The full names that the module imports; what only a type checker sees counts, too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} has a relative import"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources() -> list[Source]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found.append(Source(name.removesuffix(".__init__"), path.read_text()))
    return found


def ours(name: str) -> str | None:
    """The first name below our package that an import refers to."""
    parts = name.split(".")
    if parts[0] != "telefonistka":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ARROWS else "__init__"


def bad_arrows(source: Source) -> list[str]:
    allowed = ARROWS.get(source.part)
    if allowed is None:
        return [f"{source.name} has no place in the map"]
    return [
        f"{source.name} imports {name}"
        for name in source.imports()
        if (part := ours(name)) is not None and part not in allowed | {"__init__"}
    ]


def bad_doors(source: Source) -> list[str]:
    return [
        f"{source.name} imports {name}"
        for name in source.imports()
        for thing, doors in DOORS.items()
        if name.split(".")[0] == thing and not doors & {source.name, source.part}
    ]


def bad_calls(source: Source) -> list[str]:
    used = {ast.unparse(node) for node in ast.walk(source.tree) if isinstance(node, ast.Attribute)}
    used |= {
        node.func.id for node in ast.walk(source.tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return [f"{source.name} uses {call}" for call, doors in CALLS.items() if call in used and source.part not in doors]


def cycle(everything: list[Source]) -> list[str]:
    """The modules of one import cycle, or none."""
    names = {source.name for source in everything}
    arrows: dict[str, set[str]] = {}
    for source in everything:
        wanted = {name.removeprefix("telefonistka.") for name in source.imports() if name.startswith("telefonistka.")}
        arrows[source.name] = {
            target for name in wanted for target in (name, name.rpartition(".")[0]) if target in names
        } - {source.name}
        # `from package import module` imports the module, not what else the package's own file holds.
        arrows[source.name] -= {name.rpartition(".")[0] for name in wanted & names}
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        found = next((way for target in sorted(arrows[name]) if (way := visit(target, [*path, name]))), [])
        done.add(name)
        return found

    return next((way for name in sorted(arrows) if (way := visit(name, []))), [])


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_a_module_imports_only_what_the_map_allows(source: Source) -> None:
    """Arrows, doors, and what only the outermost modules may do."""
    assert bad_arrows(source) + bad_doors(source) + bad_calls(source) == []


def test_no_modules_import_each_other() -> None:
    """Neither directly nor around a corner."""
    assert cycle(sources()) == []


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("core.drift", "from telefonistka.github import repo", "core.drift imports telefonistka.github.repo"),
        ("core.drift", "import telefonistka.storage.sqlite", "core.drift imports telefonistka.storage.sqlite"),
        ("handlers.drift", "from telefonistka import server", "handlers.drift imports telefonistka.server"),
        ("sandbox.extra", "from telefonistka import github", "sandbox.extra imports telefonistka.github"),
        ("worker", "import sqlite3", "worker imports sqlite3"),
        ("core.drift", "import re2", "core.drift imports re2"),
        ("core.drift", "import os\nx = os.environ['A']", "core.drift uses os.environ"),
        ("server", "print('x')", "server uses print"),
        ("helpers", "", "helpers has no place in the map"),
    ],
)
def test_a_bad_import_is_found(name: str, text: str, complaint: str) -> None:
    """The check can fail: each seeded fault is seen."""
    source = Source(name, text)
    assert complaint in bad_arrows(source) + bad_doors(source) + bad_calls(source)


def test_a_cycle_is_found() -> None:
    """A seeded one, over three modules."""
    loop = [
        Source("core.one", "from telefonistka.core import two"),
        Source("core.two", "from telefonistka.core.three import x"),
        Source("core.three", "import telefonistka.core.one"),
    ]
    assert cycle(loop) == ["core.one", "core.two", "core.three", "core.one"]
