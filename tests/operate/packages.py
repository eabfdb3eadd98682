"""What `make dist` builds, built twice and tried in empty environments.

    python -m tests.operate.packages                 # with every Python from 3.11 to 3.13 that is found
    python -m tests.operate.packages 3.12            # with some of them

Each gets a virtual environment with the locked requirements and the wheel, and one with what pip makes of the source;
there, outside of the checkout, the demo runs to its end.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.11", "3.12", "3.13")
PARTS = ("telefonistka", "config", "systemd")
FILES = (
    *("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "CHANGELOG.md", "Containerfile"),
    *(".containerignore", ".gitignore"),
)
EPOCH = "1700000000"
DEADLINE = 600  # seconds for one command


def run(command: Iterable[str | Path], *, cwd: Path, **variables: str) -> str:
    """What it prints; raises CalledProcessError, with its output, where it fails."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        tuple(command), cwd=cwd, env=kept | variables, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        done.check_returncode()
    return done.stdout


def source(directory: Path) -> Path:
    """A copy of the checkout's part that is packed, with files that are as old as the copy."""
    directory.mkdir(parents=True)
    for name in PARTS:
        if (ROOT / name).exists():
            shutil.copytree(
                ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copy
            )
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, directory / name)
    return directory


def built(directory: Path) -> Mapping[str, Path]:
    """The wheel and the source archive of such a copy, by their endings, and what they consist of."""
    made = directory / "dist"
    hatchling = [sys.executable, "-m", "hatchling", "build", "-d", str(made)]
    run(hatchling, cwd=directory, SOURCE_DATE_EPOCH=EPOCH)
    (wheel,), (archive,) = made.glob("*.whl"), made.glob("*.tar.gz")
    bill = (sys.executable, ROOT / ".ci" / "sbom.py", wheel, directory / "requirements.txt")
    run(bill, cwd=directory, SOURCE_DATE_EPOCH=EPOCH)
    (materials,) = made.glob("*.cdx.json")
    return {"wheel": wheel, "source": archive, "materials": materials}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def python(version: str) -> str | None:
    """An interpreter of this version that runs: by its name, or among those that pyenv has."""
    found = shutil.which(f"python{version}")
    if found and not subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        return str(Path(found).resolve())
    if shutil.which("pyenv") is None:
        return None
    known = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False).stdout.split()
    for name in (one for one in known if one.startswith(f"{version}.")):
        prefix = subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True, check=True).stdout.strip()
        return str(Path(prefix, "bin", f"python{version}"))
    return None


def environment(interpreter: str, directory: Path, package: Path, requirements: Path) -> Path:
    """The programs of a new environment with the package and what it is locked to."""
    run([interpreter, "-m", "venv", directory], cwd=directory.parent)
    pip = (directory / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
    run((*pip, "--require-hashes", "--requirement", requirements), cwd=directory.parent)
    run((*pip, "--no-deps", package), cwd=directory.parent)
    return directory / "bin"


def tried(programs: Path, directory: Path, **variables: str) -> None:
    """The small commands work outside of the checkout."""
    telefonistka = programs / "telefonistka"
    assert run([telefonistka, "--version"], cwd=directory, **variables).startswith("telefonistka version ")
    (directory / "telefonistka.yaml").write_text("promotionPaths: []\n")
    run([telefonistka, "check", directory], cwd=directory, **variables)
    assert "--exit" in run([telefonistka, "demo", "--help"], cwd=directory, **variables)


def main(versions: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="telefonistka-") as name:
        directory = Path(name)
        packages, again = (built(source(directory / which)) for which in ("first", "second"))
        for kind, path in packages.items():
            same = "the same again" if digest(path) == digest(again[kind]) else "ANOTHER the second time"
            print(f"{path.name}  {path.stat().st_size} bytes  sha256 {digest(path)}  {same}")
        for version in versions:
            interpreter = python(version)
            if interpreter is None:
                print(f"Python {version}: not here")
                continue
            for kind in ("wheel", "source"):
                started = time.monotonic()
                place = directory / f"{version}-{kind}"
                place.mkdir()
                programs = environment(interpreter, place / "venv", packages[kind], ROOT / "requirements.txt")
                found = run([programs / "python", "--version"], cwd=place).strip()
                tried(programs, place)
                run([programs / "telefonistka", "demo", "--exit"], cwd=place)
                print(f"{found}: {kind} installed, demo done, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:] or VERSIONS)
