# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of ploverctl. Exit status: 0 protected or off (or done), 1 degraded (or refused), 2 down."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..config.settings import CONFIG_DIR, SETTINGS, Config
from ..core.status import DOWN, EXIT
from ..errors import ConfigError, ControlError
from ..host import history
from ..host.console import complain, say, until_enough
from ..host.settings_file import load
from . import client, listing, vms
from .arguments import parser
from .events import events
from .output import audit_text, news_text, price_text, status_text
from .progress import Progress
from .reply import Reply, exit_status
from .vms import CONTROL_SOCKET, no_answer

TIMEOUT_S = 40.0


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        return COMMANDS[options.command](options)
    except ConfigError as error:
        complain(f"ploverctl: {error}")
        return EXIT[DOWN]


def ask(path: Path, command: str, timeout_s: float | None = None) -> Reply:
    """One request, one reply; an unreachable daemon is a reply too."""
    try:
        return client.ask(path, {"cmd": command}, timeout_s or TIMEOUT_S)
    except ControlError as error:
        return no_answer(path, error)


def watch(path: Path) -> Iterator[Reply]:
    """The daemon's status at once and after each change; ends with a reply that is not ok."""
    try:
        yield from client.watch(path)
    except ControlError as error:
        yield no_answer(path, error)


def pick_config(name: str | None) -> Config:
    found = vms.names(CONFIG_DIR)
    if not name and len(found) != 1:
        raise ConfigError(f"{len(found)} VMs in {CONFIG_DIR}; choose one with --vm NAME ({', '.join(found)})")
    return load(CONFIG_DIR / f"{name or found[0]}.json")


def control_socket(options: argparse.Namespace) -> Path:
    return pick_config(options.vm).run_path / CONTROL_SOCKET


def show(reply: Reply, options: argparse.Namespace, text: Callable[[Reply], str]) -> None:
    if options.format == "json":
        say(json.dumps(reply))
    elif reply["ok"]:
        say(text(reply))
    else:
        complain(f"ploverctl: {reply['error']}")


def exit_of(reply: Reply) -> int:
    return EXIT[reply.get("service", DOWN)] if reply["ok"] else EXIT[DOWN]


def list_vms(options: argparse.Namespace) -> int:
    found = vms.found(CONFIG_DIR, options.vm)
    replies = vms.ask_all(found)
    if options.format == "json":
        answered = all(reply["ok"] for reply in replies)
        say(json.dumps({"ok": answered, "vms": [{**reply, "name": vm.name} for vm, reply in zip(found, replies)]}))
    elif found:
        say("\n".join(listing.lines([(vm.name, reply) for vm, reply in zip(found, replies)], _width())))
    else:
        say(f"no VM in {CONFIG_DIR}: this host is no member of any; the play plover.vmft.deploy_plover makes it one")
    return exit_status(replies)


def _width() -> int | None:
    """The terminal's; None if nobody reads it there."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def status(options: argparse.Namespace) -> int:
    """Show it once, or with --watch until the daemon or the operator ends it."""
    if not options.vm and not options.watch and len(vms.names(CONFIG_DIR)) > 1:
        return list_vms(options)
    path, code = control_socket(options), EXIT[DOWN]
    if not options.watch:
        reply = ask(path, "status")
        show(reply, options, status_text)
        return exit_of(reply)
    with until_enough():
        for reply in watch(path):
            code = exit_of(reply)
            show(reply, options, news_text)
    return code


def switchover(options: argparse.Namespace) -> int:
    reply = ask(control_socket(options), "switchover")
    show(reply, options, lambda reply: "switchover: done")
    return 0 if reply["ok"] else 1


def drill(options: argparse.Namespace) -> int:
    from . import drill as of  # others need not wait for it

    path = control_socket(options)
    if not options.yes:
        complain(of.WHY_NOT)
        return 1
    return of.drill(lambda command: ask(path, command), options.timeout, options.format == "json")


def audit(options: argparse.Namespace) -> int:
    config = pick_config(options.vm)
    extra_s = config.join_timeout_ms / 1000 if options.disks else 0.0
    path = config.run_path / CONTROL_SOCKET
    with Progress(lambda: ask(path, "status", vms.ANSWER_S), "audit", options.format == "text"):
        reply = ask(path, "audit-disks" if options.disks else "audit", TIMEOUT_S + extra_s)
    show(reply, options, audit_text)
    found = not reply["ok"] or reply["mismatching"] or reply["untracked"] or reply.get("disk_blocks_mismatching")
    return 1 if found else 0


def show_history(options: argparse.Namespace) -> int:
    """Read from the file, so it works without the daemon, too."""
    try:
        entries, damaged = history.read(pick_config(options.vm).state_path)
    except OSError as error:
        complain(f"ploverctl: {error.filename}: {error.strerror}")
        return 1
    rows = history.with_durations(entries, time.time())[-max(1, options.count) :]
    if options.format == "json":
        say(json.dumps({"ok": True, "entries": rows, "damaged": damaged}))
        return 0
    say("\n".join(history.table(rows)))
    if damaged:
        say(f"({damaged} damaged lines passed over)")
    return 0


def show_events(options: argparse.Namespace) -> int:
    return events(CONFIG_DIR, options.vm, options.count, options.follow, options.format == "json")


def show_top(options: argparse.Namespace) -> int:
    from .other_hosts import OtherHosts
    from .top import top  # others need not wait for what it imports

    others = OtherHosts(options.hosts, Path(options.tls_folder), options.vm)
    return top(CONFIG_DIR, options.vm, options.interval, options.once, others)


def support_bundle(options: argparse.Namespace) -> int:
    from .bundle import bundle  # as above

    return bundle(CONFIG_DIR, options.vm, options.out, options.since, options.format == "json")


WHY_NOT_FAILOVER = """\
ploverctl: a failover happens by itself when the leader is lost; planned work is 'ploverctl switchover' on the leader.
If the leader and the witness are gone for good there is no quorum left, and nobody leads. Then, on a replica that still
holds the VM's state, 'ploverctl failover --force' says what it would cost to lead from there alone."""


