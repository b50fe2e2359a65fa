# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps from the present to the wanted state of a member. Pure functions: they return steps, or raise a Refusal with the remedy.

A step is a dictionary, so it survives the trip to the control machine and back. `do` is systemctl, remove, switchover or wait;
`says` is its sentence in the result's `actions`.
"""

from __future__ import annotations

from .client import Refusal

SERVES, OFF = ("protected", "degraded"), "off"
# Settings that must be equal on all members while they run. A single member cannot be restarted with new values.
TOGETHER = (
    "cluster_id",
    "members",
    "port",
    "transport",
    "rdma_ring_mib",
    "disks",
    "guest_memory_mib",
    "guest_vcpus",
    "guest_topology",
    "guest_machine",
    "guest_cpu",
    "guest_accel",
    "guest_mac",
    "guest_nic",
    "guest_mtu",
    "further_nics",
    "guest_cdrom",
    "guest_seed",
    "guest_rng",
    "panic device (on_crash)",
)


def together(pending, settings, status):
    """Which of these changed settings all members must share. The whole name of the machine that the VM has already is no change to
    it. A witness (``status`` without a machine) has none."""
    machine = ((status or {}).get("versions") or {}).get("machine")
    named = (settings or {}).get("guest_machine")
    same = status is not None and named != "pc" and machine in (None, named)
    return [key for key in pending if key in TOGETHER and not (same and key == "guest_machine")]


def systemctl(verb, unit, says):
    return {"do": "systemctl", "words": [verb, unit], "says": f"{says} {unit}"}


def remove(path):
    return {"do": "remove", "path": path, "says": f"removed {path}"}


def switchover(to):
    return {"do": "switchover", "to": to, "says": f"let {to} take over"}


def wait(services, leader="", runs=False):
    """Wait until this member reports one of ``services``, and ``leader`` as leader if one is given. ``runs``: a VM that is off is not
    what is waited for."""
    return {"do": "wait", "services": list(services), "leader": leader, "runs": runs}


def power(name, on, later=False):
    """Boot a VM that is off, or press its power button. ``later``: the other replica may be doing it, and comes first."""
    return {"do": "power", "on": on, "later": later, "says": f"booted {name}" if on else f"pressed the power button of {name}"}


def what(step):
    """What a wait waits for, in words."""
    services = " or ".join(step["services"])
    return f"{services} with {step['leader']} as leader" if step["leader"] else services


def holds(step, status):
    """Whether ``status`` ends the wait. A member that has just started reports the old in-sync set, so its role must confirm it."""
    if status.get("service") == OFF and not step.get("runs"):  # its guest has powered it off: there is nothing to wait for
        return True
    if step["leader"] and status.get("leader") != step["leader"]:
        return False
    if status.get("service") not in step["services"]:
        return False
    return step["services"] != ["protected"] or status.get("role") in ("leader", "secondary", "witness")


def start(here):
    return [
        systemctl(verb, here["unit"], says)
        for verb, says, wanted in (("enable", "enabled", not here["enabled"]), ("start", "started", not here["active"]))
        if wanted
    ]


def stop(here, disable):
    out = [systemctl("stop", here["unit"], "stopped")] if here["active"] else []
    if disable and here["enabled"]:
        out.append(systemctl("disable", here["unit"], "disabled"))
    if here["guest"] and (here["guest_active"] or here["active"]):
        out.append(systemctl("stop", here["guest"], "ended"))
    return out


def of_vm(here, want):
    """Steps of plover_vm, for a replica or a witness."""
    if want["state"] == "unprotected":
        return stop(here, True)
    if want["state"] == OFF:
        return _off(here, want)
    if want["state"] == "running":
        return _running(here, want)
    services = ["protected"] if want["state"] == "protected" else SERVES
    return start(here) + ([wait(services)] if want["wait"] else [])


def _off(here, want):
    """The leader presses the button; the others wait for what comes of it."""
    if not here["active"]:
        raise Refusal(f"{here['name']}: {here['unit']} does not run, so nobody here can press the VM's power button; start it first")
    status = here["status"] or {}
    if status.get("service") == OFF:
        return []
    return ([power(here["name"], False)] if status.get("role") == "leader" else []) + ([wait([OFF])] if want["wait"] else [])


def _running(here, want):
    status = here["status"] or {}
    boots = status.get("service") == OFF and here["kind"] == "replica"
    steps = [power(here["name"], True, later=here["member"] != here["preferred"])] if boots else []
    return [*start(here), *steps, *([wait(SERVES, runs=True)] if want["wait"] else [])]


def of_member(here, want):
    """Steps of plover_replica and plover_witness."""
    state = want["state"]
    if state == "started":
        return start(here) + ([wait(["protected"])] if want["wait"] else [])
    handing_over = _before_the_end(here, want) if here["active"] else []
    if state == "restarted":
        if not here["active"]:
            return [*start(here), *([wait(["protected"])] if want["wait"] else [])]
        after = want["wait"] or (here["status"] or {}).get("service") == "protected"
        return [*handing_over, systemctl("restart", here["unit"], "restarted"), *([wait(["protected"])] if after else [])]
    out = [*handing_over, *stop(here, state == "absent")]
    return out + [remove(path) for path in here["paths"]] if state == "absent" else out


def _before_the_end(here, want):
    """The steps before this member's daemon may end; raises a Refusal if it must not end now."""
    if want["force"]:
        return []
    name, state, status = here["name"], want["state"], here["status"]
    verb = {"restarted": "restart", "stopped": "stop", "absent": "remove"}[state]
    if status is None:
        if not here["running"]:
            return []  # it holds no state: systemd keeps restarting it in vain
        raise Refusal(
            f"{name}: will not {verb} {here['unit']}, which does not say what it holds ({here['error']}); see "
            f"'journalctl -u {here['unit']}', or give force: true"
        )
    shared = here["together"]
    if state == "restarted" and shared:
        raise Refusal(
            f"{name}: will not restart {here['unit']}: the new {', '.join(shared)} must come into force on all members at once, "
            "with a restart of the guest: run plover.vmft.restart_vm; or take the change of plover_vms back"
        )
    if here["guest"]:
        return _replica_may_end(here, want, verb)
    if status.get("service") != "protected":
        raise Refusal(
            f"{name}: will not {verb} the witness while the VM is {status.get('service')} "
            f"({status.get('sentence')}): the replicas need its vote. Wait until it is protected, or give "
            "force: true"
        )
    return []


