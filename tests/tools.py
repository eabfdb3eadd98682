"""Programs that some tests need and that a machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(name: str, package: str) -> str:
    """The program's path. Where it is missing the test is skipped, and fails in CI, which installs it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found:
        return found
    sentence = f"{name} is not installed; on Debian it is in the package {package}, and .ci/run gets it"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)
