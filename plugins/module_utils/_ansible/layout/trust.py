# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host has what a member needs to start and the roles do not make: its secret, its certificate, QEMU's user. Pure."""

from __future__ import annotations

from .known import REPLICA_SEATS

SECRET = "/etc/plover/{name}.secret"
CERTIFICATE = ("/etc/plover/{name}/tls/cert.pem", "/etc/plover/{name}/tls/key.pem")
MADE_BY_ROLE = "plover-qemu"  # role qemu's own default of qemu_user
TAG, STARTING = "secrets", ("vm", "witness", "runtime")


def _setting(vm, key, default=""):
    given = vm.get("settings")
    return (given.get(key) or default) if isinstance(given, dict) else default


def paths(vms):
    """What plover_host_info has to look for on a host with members of ``vms``."""
    out = []
    for vm in vms:
        name = str(vm.get("name"))
        out += [path.format(name=name) for path in (SECRET, *CERTIFICATE)]
        out += [own for own in (_setting(vm, "secret_file"),) if isinstance(own, str) and own]
    return out


def problems(look, values, here, limits):
    """``here``: the VMs with a member on this host, each with its seat. ``values``: the host's variables."""
    out = []
    for vm, seat in here:
        out += _secret(look, vm, limits) + _certificate(look, vm, limits)
        if seat in REPLICA_SEATS:
            out += _user(look, values, vm) + _apparmor(look, vm)
    return out


def _is_there(look, path):
    """True as well if it was not looked for."""
    return look["paths"].get(path, {}).get("exists", True)


def _runs(limits, *tags):
    """Whether this run of the play comes to a role with one of these tags."""
    wanted, skipped = limits.get("tags") or ["all"], limits.get("skipped_tags") or []
    return any(tag not in skipped and ("all" in wanted or tag in wanted) for tag in tags)


def _starts_without_secrets(limits):
    """Whether this run starts members, but leaves out role secrets."""
    return _runs(limits, *STARTING) and not _runs(limits, TAG)


def _secret(look, vm, limits):
    name, own = vm.get("name"), _setting(vm, "secret_file")
    if own:
        if _is_there(look, own):
            return []
        return [
            f"settings.secret_file: {own} is not on this host, and without its secret no member of {name} starts; put the same file there "
            "on all three hosts, or remove the setting, so that role secrets makes one"
        ]
    if _is_there(look, SECRET.format(name=name)) or not _starts_without_secrets(limits):
        return []
    return [f"secret: {name} has none on this host, and this run leaves out the role that makes it; run it with the tag {TAG} as well"]


def _certificate(look, vm, limits):
    if (vm.get("link_security") or "tls") == "none" or not _starts_without_secrets(limits):
        return []
    name = vm.get("name")
    missing = [path for path in (each.format(name=name) for each in CERTIFICATE) if not _is_there(look, path)]
    if not missing:
        return []
    return [
        f"link_security: tls, but {name} has no certificate on this host ({', '.join(missing)}), and this run leaves out the role that "
        f"makes it; run it with the tag {TAG} as well"
    ]


def _user(look, values, vm):
    user = _setting(vm, "qemu_user")
    if not user or user in ("root", values.get("qemu_user") or MADE_BY_ROLE, f"plover-{vm.get('name')}"):
        return []
    if "users" not in look or user in look["users"]:
        return []
    return [
        f"settings.qemu_user: there is no user {user} on this host, and QEMU of {vm.get('name')} does not run as root in its place; create "
        "it, or remove the setting, so that the VM gets a user of its own"
    ]


def _apparmor(look, vm):
    if _setting(vm, "qemu_apparmor") != "on" or not look.get("apparmor_problem"):
        return []
    return [f"settings.qemu_apparmor: on, but this host cannot confine QEMU: {look['apparmor_problem']}; or set it to auto"]
