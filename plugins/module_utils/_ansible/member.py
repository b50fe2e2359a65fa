# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's member of a VM, for the modules: examines it, and carries out the steps of :mod:`plan`.

Waits are cut into slices, so that the action plugins can show the progress. A call whose slice is over returns `unfinished`;
the action plugin calls the module again with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time

from . import plan
from .client import RUN_DIR, ClientError, NotYet, Refusal, ask, wait_until

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}\Z")  # the runtime's rule; a name becomes part of paths
CONFIG_DIR = "/etc/plover"
APPARMOR_DIR, APPARMOR_REMOVE = "/etc/apparmor.d", "/sys/kernel/security/apparmor/.remove"  # plover/host/apparmor.py writes there
SETTINGS_BYTES_MAX = 1 << 20
PROGRESS_MAX = 200
PROGRESS_EVERY_S = 1.0
SWITCHOVER_S = 40.0
LOOKS, LOOK_AGAIN_S = 8, 0.25
LATER_LOOKS = 40  # 10 s
NO_NAMES = ("images",)  # a folder of that name lies beside the members' states
# Options of every module here; see doc_fragments/member.py.
ARGUMENTS = {"name": {"type": "str", "required": True}, "timeout_s": {"type": "int", "default": 120}, "slice": {"type": "dict"}}


def settings_path(name):
    return f"{CONFIG_DIR}/{name}.json"


def settings_of_host(name):
    """The settings of this host's member; None if it has none. Raises ClientError with the remedy."""
    path = settings_path(name)
    try:
        with open(path, "rb") as file:
            settings = json.loads(file.read(SETTINGS_BYTES_MAX).decode())
        if settings["members"][settings["member"]]["kind"] not in ("replica", "witness"):
            raise ValueError("the kind of this member is neither replica nor witness")
        return settings
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ClientError(f"{path}: {error!r}; run the deploy play to write it anew") from error


def check_name(name):
    if not NAME.match(name) or name in NO_NAMES:
        raise Refusal(f"name: {name!r} is no VM's name; lower-case letters, digits and dashes, at most 31, and not {' or '.join(NO_NAMES)}")


def files_of(name, settings):
    """The files of a member on its host, without its VM's disk images."""
    settings = settings or {}
    shm = settings.get("shm_dir", "/dev/shm/plover")
    return [
        settings_path(name),
        f"{settings.get('state_dir', '/var/lib/plover')}/{name}",
        f"{settings.get('run_dir', RUN_DIR)}/{name}",
        f"{settings.get('log_dir', '/var/log/plover')}/{name}",
        f"{shm}/{name}.ram",
        f"{APPARMOR_DIR}/plover-qemu-{name}",
        f"{settings.get('disk_overlay_dir') or shm}/{name}.disks",
    ]


def _unload(profile):
    """The kernel may not have it, or no AppArmor at all."""
    with contextlib.suppress(OSError), open(APPARMOR_REMOVE, "w") as file:
        file.write(profile)


def is_left(path):
    """Whether ``path`` is still to be removed. A mount point stays, but empty."""
    return os.path.lexists(path) and not (os.path.ismount(path) and not os.listdir(path))


def status_of(name, timeout_s=10):
    """(status or None, reason if None, settings that wait for a restart)."""
    try:
        status = ask(name, "status", timeout_s=timeout_s)
        if not status.get("ok", True):
            raise ClientError(str(status.get("error")))
        return status, "", ask(name, "settings", timeout_s=timeout_s).get("pending", [])
    except ClientError as error:
        return None, str(error), []