def failover(options: argparse.Namespace) -> int:
    path = control_socket(options)
    if not options.force:
        complain(WHY_NOT_FAILOVER)
        return 1
    reply = ask(path, "failover-force" if options.yes else "failover-price")
    if not reply["ok"]:
        complain(f"ploverctl: {reply['error']}")
    elif options.yes:
        say(f"failover: this host leads view {reply['view']}, alone until another member acknowledges it")
        return 0
    else:
        complain(price_text("leading from this host", reply))
    return 1


def cold_start(options: argparse.Namespace) -> int:
    path = control_socket(options)
    if not options.yes and not options.force:
        complain(
            "ploverctl: cold-start boots the VM afresh: what was in its memory is lost. Add --yes if no host holds its state any more."
        )
        return 1
    reply = ask(path, "cold-start-price" if not options.yes else "cold-start-force" if options.force else "cold-start")
    if not reply["ok"]:
        complain(f"ploverctl: {reply['error']}")
    elif options.yes:
        say("cold-start: done")
        return 0
    else:
        complain(price_text("booting the VM afresh from this host's disks", reply))
    return 1


def start(options: argparse.Namespace) -> int:
    return _done(ask(control_socket(options), "start"), options, "start: the VM boots")


def shutdown(options: argparse.Namespace) -> int:
    return _done(ask(control_socket(options), "shutdown"), options, "shutdown: the VM's power button is pressed")


def reboot(options: argparse.Namespace) -> int:
    from . import reboot as of  # others need not wait for it

    path = control_socket(options)
    return of.reboot(lambda command: ask(path, command), options.timeout)


def console(options: argparse.Namespace) -> int:
    from ..qemu.launch_file import CONSOLE
    from . import serial  # as above

    return serial.console(pick_config(options.vm).log_path, CONSOLE, options.count, options.follow)


def reset(options: argparse.Namespace) -> int:
    if not options.yes:
        complain("ploverctl: reset loses what the guest has not written to its disk. Add --yes to press the button.")
        return 1
    return _done(ask(control_socket(options), "reset"), options, "reset: the VM boots")


def _done(reply: Reply, options: argparse.Namespace, words: str) -> int:
    show(reply, options, lambda reply: words)
    return 0 if reply["ok"] else 1


def rdma_check(options: argparse.Namespace) -> int:
    """Works without a VM too, given an address."""
    from ..rdma.check import check
    from ..rdma.check import show as text  # hosts without RDMA lack what it imports
    from ..rdma.verbs import ports

    values = {**{key: row.default for key, row in SETTINGS.items()}, **options.settings}
    if not options.address:
        values = pick_config(options.vm).values
        options.address = values["members"][values["member"]]["address"]
    reply = check(ports, options.address, values)
    say(json.dumps({"ok": not reply["problems"], **reply}) if options.format == "json" else text(reply))
    return 1 if reply["problems"] else 0


def import_libvirt(options: argparse.Namespace) -> int:
    from ..libvirt.notes import Wishes  # as above
    from .import_domain import import_domain

    return import_domain(options.file, Wishes(**{key: getattr(options, key) for key in Wishes._fields}), options.format == "json")


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": list_vms,
    "status": status,
    "top": show_top,
    "events": show_events,
    "switchover": switchover,
    "drill": drill,
    "audit": audit,
    "history": show_history,
    "failover": failover,
    "cold-start": cold_start,
    "start": start,
    "shutdown": shutdown,
    "reboot": reboot,
    "reset": reset,
    "console": console,
    "rdma": rdma_check,
    "import": import_libvirt,
    "support-bundle": support_bundle,
}
