# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m lab COMMAND: three hosts on this machine. Root only."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

from . import base
from .hosts import ALL_HOSTS, CLIENT, HOSTS, NETNS, Host, down, network_up, sh
from .paths import LAB

SSH = """Host {hosts} 192.168.77.*
  User root
  IdentityFile {lab}/id
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ConnectTimeout 5
  ServerAliveInterval 3
  ServerAliveCountMax 2
  ControlMaster auto
  ControlPersist 60
  ControlPath {lab}/ssh-%h
  ProxyCommand ip netns exec {netns} socat - TCP:%h:%p
"""


def up(names: list[str], packages: Sequence[str] = ()) -> None:
    """``packages``: what the hosts can install beside what the roles do."""
    LAB.mkdir(parents=True, exist_ok=True)
    root = base.rootfs()
    base.link("apt", base.apt_repo(root, packages))
    base.link("wheels", base.wheels())
    if not (LAB / "id").exists():
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "plover-lab", "-f", str(LAB / "id"))
    blocks = "".join(f"Host {h}\n  HostName 192.168.77.{n}\n" for h, n in ALL_HOSTS.items())
    (LAB / "ssh_config").write_text(blocks + SSH.format(hosts=" ".join(ALL_HOSTS), lab=LAB, netns=NETNS))
    network_up()
    for name in names:
        host = Host(name)
        host.create(root, (LAB / "id.pub").read_text())
        host.power_on()
    for name in names:
        wait_ssh(name)


def wait_ssh(name: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while execute(name, "true").returncode:
        if time.monotonic() > end:
            raise SystemExit(f"lab: no ssh to {name} within {seconds:.0f} s; see {Host(name).folder}/console.log")
        time.sleep(0.3)


def execute(name: str, command: str) -> subprocess.CompletedProcess:
    # Not our stdin: ssh makes it non-blocking, and ansible started after us from the same shell refuses that.
    return subprocess.run(
        ["ssh", "-F", str(LAB / "ssh_config"), name, command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m lab", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="make or power on hosts").add_argument("hosts", nargs="*", default=list(HOSTS))
    for verb in ("power-loss", "power-on", "reboot", "off", "freeze", "thaw"):
        verbs.add_parser(verb).add_argument("host", choices=ALL_HOSTS)
    for verb in ("cut", "heal"):
        cut = verbs.add_parser(verb)
        cut.add_argument("host", choices=ALL_HOSTS)
        cut.add_argument("link", choices=("mgmt", "ft", "svc"))
    run = verbs.add_parser("exec", help="a command on a host, over ssh")
    run.add_argument("host", choices=ALL_HOSTS)
    run.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("status")
    verbs.add_parser("down", help="everything gone")
    options = parser.parse_args()
    host = Host(options.host) if "host" in options else None
    if options.verb == "up":
        up(options.hosts)
    elif options.verb == "power-on":
        host.power_on()
    elif options.verb == "power-loss":
        host.power_loss()
    elif options.verb == "off":
        host.off()
    elif options.verb == "reboot":
        execute(host.name, "systemctl reboot")
    elif options.verb in ("freeze", "thaw"):
        host.freeze({"freeze": "FROZEN", "thaw": "THAWED"}[options.verb])
    elif options.verb in ("cut", "heal"):
        host.links({"cut": "down", "heal": "up"}[options.verb], (options.link,))
    elif options.verb == "exec":
        words = options.command[1:] if options.command[:1] == ["--"] else options.command
        done = execute(host.name, " ".join(words))
        print(done.stdout, end="")
        print(done.stderr, end="", file=sys.stderr)
        return done.returncode
    elif options.verb == "status":
        for name in (n for n in ALL_HOSTS if n in HOSTS or Host(n).folder.exists()):
            print(f"{name}: {'on' if Host(name).running() else 'off'}")
        print(f"clients: ip netns exec {CLIENT} ...")
    elif options.verb == "down":
        left = down()
        print("lab: everything is gone" if not left else f"lab: left over: {', '.join(left)}")
        return 1 if left else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
