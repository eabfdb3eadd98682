"""The bot's prose: one Markdown file with Jinja2 per comment."""

from collections.abc import Mapping
from importlib import resources


def load() -> Mapping[str, str]:
    """The templates by file name."""
    files = resources.files(__name__).iterdir()
    return {file.name: file.read_text() for file in files if file.name.endswith(".md")}
