# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM of plover_vms by itself: its keys, its hosts, its settings, its disks. Pure."""

from __future__ import annotations

import re

from ...plover.config import settings as config
from ...plover.errors import ConfigError
from .. import fence_words, nics
from . import boot, cards
from .disks import problems as disk_problems
from .known import (
    GROUP,
    NO_KEYS,
    REPLICA_SEATS,
    REPLICAS,
    SEATS,
    SECRET_KEYS,
    SETTING_FROM,
    SETTING_OF,
    VM_KEYS,
    VM_REQUIRED,
    WITNESSES,
    close_to,
)

KEY_OF = {setting: key for key, setting in SETTING_OF.items()}
_UNICAST = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}\Z")
_CERTIFIED = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")  # as plugin_utils/certificates.py
_SECRET = re.compile(r"[A-Za-z0-9+/=_-]{32,256}\Z")
_GUEST = re.compile(r"\bguest_\w+")
_FILES = ("kernel", "initrd", "cdrom", "cloud_init")
_LINES = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f]+\Z")
FENCE_INPUT_BYTES_MAX = 4096
# Where the runtime's own words would not name the remedy.
_SAID = {
    "cluster_id": "must be a UUID in lower case; make one with uuidgen",
    "mac": 'must be a unicast MAC address in lower case, in quotes, like "52:54:00:70:6c:01"',
    "accel": "must be auto, kvm or tcg",
    "link_security": "{value} must be tls or none (links between members that anyone on their network can read)",
    "addresses": "must be a list of IPv4 addresses without prefix, like [192.168.79.50]",
    "disk_overlay_mib": "{value} must be whole MiB, 8 to 1048576",
    "fence_command": "must be a list of words, like [/usr/local/sbin/fence, '{{host}}', '{{address}}']",
    "on_event_command": "must be a list of words, like [/usr/local/sbin/plover-event]",
}
# Stand for what is checked here and not by the runtime, so that it judges the rest.
_GOOD = {
    "name": "vm",
    "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "guest_mac": "52:54:00:00:00:01",
    "link_security": "tls",
    "member": "a",
    "preferred_leader": "a",
    "members": {
        "a": {"address": "192.0.2.1", "kind": "replica"},
        "b": {"address": "192.0.2.2", "kind": "replica"},
        "c": {"address": "192.0.2.3", "kind": "witness"},
    },
}


def of_host(vms, host, kinds=None):
    """Those of ``vms`` that have one of the seats ``kinds`` (None: any) on ``host``."""
    return [vm for vm in vms if host in [name for seat, name in seats(vm).items() if seat in (kinds or SEATS)]]


def whole_within(vms, hosts):
    """Those of ``vms`` whose hosts are all among ``hosts``."""
    return [vm for vm in vms if set(seats(vm).values()) <= set(hosts)]


def without_secrets(vm):
    """``vm`` as a task may show it. Its settings may carry a secret as well, such as an argument of the fence agent."""
    return {key: value for key, value in vm.items() if key not in (*SECRET_KEYS, "settings")}


def problems(at, vm, hosts, groups, head):
    """What is wrong with ``vm``, whose place in the inventory is ``at``."""
    unknown = {f"{at}.{key}": _unknown_key(at, key) for key in vm if key not in VM_KEYS}
    # A key that is missing because it was misspelt is one error.
    out = [
        f"{at}.{key}: is missing; every VM needs it"
        for key in (*VM_REQUIRED, *(() if vm.get(nics.NICS) is not None else ("mac",)))
        if vm.get(key) in (None, "") and not any(text.endswith(f"mean {key}?") for text in unknown.values())
    ]
    out += [f"{key}: {text}" for key, text in unknown.items()]
    out += _seats(at, vm, hosts, groups)
    out += _cards(at, vm)
    if vm.get("secret") is not None and not (isinstance(vm["secret"], str) and _SECRET.match(vm["secret"])):
        out.append(f"{at}.secret: must be 32 to 256 letters, digits and +/=_-; make one with 'openssl rand -hex 32'")
    return out + boot.problems(at, vm, head) + _fencing(at, vm) + _words(at, vm) + disk_problems(at, vm, head)