class Member:
    """This host's member; :meth:`look` gives its state, for the plans and for the diff."""

    def __init__(self, module):
        self.module, self.name = module, module.params["name"]
        check_name(self.name)
        self.settings = settings_of_host(self.name)

    def look(self, kind=""):
        """The member's state, as :mod:`plan` needs it. ``kind``: the seat that the module is for; empty: as the settings say."""
        settings, absent = self.settings, self.module.params.get("state") == "absent"
        if settings is None and not absent and not self.module.check_mode:
            raise Refusal(f"{settings_path(self.name)} is missing; role vm (on a replica) or witness writes it")
        seat = settings["members"][settings["member"]]["kind"] if settings else kind or "replica"
        if kind and seat != kind:
            raise Refusal(f"{settings_path(self.name)}: this host is a {seat} of {self.name}; use plover_{seat}")
        members = settings["members"] if settings else {}
        member = settings["member"] if settings else ""
        replicas = sorted(m for m, v in members.items() if v["kind"] == "replica")
        out = {
            "name": self.name,
            "member": member,
            "kind": seat,
            "unit": f"plover-{seat}@{self.name}.service",
            "guest": f"plover-qemu@{self.name}.service" if seat == "replica" else "",
            "replicas": replicas,
            "other": next((m for m in replicas if m != member), ""),
            "others": sorted(set(members) - {member}),
            "preferred": (settings or {}).get("preferred_leader", ""),
            "paths": [path for path in files_of(self.name, settings) if is_left(path)],
        }
        state = self._is("active", out["unit"])
        out.update(
            active=state in ("active", "activating", "reloading"),
            running=state == "active",
            enabled=self._is("enabled", out["unit"]) == "enabled",
            guest_active=bool(out["guest"]) and self._is("active", out["guest"]) == "active",
        )
        out.update(status=None, error=f"{out['unit']} is not running here", pending=[], together=[])
        for _look in range(LOOKS if out["active"] else 0):
            out["status"], out["error"], out["pending"] = status_of(self.name)
            out["together"] = plan.together(out["pending"], settings, out["status"])
            if not self._may_be_linked_soon(out):
                break
            time.sleep(LOOK_AGAIN_S)
        return out

    def _may_be_linked_soon(self, here):
        """A silent connection is renewed from time to time. Look again before a check takes that for a missing member."""
        judged = self.module.params.get("state") in ("stopped", "restarted", "absent") and here["guest"]
        status = here["status"] or {}
        return judged and status.get("service") == "protected" and not (set(here["others"]) <= set(status.get("linked", here["others"])))

    def _is(self, what, unit):
        return self.module.run_command(["systemctl", f"is-{what}", unit])[1].strip()


def shown(here, steps=()):
    """The diff's view of ``here`` after ``steps``."""
    out = {
        "active": here["active"],
        "enabled": here["enabled"],
        "leader": (here["status"] or {}).get("leader"),
        "files": list(here["paths"]),
        "restarted": False,
    }
    if here["guest"]:
        out["guest_active"] = here["guest_active"]
    if (here["status"] or {}).get("service") == plan.OFF:
        out["off"] = True
    for step in steps:
        if step["do"] == "systemctl" and step["words"][1] == here["guest"]:
            out["guest_active"] = False
        elif step["do"] == "systemctl":
            key, value = {
                "start": ("active", True),
                "stop": ("active", False),
                "enable": ("enabled", True),
                "disable": ("enabled", False),
                "restart": ("restarted", True),
            }[step["words"][0]]
            out[key] = value
        elif step["do"] == "remove":
            out["files"].remove(step["path"])
        elif step["do"] == "switchover":
            out["leader"] = step["to"]
        elif step["do"] == "power":
            out["off"] = not step["on"]
    return out


