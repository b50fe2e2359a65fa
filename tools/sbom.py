# SPDX-License-Identifier: GPL-3.0-or-later
"""The release's bill of materials in CycloneDX: what runs on the hosts, and what we build and test with. Pure, but for reading files
of this repository."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import yaml
from lock_requirements import FOLDER, ROOT, names, normal, pins

SPEC = "1.5"
HOSTS = "target-python"  # the lock of what the hosts get; the others are for developers


def _python(name: str, version: str, lock: str) -> dict[str, Any]:
    out: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{version}",
        "purl": f"pkg:pypi/{name}@{version}",
        "name": name,
        "version": version,
        "scope": "required" if lock == HOSTS else "excluded",
        "properties": [{"name": "plover:requirements", "value": lock}],
    }
    if lock == HOSTS:
        role = yaml.safe_load((ROOT / "roles" / "runtime" / "vars" / "main.yml").read_text(encoding="utf-8"))
        wheels = {normal(one["requirement"].split("==")[0]): one["sha256"] for one in role["runtime_wheels"]}
        out["hashes"] = [{"alg": "SHA-256", "content": wheels[name]}]
    return out


def _debian(name: str) -> dict[str, Any]:
    """The hosts take their distribution's version."""
    return {"type": "application", "bom-ref": f"pkg:deb/debian/{name}", "purl": f"pkg:deb/debian/{name}", "name": name, "scope": "required"}


def components() -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for lock in sorted(names(), key=lambda name: name != HOSTS):
        for name, version in pins((FOLDER / f"{lock}.txt").read_text(encoding="utf-8")).items():
            one = found.setdefault(f"{name} {version}", _python(name, version, lock))
            if one["properties"][0]["value"] != lock:
                one["properties"].append({"name": "plover:requirements", "value": lock})
    return [
        *found.values(),
        *map(_debian, _packages("qemu", "Debian", "qemu_family_packages") + _packages("runtime", "main", "runtime_packages")),
    ]


def _packages(role: str, file: str, variable: str) -> list[str]:
    """Debian's, that a role installs."""
    return list(yaml.safe_load((ROOT / "roles" / role / "vars" / f"{file}.yml").read_text(encoding="utf-8"))[variable])


def of(tarball: Path, sha256: str, when: str) -> str:
    """``when``: the commit's time, ISO 8601. The same tarball gives the same text."""
    version = re.fullmatch(r"plover-vmft-(.+)[.]tar[.]gz", tarball.name)
    if version is None:
        raise ValueError(f"{tarball.name} is not the collection's tarball")
    ours = {
        "type": "application",
        "bom-ref": "plover.vmft",
        "name": "plover.vmft",
        "version": version[1],
        "licenses": [{"license": {"id": "GPL-3.0-or-later"}}],
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    }
    parts = components()
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, sha256)}",
        "version": 1,
        "metadata": {"timestamp": when, "component": ours},
        "components": parts,
        "dependencies": [{"ref": "plover.vmft", "dependsOn": [part["bom-ref"] for part in parts if part["scope"] == "required"]}],
    }
    return json.dumps(bom, indent=1) + "\n"
