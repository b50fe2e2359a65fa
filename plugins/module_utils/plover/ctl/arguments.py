# SPDX-License-Identifier: GPL-3.0-or-later
"""ploverctl's command line: a table of its verbs. The manual page and the completion are made from it (tools/ctl_pages.py)."""

from __future__ import annotations

import argparse
import json
from typing import Any, NamedTuple

from .. import __version__
from ..config.settings import SETTINGS, check_value
from .places import TLS_FOLDER, place

INTERVAL_S_MIN, INTERVAL_S_MAX = 0.1, 3600.0
HOURS_MAX = 24 * 366
DESCRIPTION = "Query and control Plover on this host."
OF_SERVICE = "0: protected, or off; 1: degraded; 2: down, or no answer"
DONE = "0: done; 1: refused, or no answer; 2: --vm is missing or wrong"
EXAMPLES = ("ploverctl status", "ploverctl list", "ploverctl --vm NAME switchover")


class Option(NamedTuple):
    """Arguments of argparse's ``add_argument``."""

    names: tuple[str, ...]
    words: dict[str, Any]


class Verb(NamedTuple):
    """``exit_status``: what each status means. ``defaults``: of what the verb has no option for."""

    name: str
    help: str
    description: str
    example: str
    exit_status: str
    options: tuple[Option, ...] = ()
    defaults: dict[str, Any] = {}
    of_all: bool = False  # without --vm it is about all VMs of this host
    of_none: bool = False  # it is about no VM of this host


def option(*names: str, **words: Any) -> Option:
    return Option(names, words)