class Work:
    """Carries out the steps, from the beginning or from where the previous call ended."""

    def __init__(self, module, planned, kind=""):
        self.module, self.name, self.began = module, module.params["name"], time.monotonic()
        given = module.params["slice"] or {}
        self.for_s, self.done = given.get("for_s", float("inf")), given.get("unfinished")
        if self.done is None:
            here = Member(module).look(kind)
            steps = planned(here, module.params)
            self.done = {
                "steps": steps,
                "actions": [],
                "progress": [],
                "spent_s": 0.0,
                "status": here["status"],
                "diff": {"before": shown(here), "after": shown(here, steps)},
            }

    def go(self):
        """The module's result; raises ClientError."""
        steps = self.done["steps"]
        if self.module.check_mode:
            self.done["actions"], steps = [step["says"] for step in steps if "says" in step], []
        try:
            while steps:
                getattr(self, f"_{steps[0]['do']}")(steps[0])
                steps.pop(0)
        except NotYet as error:
            if self._spent_s() >= self.module.params["timeout_s"]:
                raise NotYet(self.name, plan.what(steps[0]), self.module.params["timeout_s"], error.said) from error
            return {**self.result(), "unfinished": {**self.done, "spent_s": self._spent_s()}}
        return self.result()

    def result(self):
        done = self.done
        return {"changed": bool(done["actions"]), **{key: done[key] for key in ("actions", "progress", "diff", "status")}}

    def _spent_s(self):
        return self.done["spent_s"] + time.monotonic() - self.began

    def _did(self, step):
        self.done["actions"].append(step["says"])

    def _systemctl(self, step):
        code, out, err = self.module.run_command(["systemctl", *step["words"]])
        if code:
            raise ClientError(f"{step['says']} failed: {(err or out).strip()}; see 'journalctl -u {step['words'][1]}'")
        self._did(step)

    def _remove(self, step):
        path = step["path"]
        try:
            if os.path.ismount(path):
                for name in os.listdir(path):
                    self._remove_path(os.path.join(path, name))
            else:
                self._remove_path(path)
                if os.path.dirname(path) == APPARMOR_DIR:
                    _unload(os.path.basename(path))
        except OSError as error:
            raise ClientError(f"{path}: cannot be removed ({error.strerror})") from error
        self._did(step)

    @staticmethod
    def _remove_path(path):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)

    def _switchover(self, step):
        status = ask(self.name, "status")
        if status.get("leader") == step["to"]:
            return  # it took over meanwhile
        reply = ask(self.name, "switchover", timeout_s=SWITCHOVER_S)
        if reply.get("error"):
            raise ClientError(f"{self.name}: no switchover to {step['to']}: {reply['error']}")
        self._did(step)

    def _power(self, step):
        """Two replicas may be told the same at once: what another has done by now is done."""
        if step["on"]:
            for _look in range(LATER_LOOKS if step["later"] else 0):
                if ask(self.name, "status").get("service") != plan.OFF:
                    return
                time.sleep(LOOK_AGAIN_S)
        reply = ask(self.name, "start" if step["on"] else "shutdown")
        if not reply.get("error"):
            self._did(step)
        elif (ask(self.name, "status").get("service") == plan.OFF) == step["on"]:
            raise ClientError(f"{self.name}: {'cannot be booted' if step['on'] else 'cannot be shut down'}: {reply['error']}")

    def _wait(self, step):
        left_s = self.module.params["timeout_s"] - self._spent_s()
        self.done["status"] = wait_until(
            self.name, lambda status: plan.holds(step, status), max(0.0, min(left_s, self.for_s)), plan.what(step), news=self._news
        )

    def _news(self, status):
        text = f"{self.name}: {status.get('service')}; {status.get('sentence')}"
        progress, at_s = self.done["progress"], round(self._spent_s(), 1)
        last = progress[-1] if progress else {"at_s": 0.0, "text": ""}
        due = at_s - last["at_s"] >= PROGRESS_EVERY_S or text.partition(";")[0] != last["text"].partition(";")[0]
        if text != last["text"] and due and len(progress) < PROGRESS_MAX:
            progress.append({"at_s": at_s, "text": text})
        self.done["status"] = status


def run(module, planned, kind=""):
    """``main`` of a module: carries out the steps of ``planned`` (from :mod:`plan`); ends in one result or one clear failure."""
    work = None
    try:
        work = Work(module, planned, kind)
        module.exit_json(**work.go())
    except ClientError as error:
        module.fail_json(msg=str(error), refused=isinstance(error, Refusal), **(work.result() if work else {}))