def _replica_may_end(here, want, verb):
    name, status, other = here["name"], here["status"], here["other"]
    leads = status.get("role") == "leader"
    if not leads and here["member"] not in status.get("in_sync", []):
        return []  # no other member needs it
    if status.get("service") != "protected":
        raise Refusal(
            f"{name}: will not {verb} {here['unit']} while the VM is {status.get('service')} "
            f"({status.get('sentence')}): {other or 'the other replica'} could not take over. Wait until it is "
            "protected, or give force: true"
        )
    unheard = [member for member in here["others"] if member not in status.get("linked", here["others"])]
    if unheard:
        raise Refusal(
            f"{name}: will not {verb} {here['unit']} while {', '.join(unheard)} does not answer: too few would be "
            "left for a quorum. Bring it back, or give force: true"
        )
    if not leads:
        return []
    if not want["switchover"]:
        raise Refusal(
            f"{name}: will not {verb} {here['unit']}, which leads: its clients would wait for a failover. Give "
            f"switchover: true, or let {other} take over first: 'ploverctl --vm {name} switchover'"
        )
    return [switchover(other), wait(["protected"] if want["state"] == "restarted" else SERVES, other)]


def of_switchover(here, want):
    """Steps of plover_switchover."""
    name, status, to = here["name"], here["status"], want["to"]
    if status is None:
        raise Refusal(f"{name}: {here['error']}")
    if to and to not in here["replicas"]:
        raise Refusal(f"to: {to} is no replica of {name}; choose one of {', '.join(here['replicas'])}")
    leader = status.get("leader")
    if not to and status.get("role") != "leader":
        raise Refusal(
            f"to: is needed on a host that does not lead {name}; name a replica ({', '.join(here['replicas'])}), "
            f"or run this on {leader or 'the leader, once there is one'} alone"
        )
    to = to or here["other"]
    if leader == to:
        return [wait(SERVES, to)]
    return [*([wait(["protected"]), switchover(to)] if status.get("role") == "leader" else []), wait(SERVES, to)]