def count(of: str) -> Option:
    return option("-n", type=int, default=50, metavar="COUNT", dest="count", help=f"show the last COUNT {of} (default: 50)")


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        prog="ploverctl",
        description=f"{DESCRIPTION} Its exit status depends on the command: see 'ploverctl COMMAND --help'.",
        epilog=_epilog(*EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument("--vm", metavar="NAME", help="the VM, if this host has several; may also come after the command")
    out.add_argument("--version", action="version", version=f"ploverctl {__version__}")
    commands = out.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for verb in VERBS:
        _add(commands.add_parser, verb)
    return out


def _add(add_parser: Any, verb: Verb) -> None:
    command = add_parser(
        verb.name,
        help=verb.help,
        description=verb.description,
        epilog=_epilog(verb.example, exit_status=verb.exit_status),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if not verb.of_none:
        # Without a default, or it would undo a --vm before the command.
        which = "all" if verb.of_all else "the only one"
        command.add_argument("--vm", metavar="NAME", default=argparse.SUPPRESS, help=f"the VM (default: {which} of this host)")
    for one in verb.options:
        command.add_argument(*one.names, **one.words)
    command.set_defaults(**verb.defaults)


def _epilog(*examples: str, exit_status: str = "") -> str:
    lines = ["examples:", *(f"  {example}" for example in examples)]
    if exit_status:
        lines += ["", "exit status:", *(f"  {one}" for one in exit_status.split("; "))]
    return "\n".join(lines)


def interval_s(text: str) -> float:
    return _number(text, INTERVAL_S_MIN, INTERVAL_S_MAX)


def seconds(text: str) -> float:
    return _number(text, 1.0, 3600.0)


def hours(text: str) -> float:
    return _number(text, 0.1, HOURS_MAX)


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from error
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text} is out of range; choose {low:g} to {high:g}")
    return value


def rdma_settings(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is not JSON ({error})") from error
    if not isinstance(values, dict) or any(not key.startswith("rdma_") or key not in SETTINGS for key in values):
        raise argparse.ArgumentTypeError("must be an object of settings rdma_*")
    problems = [problem for key, value in values.items() for problem in check_value(key, value)]
    if problems:
        raise argparse.ArgumentTypeError("; ".join(problems))
    return values


FORMAT = option("-o", choices=("text", "json"), default="text", dest="format", help="for people or for programs (default: text)")
TEXT = {"format": "text"}
VERBS = (
    Verb(
        "list",
        "the VMs of this host, a line each",
        "One line for each VM whose settings are on this host: its service, this member's role, the leader, and what this member\n"
        "is doing. A VM whose daemon does not answer has a line, too.",
        "ploverctl list -o json",
        f"{OF_SERVICE} (the worst VM's)",
        (FORMAT,),
        of_all=True,
    ),
    Verb(
        "status",
        "what this member is doing, and why",
        "What this member of the VM is doing, and why. On a host with several VMs and without --vm it shows what 'ploverctl list' does.",
        "ploverctl status --watch",
        OF_SERVICE,
        (FORMAT, option("--watch", action="store_true", help="keep running, and print a line after each change")),
    ),
    Verb(
        "top",
        "a live table of this host's VMs, and of other hosts'",
        "A table of this host's VMs that is refreshed until Ctrl-C. It needs the Debian package python3-rich. With --host it shows\n"
        "other hosts' VMs, too, as VM@HOST: plover-exporter must run there (role 'monitoring') and listen where this host reaches it.",
        "ploverctl top --host beta --host gamma",
        "0: shown; 2: python3-rich is missing, or --vm or --tls-folder is wrong",
        (
            option(
                "--interval",
                type=interval_s,
                default=1.0,
                metavar="S",
                help="seconds between two looks (default: 1)",
            ),
            option(
                "--host",
                action="append",
                type=place,
                default=[],
                dest="hosts",
                metavar="HOST",
                help="show the VMs of this host, too: its name or address, with :PORT unless that is 9742; again for more hosts",
            ),
            option(
                "--tls-folder",
                default=TLS_FOLDER,
                metavar="FOLDER",
                help=f"folder of ca.pem, by which their exporters are believed (default: {TLS_FOLDER})",
            ),
            option("--once", action="store_true", help="print the table once, after one interval; also if the output is no terminal"),
        ),
        TEXT,
        of_all=True,
    ),
    Verb(
        "events",
        "what happened, entry by entry, of one VM or all; can go on as a stream",
        "The event log of this host's VMs, one entry a line, merged by time; with --vm of one VM. It works without a daemon.\n"
        "For how long each leader and each mode lasted, see 'ploverctl history'.",
        "ploverctl events --follow -o json",
        "0: done, also if ended by Ctrl-C; 1: a VM's events cannot be read; 2: --vm is wrong",
        (
            FORMAT,
            count("entries"),
            option("--follow", action="store_true", help="keep running, and print what is new"),
        ),
        of_all=True,
    ),
    Verb(
        "history",
        "leaders, modes and their reasons over time, as this host saw them",
        "The leaders and modes of one VM with how long each lasted, as this host saw them. It works without a daemon.\n"
        "For the entries themselves as they happen, or of all VMs, see 'ploverctl events'.",
        "ploverctl history -n 10",
        "0: shown; 1: cannot be read; 2: --vm is missing or wrong",
        (FORMAT, count("lines")),
    ),
    Verb(
        "switchover",
        "hand the VM over to the secondary (run on the leader)",
        "Hand the VM over to the secondary, for planned work on this host. Clients keep their connections. Run it on the leader.",
        "ploverctl --vm NAME switchover",
        DONE,
        (FORMAT,),
    ),
    Verb(
        "drill",
        "a switchover there and back, with a report of what clients would have seen (run on the leader)",
        "Hand the VM over to the secondary and back, and say for how long clients waited each time, what the service was before,\n"
        "meanwhile and after. Clients keep their connections; the VM is not protected while this host gets its state anew.\n"
        "It begins with --yes only.",
        "ploverctl --vm NAME drill --yes",
        "0: there and back, and protected again; 1: refused, not begun, or not all of it; 2: --vm is missing or wrong",
        (
            FORMAT,
            option("--yes", action="store_true", help="begin; without it, what a drill does is shown"),
            option("--timeout", type=seconds, default=300.0, metavar="S", help="seconds for all of it (default: 300)"),
        ),
    ),
    Verb(
        "audit",
        "compare all guest memory of both hosts (run on the leader)",
        "Compare all guest memory of both hosts. Run it on the leader. The VM stands still meanwhile; on a terminal a line shows how far\n"
        "the comparison is.",
        "ploverctl audit --disks",
        "0: nothing differs; 1: something differs, or the audit was refused; 2: --vm is missing or wrong",
        (
            FORMAT,
            option("--disks", action="store_true", help="compare the disk images, too, block by block; the VM stands still meanwhile"),
        ),
    ),
    Verb(
        "failover",
        "lead from this host although no quorum is left (needs --force)",
        "Lead from this host although no quorum is left. A failover with a quorum happens by itself.",
        "ploverctl --vm NAME failover --force",
        "0: this host leads; 1: refused, or only the price was shown; 2: --vm is missing or wrong",
        (
            option("--force", action="store_true", help="the other members are gone for good; shows the price first"),
            option("--yes", action="store_true", help="I have read the price and accept it"),
        ),
        TEXT,
    ),
    Verb(
        "cold-start",
        "boot the VM afresh after its state was lost on all hosts",
        "Boot the VM afresh after its state was lost on all hosts. What was in its memory is lost.",
        "ploverctl --vm NAME cold-start --yes",
        "0: done; 1: refused, or only the price was shown; 2: --vm is missing or wrong",
        (
            option("--force", action="store_true", help="even if this host's disk is torn or older; shows the price first"),
            option("--yes", action="store_true", help="I accept that the VM's memory is lost"),
        ),
        TEXT,
    ),
    Verb(
        "start",
        "boot the VM after its guest has powered it off",
        "Boot the VM after its guest has powered it off, on this replica. One whose state is lost is a matter of cold-start.",
        "ploverctl --vm NAME start",
        "0: done; 1: refused; 2: --vm is missing or wrong",
        (FORMAT,),
    ),
    Verb(
        "shutdown",
        "press the VM's power button, so that its guest shuts down (on the leader)",
        "Press the VM's power button. Most guests shut down then; 'status' says when the VM is off. One that does not heed the button\n"
        "runs on.",
        "ploverctl --vm NAME shutdown",
        "0: pressed; 1: refused; 2: --vm is missing or wrong",
        (FORMAT,),
    ),
    Verb(
        "reboot",
        "shut the guest down by its power button, and boot it again (on the leader)",
        "Press the VM's power button, wait until its guest has shut down, and boot it. One that does not heed the button runs on.",
        "ploverctl --vm NAME reboot",
        "0: it boots; 1: refused, or not shut down in time; 2: --vm is missing or wrong",
        (option("--timeout", type=seconds, default=120.0, metavar="S", help="seconds for the guest to shut down (default: 120)"),),
        TEXT,
    ),
    Verb(
        "console",
        "what the guest has said on its serial console",
        "What the guest has said on its serial console, on the leader; on the other replica what its copy has said. Nothing can be\n"
        "typed there. It works without a daemon. Colours are left out, and what a terminal would obey is shown as text.",
        "ploverctl console --follow",
        "0: shown, also if ended by Ctrl-C; 1: there is no console's log; 2: --vm is missing or wrong",
        (count("lines"), option("--follow", action="store_true", help="keep running, and print what is new")),
        TEXT,
    ),
    Verb(
        "reset",
        "press the VM's reset button: its guest boots at once, without shutting down (on the leader)",
        "Press the VM's reset button: its guest boots at once, without shutting down. The VM stays protected.",
        "ploverctl --vm NAME reset --yes",
        "0: pressed; 1: refused, or --yes is missing; 2: --vm is missing or wrong",
        (FORMAT, option("--yes", action="store_true", help="I accept that what the guest had not written to its disk is lost")),
    ),
    Verb(
        "rdma",
        "'rdma check': which device 'transport: rdma' would use here, and whether it works",
        "Which RDMA device 'transport: rdma' would use on this host, and whether it works. With --address it needs no VM.",
        "ploverctl rdma check --address 192.0.2.1",
        "0: it works; 1: there is a problem; 2: --vm or a setting is wrong",
        (
            option("what", choices=("check",)),
            option("--address", help="this host's replication address (default: from the VM's settings)"),
            option(
                "--settings",
                type=rdma_settings,
                default={},
                metavar="JSON",
                help='with --address: settings rdma_* in place of the defaults, e.g. {"rdma_device": "mlx5_0"}',
            ),
            FORMAT,
        ),
    ),
    Verb(
        "import",
        "make an entry of plover_vms from the XML of a libvirt domain",
        "Print a libvirt domain (the output of 'virsh dumpxml') as an entry of plover_vms, in YAML. Comments above it say what stands\n"
        "in the way, what was left out and what is for you to do. It changes nothing, and needs neither libvirt nor a VM of Plover.",
        "ploverctl import web.xml --primary alpha --secondary beta --witness gamma",
        "0: printed; 1: printed, but something stands in the way; 2: the file is no domain, or cannot be read",
        (
            option("file", metavar="FILE", help="the domain's XML; - for standard input"),
            option("--name", default="", metavar="NAME", help="name of the VM (default: the domain's)"),
            option("--primary", default="", metavar="HOST", help="the host that boots the VM the first time"),
            option("--secondary", default="", metavar="HOST", help="the host that takes over"),
            option("--witness", default="", metavar="HOST", help="the host of the witness"),
            option(
                "--bridge",
                default="",
                metavar="BRIDGE",
                help="bridge of both hosts for the VM's cards, or one for each, such as br0,br1 (default: the domain's bridges)",
            ),
            option("--machine", choices=("pc",), default="", help="give the guest machine type pc in place of the domain's, such as q35"),
            FORMAT,
        ),
        of_none=True,
    ),
    Verb(
        "support-bundle",
        "pack what somebody needs to understand a problem of this host; without secrets",
        "Write status, events, settings, versions and logs of this host's VMs to a tar.gz that only root can read.\n"
        "Secrets, keys and passwords are not in it; addresses and names of hosts and VMs are. Look at it before you pass it on.",
        "ploverctl support-bundle --since 48 --out /root/plover.tar.gz",
        "0: written; 1: cannot be written; 2: --vm is wrong",
        (
            FORMAT,
            option("--out", metavar="FILE", help="where to; a file that is there is kept (default: a new file in this folder)"),
            option("--since", type=hours, default=24.0, metavar="HOURS", help="logs of how many hours (default: 24)"),
        ),
        of_all=True,
    ),
)
