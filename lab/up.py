# SPDX-License-Identifier: GPL-3.0-or-later
"""make up: hosts, image, play; leaves a protected VM running and says how to reach it.
With --disk: the guest with PostgreSQL. With --two: a second VM, which leads on the other host."""

from __future__ import annotations

import sys
import time

from . import deploy
from .__main__ import up as hosts_up
from .hosts import CLIENT, HOSTS, SERVICE_IP, SERVICE_PORT
from .paths import LAB

BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {text}", flush=True)


def up(disk: bool = False, two: bool = False) -> None:
    say("making three hosts (the first time about a minute: base image and packages; then 5 s)")
    hosts_up(list(HOSTS))
    deploy.write_inventory(disk, two)
    say("running playbooks/deploy-plover.yml (first time about a minute)")
    changed, _ = deploy.play()
    say(f"the play changed {changed} things")
    deploy.wait_protected("primary", 120)
    deploy.wait_service(60)
    (LAB / "env").write_text(
        f"CLIENT_NETNS={CLIENT}\nSERVICE_IP={SERVICE_IP}\nSERVICE_PORT={SERVICE_PORT}\n"
        f"INVENTORY={deploy.INVENTORY}\nSSH_CONFIG={LAB / 'ssh_config'}\n"
    )


def main() -> int:
    up(disk="--disk" in sys.argv[1:], two="--two" in sys.argv[1:])
    say(f"protected. Reach it:  ip netns exec {CLIENT} redis-cli -h {SERVICE_IP}   (or source {LAB}/env)")
    print(f"hosts:  ssh -F {LAB}/ssh_config primary ploverctl status\nend it:  make down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
