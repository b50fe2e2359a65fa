# SPDX-License-Identifier: GPL-3.0-or-later
"""ploverctl: what an operator types. Exit status: 0 protected (or done), 1 degraded (or refused), 2 down."""
from __future__ import annotations

import argparse
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from .. import __version__
from ..config.settings import CONFIG_DIR, SETTINGS, Config, check_value
from ..core.status import DOWN, EXIT
from ..errors import ConfigError
from ..host import history
from ..host.console import complain, say
from ..host.settings_file import load

TIMEOUT_S = 40.0
WATCH_SILENCE_S = 8.0  # the daemon gives a sign of life every 2 s
REPLY_BYTES_MAX = 1 << 20


def ask(path: Path, request: dict, timeout_s: float = TIMEOUT_S) -> dict:
    """One request, one reply; an unreachable daemon is a reply too."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(json.dumps(request).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n") and len(data) < REPLY_BYTES_MAX:
                chunk = sock.recv(65_536)
                if not chunk:
                    break
                data += chunk
        reply = json.loads(data)
        if not isinstance(reply, dict) or not isinstance(reply.get("ok"), bool):
            raise ValueError("what it says is no reply")
        return reply
    except (OSError, ValueError, RecursionError) as error:
        return no_answer(path, error)


def watch(path: Path) -> Iterator[dict]:
    """The daemon's status whenever it has news; ends with a reply that is not ok."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.settimeout(WATCH_SILENCE_S)
            sock.connect(str(path))
            sock.sendall(b'{"cmd": "watch"}\n')
            with sock.makefile("rb") as stream:
                while True:
                    reply = json.loads(stream.readline(REPLY_BYTES_MAX))
                    if not isinstance(reply, dict) or not isinstance(reply.get("ok"), bool):
                        raise ValueError("what it says is no reply")
                    if not reply.get("alive"):
                        yield reply
                    if not reply["ok"]:
                        return
        except (OSError, ValueError, RecursionError) as error:
            yield no_answer(path, error)


def no_answer(path: Path, error: Exception) -> dict:
    return {"ok": False, "error": f"the daemon does not answer on {path} ({error}); see 'systemctl status "
                                  f"plover-replica@{path.parent.name} plover-witness@{path.parent.name}'"}


def pick_config(name: str | None) -> Config:
    found = sorted(CONFIG_DIR.glob("*.json"))
    if name:
        return load(CONFIG_DIR / f"{name}.json")
    if len(found) != 1:
        raise ConfigError(f"{len(found)} VMs in {CONFIG_DIR}; choose one with --vm NAME "
                          f"({', '.join(p.stem for p in found)})")
    return load(found[0])


def show_status(reply: dict) -> None:
    say(f"{reply['name']}: {reply['service']}")
    say(f"  {reply['member']} is {reply['role']}: {reply['sentence']}")
    say(f"  view {reply['view']}, leader {reply['leader'] or 'none'}, in sync: {', '.join(reply['in_sync']) or 'nobody'}, "
        f"log index {reply['log_index']}")
    because = f": {reply['reason']}" if reply["reason"] else ""
    say(f"  {reply['service']} for {history.duration(reply['since'])}{because}")
    if set(reply.get("fencing", {}).values()) - {"always", "off"}:
        say("  fencing: " + "; ".join(f"{level}: {text}" for level, text in reply["fencing"].items()))
    dropped = [f"{count} {what.split('_')[1]} of {what.split('_')[0]}" for what, count in reply.get("dropped", {}).items() if count]
    if dropped:
        say(f"  dropped, as on a full wire: {', '.join(dropped)}")
    for disk in reply.get("disks", []):
        if disk["torn"]:
            say(f"  {disk['path']} must not be booted: it is {disk['mark']}")
    rdma = reply.get("rdma")
    if rdma:
        whom = [f"{what} {', '.join(rdma[key])}" for what, key in (("writes to", "writes_to"), ("written by", "written_by"))
                if rdma[key]]
        say(f"  RDMA: {rdma['device']} port {rdma['port']}, " + ("; ".join(whom) or "no ring yet: messages by TCP"))
    last = reply.get("last_syncvm")
    if last:
        say(f"  {reply['syncvms']} syncvms; the last: pause {last['pause_ms']} ms, {last['dirty_pages']} dirty pages, "
            f"{last['divergent_pages']} divergent ({last['same_page_percent']} % same), {last['bytes']} bytes")


