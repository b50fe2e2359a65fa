# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of the network that the host undoes by itself unless a new connection confirms it.

``begin`` notes how all was (NAME.undo.json), sets a timer that undoes, and starts the change in a unit of its own, as the
connection that asked for it may not live through it. ``confirm`` removes the note. Who finds the note gone has nothing to
undo; a lock makes them take turns. After a reboot the note is still there and plover-bridge-undo.service undoes it before
the network starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import time

from . import host, networkmanager, own
from .model import Refusal
from .plans import stands

STATE, SCRIPT, LOCK_TIMEOUT_S = "/var/lib/plover-bridge", "/usr/local/sbin/plover-bridge", 10


def _path(bridge, kind):
    return f"{STATE}/{bridge}.{kind}.json"


def noted(bridge, kind):
    """Note ``kind`` (made, undo, result) of a bridge; {} if there is none."""
    text = host.read(_path(bridge, kind))
    try:
        return json.loads(text) if text else {}
    except ValueError as error:
        raise Refusal(f"{_path(bridge, kind)}: {error}; remove the file") from error


def _note(bridge, kind, value):
    host.write(_path(bridge, kind), None if value is None else json.dumps(value, indent=1, sort_keys=True) + "\n", 0o600)


@contextlib.contextmanager
def _turn(bridge):
    os.makedirs(STATE, exist_ok=True)
    with open(f"{STATE}/{bridge}.lock", "w", encoding="ascii") as file:
        end = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end:
                    raise host.HostError(f"another plover-bridge works on {bridge}") from None
                time.sleep(0.05)
        yield


def begin(facts, plan, joined, undo_after_s):
    """Arm, then start; the change comes a second later, when this answer is on its way."""
    bridge = facts.bridge
    if not os.access(SCRIPT, os.X_OK):
        raise Refusal(f"{SCRIPT} is missing on the host; role bridge installs it")
    if noted(bridge, "undo"):
        raise Refusal(
            f"plover_bridge_name: a change of {bridge} is under way and not confirmed; the host undoes it by "
            "itself, try again then (plover_bridge_rollback_s)"
        )
    source = facts.member if joined else bridge
    made = {
        "member": facts.member,
        "manager": plan.manager,
        "files": sorted(path for path, text in plan.files.items() if text is not None),
        "profile": networkmanager.lasting(facts.profile) or facts.made.get("profile", ""),
        "network": (facts.networkd or {}).get("path", "") or facts.made.get("network", ""),
    }
    _note(bridge, "result", None)
    _note(
        bridge,
        "undo",
        {
            "bridge": bridge,
            "member": facts.member,
            "joined": joined,
            "plan": plan.as_dict(),
            "made": made if joined else None,
            "before": {path: [host.read(path), host.mode_of(path)] for path in plan.files},
            "bridge_existed": bridge in facts.links,
            "stood": stands(facts),
            "addresses": facts.addresses.get(source, []),
            "routes": facts.routes.get(source, []),
        },
    )
    try:
        _unit(bridge, "undo", undo_after_s)
        _unit(bridge, "run", 1)
    except host.HostError:
        host.command(["systemctl", "stop", f"plover-bridge-undo-{bridge}.timer"])
        _note(bridge, "undo", None)
        raise


def _unit(bridge, verb, after_s):
    name = f"plover-bridge-{verb}-{bridge}"
    for words in (["stop", name + ".timer"], ["reset-failed", name + ".service"]):  # of an earlier change
        host.command(["systemctl", *words])
    host.must(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            "--unit=" + name,
            f"--on-active={after_s}",
            "--timer-property=AccuracySec=100ms",
            "--property=RuntimeMaxSec=120",
            SCRIPT,
            verb,
            bridge,
        ]
    )


def run(bridge):
    """Makes the change; undoes it at once if it fails."""
    with _turn(bridge):
        note = noted(bridge, "undo")
        if not note:
            return
        try:
            plan = note["plan"]
            _go(note, note["joined"], plan["files"], plan["stop"], plan["start"])
            result = {"ok": True, "said": "done"}
        except Exception as error:  # whatever it is, the host must come back
            result = {"ok": False, "said": str(error) or repr(error)}
        if not result["ok"]:
            result["said"] += _undo(note)
        _note(bridge, "result", result)


def _go(note, joined, files, stop, start):
    bridge, member = note["bridge"], note["member"]
    for words in stop:
        host.command(words)
    for path, text in files.items():
        host.write(path, text, note["before"][path][1])
    remove = not joined and not (note["joined"] and note["bridge_existed"])
    if not joined:
        host.detach(bridge, member, remove)
    for words in start:
        host.must(words)
    if joined:
        host.wait_standing(bridge, member)
    elif remove:
        host.wait_gone(bridge)
    source, target = (member, bridge) if joined else (bridge, member)
    host.carry(source, target, note["addresses"], note["routes"])


def _undo(note, commands=True):
    """Restores the old network and returns a sentence about it. Without ``commands``: files only, before a boot's network."""
    files = {path: before[0] for path, before in note["before"].items()}
    try:
        if commands and not (note["joined"] and note["stood"]):
            plan = note["plan"]
            _go(note, not note["joined"], files, plan["back_stop"], plan["back_start"])
        else:
            for path, text in files.items():
                host.write(path, text, note["before"][path][1])
        said = "; the old network is back"
    except Exception as error:
        said = f"; putting back the old network: {error}"
        if commands:
            with contextlib.suppress(Exception):  # the addresses at least
                source, target = (note["bridge"], note["member"]) if note["joined"] else (note["member"], note["bridge"])
                host.carry(source, target, note["addresses"], note["routes"])
    _note(note["bridge"], "undo", None)
    return said


def undo(bridge):
    """Called by the timer: nobody has confirmed."""
    for kind in ("timer", "service"):
        host.command(["systemctl", "stop", f"plover-bridge-run-{bridge}.{kind}"])
    with _turn(bridge):
        note = noted(bridge, "undo")
        if note:
            _note(bridge, "result", {"ok": False, "said": "nobody came in over a new connection" + _undo(note)})


def undo_at_boot():
    for path in glob.glob(STATE + "/*.undo.json"):
        bridge = os.path.basename(path)[: -len(".undo.json")]
        note = noted(bridge, "undo")
        said = _undo(note, commands=False)
        if any("/netplan/" in file for file in note["before"]):
            host.command(["netplan", "generate"])
        if note["plan"]["manager"] == own.NAME and note["joined"] and not note["stood"]:
            host.command(["systemctl", "disable", own.UNIT])
        _note(bridge, "result", {"ok": False, "said": "the host was rebooted before anybody had confirmed" + said})


def wait(bridge, limit_s):
    """The change's result, once there is one."""
    end = time.monotonic() + limit_s
    while not (result := noted(bridge, "result")) and time.monotonic() < end:
        time.sleep(0.1)
    return result or {"ok": False, "said": f"the change did not end within {limit_s:.0f} s"}


def confirm(bridge):
    """Called over a connection made after the change. Raises HostError if there is no successful change to confirm."""
    with _turn(bridge):
        note, result = noted(bridge, "undo"), noted(bridge, "result")
        if not note or not result.get("ok"):
            raise host.HostError(result.get("said", "the change has not been made"))
        _note(bridge, "made", note["made"])
        _note(bridge, "undo", None)
    host.command(["systemctl", "stop", f"plover-bridge-undo-{bridge}.timer"])
