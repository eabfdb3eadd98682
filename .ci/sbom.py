"""Writes what a wheel consists of beside it, as a CycloneDX document: `sbom.py WHEEL REQUIREMENTS`.

The versions are those of the locked requirements; licences and dependencies are what the installed packages say of
themselves. The same wheel and SOURCE_DATE_EPOCH give the same bytes. https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", re.MULTILINE)


def document(wheel: Path, requirements: Path, epoch: int) -> dict[str, Any]:
    """The bill of materials of a wheel that is installed with these requirements."""
    name, version, *_ = parse_wheel_filename(wheel.name)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pins = {canonicalize_name(found): pin for found, pin in PIN.findall(requirements.read_text())}
    ours = component(name, str(version)) | {"hashes": [{"alg": "SHA-256", "content": digest}]}
    everything = {name: str(version), **pins}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": ours | {"type": "application"},
        },
        "components": [component(one, pin) for one, pin in sorted(pins.items())],
        "dependencies": [
            {"ref": purl(one, pin), "dependsOn": needs(one, everything)} for one, pin in sorted(everything.items())
        ],
    }


def purl(name: str, version: str) -> str:
    """https://github.com/package-url/purl-spec"""
    return f"pkg:pypi/{name}@{version}"


def component(name: str, version: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "library", "bom-ref": purl(name, version), "name": name, "version": version}
    return found | {"purl": purl(name, version)} | licences(name)


def licences(name: str) -> dict[str, Any]:
    """Nothing for a package that is not for this platform."""
    try:
        said = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return {}
    if expression := said.get("License-Expression"):
        return {"licenses": [{"expression": expression}]}
    classified = [one.rpartition(" :: ")[2] for one in said.get_all("Classifier", []) if one.startswith("License ::")]
    named = classified or [line for line in said.get("License", "").splitlines()[:1] if line]
    return {"licenses": [{"license": {"name": one}} for one in named]} if named else {}


def needs(name: str, pins: Mapping[str, str]) -> list[str]:
    """What a package depends on, on any platform; extras only where the requirements have what they bring."""
    try:
        wanted = [Requirement(text) for text in metadata.requires(name) or ()]
    except metadata.PackageNotFoundError:
        return []
    names = {canonicalize_name(one.name) for one in wanted}
    return sorted(purl(one, pins[one]) for one in names & pins.keys())


if __name__ == "__main__":
    built = Path(sys.argv[1])
    found = document(built, Path(sys.argv[2]), int(os.environ["SOURCE_DATE_EPOCH"]))
    target = built.with_name(f"{'-'.join(built.name.split('-')[:2])}.cdx.json")
    target.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
