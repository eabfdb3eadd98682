"""What is handed out: the same commit gives the same bytes, and they work on their own."""

from __future__ import annotations

import json
import re
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from telefonistka import __version__
from tests.operate import packages

ROOT = packages.ROOT


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def made(directory: Path) -> Mapping[str, Path]:
    return packages.built(packages.source(directory / "first"))


def test_two_builds_are_equal(directory: Path, made: Mapping[str, Path]) -> None:
    """The wheel, the source archive and the bill of materials, from another copy of the files."""
    again = packages.built(packages.source(directory / "second"))
    assert {kind: packages.digest(path) for kind, path in made.items()} == {
        kind: packages.digest(path) for kind, path in again.items()
    }


def test_the_wheel_works_in_an_empty_environment(directory: Path, made: Mapping[str, Path]) -> None:
    """Outside of the checkout; of this environment it sees the dependencies alone.

    `python -m tests.operate.packages` does it with every Python, with what pip installs, and with the demo.
    """
    place = directory / "elsewhere"
    packages.run((sys.executable, "-m", "venv", place / "venv"), cwd=directory)
    programs = place / "venv" / "bin"
    packages.run((programs / "pip", "install", "--quiet", "--no-deps", "--no-index", made["wheel"]), cwd=place)
    # By PYTHONPATH, where the .pth file that leads to the checkout is not read.
    dependencies = sysconfig.get_path("purelib")
    where = (programs / "python", "-c", "import telefonistka; print(telefonistka.__file__)")
    assert str(place) in packages.run(where, cwd=place, PYTHONPATH=dependencies)
    packages.tried(programs, place, PYTHONPATH=dependencies)


def test_the_packages_hold_what_they_need(made: Mapping[str, Path]) -> None:
    """Our words and GitHub's schema; nothing of the tests."""
    with zipfile.ZipFile(made["wheel"]) as wheel:
        names = set(wheel.namelist())
    package = ROOT / "telefonistka"
    wanted = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {str(path.relative_to(ROOT)) for path in wanted} == {name for name in names if ".dist-info" not in name}


def test_the_bill_of_materials_names_each_locked_package(made: Mapping[str, Path]) -> None:
    """With its version and licence, what it depends on, and no address of a registry."""
    text = made["materials"].read_text()
    bill = json.loads(text)
    pins = re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert [(one["name"], one["version"]) for one in bill["components"]] == sorted(pins)
    assert bill["metadata"]["component"]["version"] == __version__
    assert bill["metadata"]["component"]["hashes"][0]["content"] == packages.digest(made["wheel"])
    assert bill["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert "://" not in text
    assert [one["name"] for one in bill["components"] if not one.get("licenses")] == []
    ours = next(one for one in bill["dependencies"] if one["ref"] == f"pkg:pypi/telefonistka@{__version__}")
    assert {"aiohttp", "click", "structlog"} <= {
        ref.partition("@")[0].removeprefix("pkg:pypi/") for ref in ours["dependsOn"]
    }
