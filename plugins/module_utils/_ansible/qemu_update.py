# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host's VMs can move to a newer QEMU while they serve. Pure. The members judge it again: plover/core/join_request.py."""

from __future__ import annotations

import re

from ..plover.core.join_request import NEWER_BELOW, VAGUE_CPUS

_VERSION = re.compile(r"(?:\d+:)?(\d{1,4})\.(\d{1,4})")


def series(version):
    """(10, 0) of "1:10.0.2+ds-2" or "10.0.2"; None if it is no version."""
    found = _VERSION.match(version) if isinstance(version, str) else None
    return found and tuple(map(int, found.groups()))


def problems(vms, candidate):
    """One sentence for each VM that cannot go to ``candidate``, the version that apt would install. ``vms``: of plover_info."""
    new, out = series(candidate), []
    if new is None:
        return [f"no version of QEMU to install was found ({candidate or 'apt names none'}); see 'apt-cache policy qemu-system-x86'"]
    for name, found in sorted(vms.items()):
        if found["kind"] == "replica":
            why = _why_not(found, new, candidate)
            out += [f"{name}: {why}"] if why else []
    return out


def _why_not(found, new, candidate):
    versions = (found["status"] or {}).get("versions") or {}
    old = series(versions.get("qemu"))
    settings = found["configuration"]["vm"].get("settings") or {}
    if old is None:
        return "its QEMU does not run here; wait until the VM is protected"
    if new == old:
        return ""
    if new < old:
        return f"runs on QEMU {versions['qemu']}, and apt has {candidate}; a running VM never goes to an older one"
    if new >= NEWER_BELOW > old:
        return (
            f"would go from QEMU {versions['qemu']} to {candidate}, which is not tested; name another release with plover_qemu_release, "
            "or shut the guest down and update both hosts"
        )
    if settings.get("guest_machine", "pc") == "pc":
        return (
            f"settings.guest_machine: pc is another machine to QEMU {candidate}; set it to {versions.get('machine') or 'its whole name'}, "
            "and run plover.vmft.deploy_plover and plover.vmft.rolling_restart"
        )
    if str(settings.get("guest_cpu", "")).partition(",")[0] in VAGUE_CPUS:
        return f"settings.guest_cpu: {settings['guest_cpu']} differs between versions of QEMU; name a model"
    return ""
