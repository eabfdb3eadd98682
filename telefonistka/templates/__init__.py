"""The bot's prose: one Markdown file with Jinja2 per comment, each of which an operator may replace."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

ORIGINALS = ".gotmpl"  # what the original Telefonistka's templates end in


def load() -> Mapping[str, str]:
    """The templates by file name."""
    files = resources.files(__name__).iterdir()
    return {file.name: file.read_text(encoding="utf-8") for file in files if file.name.endswith(".md")}


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in an operator's directory: texts in the place of ours, and files that mean nothing to us."""

    texts: Mapping[str, str]
    originals: tuple[str, ...]  # the original's
    unknown: tuple[str, ...]


def found(directory: Path) -> Found:
    """The operator's own templates; raises OSError or UnicodeDecodeError where they cannot be read."""
    files = sorted(file for file in directory.iterdir() if file.is_file())
    known = load()
    return Found(
        texts={file.name: file.read_text(encoding="utf-8") for file in files if file.name in known},
        originals=tuple(file.name for file in files if file.suffix == ORIGINALS),
        unknown=tuple(file.name for file in files if file.suffix == ".md" and file.name not in known),
    )