def _cards(at, vm):
    """The settings, and the cards among them."""
    out = cards.problems(at, vm)
    if vm.get(nics.NICS) is None:
        return _settings(at, vm, None)
    if out:  # what is wrong with the cards would be said again, of keys that nobody wrote
        return out + _settings(at, {**{key: vm[key] for key in vm if key not in nics.OF_A_VM}}, None)
    whole = nics.spread(vm)
    settings = {key: value for key, value in (whole.get("settings") or {}).items() if key != nics.FURTHER}
    further = (whole.get("settings") or {}).get(nics.FURTHER)
    return cards.in_words(at, _settings(at, {**whole, "settings": settings}, further))


def _fencing(at, vm):
    text, out = vm.get("fence_input"), []
    if text is not None and not (isinstance(text, str) and 0 < len(text.encode()) <= FENCE_INPUT_BYTES_MAX and _LINES.match(text)):
        out.append(f"{at}.fence_input: must be lines of text, like passwd=…, of at most {FENCE_INPUT_BYTES_MAX} bytes in all")
    return out


def _words(at, vm):
    """A command line is for everybody on the host to read, so no secret belongs into it."""
    settings, out = vm.get("settings"), []
    for key, remedy in (
        ("fence_command", f"put it into {at}.fence_input, which the agent reads on its standard input"),
        ("on_event_command", "let the command read it from a file of its own"),
    ):
        command = settings.get(key) if isinstance(settings, dict) else None
        for number in fence_words.secrets_in(command if isinstance(command, list) else []):
            out.append(f"{at}.settings.{key}: word {number + 1} is a password, which each local user of the host could read; {remedy}")
    return out


def _unknown_key(at, key):
    if key in config.SETTINGS:
        return "is not known; " + (
            f"write {KEY_OF[key]}"
            if key in KEY_OF
            else f"give it as {SETTING_FROM[key]}"
            if key in SETTING_FROM
            else f"it is a runtime setting, put it under {at}.settings"
        )
    if key in NO_KEYS:
        return f"is not known; {NO_KEYS[key]}"
    meant = close_to(key, VM_KEYS)
    return f"is not known; {meant or f'remove it, or put a runtime setting under {at}.settings'}"


# ---- hosts -----------------------------------------------------------------------------------------------------
def seats(vm):
    """seat -> host, of those that are named as they should be."""
    return {seat: vm[seat] for seat in SEATS if isinstance(vm.get(seat), str) and vm[seat]}


def _seats(at, vm, hosts, groups):
    out = [
        f"{at}.{seat}: must be the name of a host of the inventory"
        for seat in SEATS
        if vm.get(seat) not in (None, "") and not isinstance(vm[seat], str)
    ]
    named = seats(vm)
    if len(set(named.values())) < len(named):
        return [
            *out,
            f"{at}: primary, secondary and witness must be three different hosts, not "
            f"{', '.join(named.values())}; name another host for one of them",
        ]
    for seat, host in named.items():
        if host not in hosts:
            meant = close_to(host, hosts)
            out.append(f"{at}.{seat}: host {host} is not in the inventory; {meant or 'add it, or name another'}")
        elif vm.get("link_security") != "none" and not _CERTIFIED.match(host):
            out.append(
                f"{at}.{seat}: {host} cannot stand in a certificate; name the host with 1 to 64 letters, digits and ._-, or set "
                f"{at}.link_security: none"
            )
    return out + _groups(at, {seat: host for seat, host in named.items() if host in hosts}, groups)


def _groups(at, named, groups):
    """Hosts that sit in the wrong group, or in none."""
    replicas, witnesses = (set(groups.get(name, ())) for name in (REPLICAS, WITNESSES))
    wrong = {seat: host for seat, host in named.items() if host not in (replicas if seat in REPLICA_SEATS else witnesses)}
    swapped = [seat for seat in REPLICA_SEATS if wrong.get(seat) in witnesses]
    if len(swapped) == 1 and wrong.get("witness") in replicas:
        seat = swapped[0]
        return [
            f"{at}: {seat} and witness are swapped: {named[seat]} is in group {WITNESSES} and {named['witness']} in "
            f"{REPLICAS}; write {seat}: {named['witness']}, witness: {named[seat]}"
        ]
    out = []
    for seat, host in wrong.items():
        need, other, have = (REPLICAS, WITNESSES, witnesses) if seat in REPLICA_SEATS else (WITNESSES, REPLICAS, replicas)
        if host in have:
            out.append(f"{at}.{seat}: {host} is in group {other} only; move it to {need}, or name another host")
        else:
            out.append(f"{at}.{seat}: {host} is not in group {need}; add it there, below {GROUP}")
    return out