def show_watch(path: Path, as_json: bool) -> int:
    """Until the daemon ends, or the operator ends it."""
    status = EXIT[DOWN]
    try:
        for reply in watch(path):
            status = EXIT[reply.get("service", DOWN)] if reply["ok"] else EXIT[DOWN]
            if as_json:
                say(json.dumps(reply))
            elif not reply["ok"]:
                complain(f"ploverctl: {reply['error']}")
            else:
                say(f"{time.strftime('%H:%M:%S')} {reply['name']}: {reply['service']}; {reply['member']} is "
                    f"{reply['role']}: {reply['sentence']}")
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # the operator has seen enough
    return status


def show_audit(reply: dict) -> None:
    say(f"{reply['pages']} pages compared on both hosts after syncvm {reply['number']}: "
        f"{reply['mismatching']} differ; {reply['untracked']} had differed without a reported write")
    if "disk_blocks" in reply:
        say(f"{reply['disk_blocks']} disk blocks compared: {reply['disk_blocks_mismatching']} differ; clients waited "
            f"{reply['pause_ms']:.0f} ms")


def show_history(config: Config, count: int, as_json: bool) -> int:
    """From the file, so it works without the daemon too."""
    try:
        entries, damaged = history.read(config.state_path)
    except OSError as error:
        complain(f"ploverctl: {error.filename}: {error.strerror}")
        return 1
    rows = history.with_durations(entries, time.time())[-count:]
    if as_json:
        say(json.dumps({"ok": True, "entries": rows, "damaged": damaged}))
        return 0
    say("\n".join(history.table(rows)))
    if damaged:
        say(f"({damaged} damaged lines passed over)")
    return 0


WHY_NOT_FAILOVER = """\
ploverctl: a failover happens by itself when the leader is lost; planned work is 'ploverctl switchover' on the leader.
If the leader and the witness are gone for good there is no quorum left, and nobody leads. Then, on a replica that still
holds the VM's state, 'ploverctl failover --force' says what it would cost to lead from there alone."""


def failover(config: Config, options: argparse.Namespace) -> int:
    if not options.force:
        complain(WHY_NOT_FAILOVER)
        return 1
    reply = ask(config.run_path / "ctl.sock", {"cmd": "failover-force" if options.yes else "failover-price"})
    if not reply["ok"]:
        complain(f"ploverctl: {reply['error']}")
    elif options.yes:
        say(f"failover: this host leads view {reply['view']}, alone until another member acknowledges it")
        return 0
    else:
        show_price("leading from this host", reply)
    return 1


def show_price(deed: str, reply: dict) -> None:
    complain("\n".join([f"The price of {deed}:", *(f" - {text}" for text in reply["price"]), "Add --yes to pay it."]))


def cold_start(config: Config, options: argparse.Namespace) -> int:
    if not options.yes and not options.force:
        complain("ploverctl: cold-start boots the VM afresh: what was in its memory is lost. Add --yes if no host "
                 "holds its state any more.")
        return 1
    deed = "cold-start-price" if not options.yes else "cold-start-force" if options.force else "cold-start"
    reply = ask(config.run_path / "ctl.sock", {"cmd": deed})
    if not reply["ok"]:
        complain(f"ploverctl: {reply['error']}")
    elif options.yes:
        say("cold-start: done")
        return 0
    else:
        show_price("booting the VM afresh from this host's disks", reply)
    return 1


def rdma_settings(text: str) -> dict:
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