# ---- settings --------------------------------------------------------------------------------------------------
def number(value):
    """A whole number that came as text (``-e``, a template) as a number."""
    return int(value) if isinstance(value, str) and re.match(r"\d{1,12}\Z", value) else value


def port_of(values, key="port"):
    """The port C(key) of a VM, or of its settings, or the default; None if it is no number."""
    value = number(values.get(key, config.SETTINGS[key].default))
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _settings(at, vm, further):
    """The settings that are made of the VM, judged by the runtime's own table and rules. ``further``: its cards but the first."""
    given = vm.get("settings")
    out = []
    if given is not None and not isinstance(given, dict):
        out.append(f"{at}.settings: must be a mapping, like {{failover_budget_ms: 2000}}")
    values, bad = {**_GOOD, **_booted_by(vm)}, set()
    for key, setting in SETTING_OF.items():
        if key not in ("disks", *_FILES) and vm.get(key) not in (None, ""):
            _judge(f"{at}.{key}", key, setting, vm[key], values, bad, out)
    for setting, value in (given if isinstance(given, dict) else {}).items():
        where = f"{at}.settings.{setting}"
        if setting not in config.SETTINGS:
            meant = close_to(setting, config.SETTINGS)
            out.append(f"{where}: is not known; {meant or 'remove it; known are those of docs/operations.md'}")
        elif setting in KEY_OF:
            out.append(f"{where}: the roles would not know of it; give it as {at}.{KEY_OF[setting]}")
        elif setting in SETTING_FROM:
            out.append(f"{where}: the roles make it; remove it and set {SETTING_FROM[setting]}")
        else:
            _judge(where, setting, setting, value, values, bad, out)
    if further:
        values[nics.FURTHER] = [{**card, "mtu": number(card["mtu"])} if "mtu" in card else card for card in further]
    return out + _together(at, values, bad)


def _booted_by(vm):
    """Stand for the files that the VM boots from: whether they are there is what counts here."""
    out = {SETTING_OF[key]: f"/{key}" if vm.get(key) else "" for key in _FILES}
    return {**out, "disks": [{"path": "/disk"}] if vm.get("disks") else []}


def _judge(where, key, setting, value, values, bad, out):
    """Take a value into ``values``, or say what is wrong with it by itself."""
    row = config.SETTINGS[setting]
    value = number(value) if row.kind is int else value
    fits = not config.check_value(setting, value) and (key != "mac" or _UNICAST.match(value))
    if fits:
        values[setting] = value
        return
    bad.add(setting)
    out.append(f"{where}: " + (_SAID[key].format(value=value) if key in _SAID else unfit(row, value)))


def unfit(row, value):
    """Why ``value`` does not fit ``row``, in an inventory's words."""
    if row.kind is int:
        return f"{value} must be a whole number, {row.low} to {row.high} ({row.help})"
    if row.choices:
        quotes = '; put "off" in quotes' if value is False and "off" in row.choices else ""
        return f"{value} is not one of {', '.join(row.choices)} ({row.help}){quotes}"
    if not isinstance(value, row.kind):
        words = {str: "a text; put it in quotes", list: "a list", dict: "a mapping", bool: "true or false"}
        return f"{value} must be {words[row.kind]} ({row.help})"
    if not row.pattern:
        return f"has a control character; remove it ({row.help})"  # the value is not shown: a URL may hold a password
    return f"{value!r} is not valid ({row.help}); it must match {row.pattern.pattern.replace(chr(92) + 'Z', '')}"


def _together(at, values, bad):
    """What does not fit together; what only follows from a bad value is not said again."""
    try:
        config.Config(values)
    except ConfigError as error:
        lines = [line.partition(": ") for line in str(error).splitlines()]
    else:
        return []
    return [
        f"{at}.{KEY_OF.get(key, f'settings.{key}')}: {_GUEST.sub(lambda word: KEY_OF.get(word[0], word[0]), text)}"
        for key, _colon, text in lines
        if not any(re.search(rf"\b{name}\b", f"{key} {text}") for name in bad)
    ]