def rdma_check(options: argparse.Namespace) -> int:
    """Works without a VM too, given an address."""
    from ..rdma.check import check, show  # hosts without RDMA lack what it imports
    from ..rdma.verbs import ports
    values = {**{key: row.default for key, row in SETTINGS.items()}, **options.settings}
    if not options.address:
        values = pick_config(options.vm).values
        options.address = values["members"][values["member"]]["address"]
    reply = check(ports, options.address, values)
    say(json.dumps({"ok": not reply["problems"], **reply}) if options.format == "json" else show(reply))
    return 1 if reply["problems"] else 0


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="ploverctl", description="Ask and steer Plover on this host.")
    out.add_argument("--vm", metavar="NAME", help="the VM (default: the only one of this host)")
    out.add_argument("--version", action="version", version=f"ploverctl {__version__}")
    commands = out.add_subparsers(dest="command", required=True)
    for name, text in (("status", "what this member is doing, and why"),
                       ("switchover", "let the secondary take over (on the leader)"),
                       ("audit", "compare all guest memory of both hosts (on the leader)")):
        command = commands.add_parser(name, help=text)
        command.add_argument("-o", choices=("text", "json"), default="text", dest="format")
        if name == "status":
            command.add_argument("--watch", action="store_true", help="go on, with a line whenever there is news")
        if name == "audit":
            command.add_argument("--disks", action="store_true",
                                 help="the disks' images too, block by block; the VM stands still meanwhile")
    past = commands.add_parser("history", help="who led when and why, and when the VM was protected, as this host saw it")
    past.add_argument("-o", choices=("text", "json"), default="text", dest="format")
    past.add_argument("-n", type=int, default=50, metavar="COUNT", dest="count", help="the last COUNT lines (default 50)")
    over = commands.add_parser("failover", help="lead here although no quorum is left (needs --force)")
    over.add_argument("--force", action="store_true", help="the other members are gone for good; tells the price first")
    over.add_argument("--yes", action="store_true", help="I have read the price and accept it")
    over.set_defaults(format="text")
    rdma = commands.add_parser("rdma", help="'rdma check': what 'transport: rdma' would use here, and does it work")
    rdma.add_argument("what", choices=("check",))
    rdma.add_argument("--address", help="this host's replication address (default: as the VM's settings say)")
    rdma.add_argument("--settings", type=rdma_settings, default={}, metavar="JSON",
                      help='with --address: settings rdma_*, as {"rdma_device": "mlx5_0"}, in place of the defaults')
    rdma.add_argument("-o", choices=("text", "json"), default="text", dest="format")
    cold = commands.add_parser("cold-start", help="boot the VM afresh after its state was lost on all hosts")
    cold.add_argument("--force", action="store_true", help="although this host's disk is torn or older; tells the price")
    cold.add_argument("--yes", action="store_true", help="I know that the VM's memory is lost")
    cold.set_defaults(format="text")
    return out


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    try:
        if options.command == "rdma":
            return rdma_check(options)
        config = pick_config(options.vm)
    except ConfigError as error:
        complain(f"ploverctl: {error}")
        return EXIT[DOWN]
    if options.command == "cold-start":
        return cold_start(config, options)
    if options.command == "history":
        return show_history(config, max(1, options.count), options.format == "json")
    if options.command == "failover":
        return failover(config, options)
    if getattr(options, "watch", False):
        return show_watch(config.run_path / "ctl.sock", options.format == "json")
    disks = getattr(options, "disks", False)
    reply = ask(config.run_path / "ctl.sock", {"cmd": "audit-disks" if disks else options.command},
                TIMEOUT_S + config.join_timeout_ms / 1000 if disks else TIMEOUT_S)
    if options.format == "json":
        say(json.dumps(reply))
    elif not reply["ok"]:
        complain(f"ploverctl: {reply['error']}")
    elif options.command in ("status", "audit"):
        {"status": show_status, "audit": show_audit}[options.command](reply)
    else:
        say(f"{options.command}: done")
    if options.command == "status":
        return EXIT[reply.get("service", DOWN)] if reply["ok"] else EXIT[DOWN]
    if options.command == "audit" and reply["ok"]:
        return 1 if reply["mismatching"] or reply["untracked"] or reply.get("disk_blocks_mismatching") else 0
    return 0 if reply["ok"] else 1
