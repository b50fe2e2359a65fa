# SPDX-License-Identifier: GPL-3.0-or-later
"""make recording: a session on three hosts, as it happens: a client writes, the leader's host loses its power, the VM is protected again.
Makes docs/session.cast and docs/session.svg. `lab` is `python3 -m lab`; `clients` is `python3 -m lab.client` in the network of the
VM's clients."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
import time
from pathlib import Path

import yaml

from . import deploy, leader_lost
from .__main__ import up as hosts_up
from .__main__ import wait_ssh
from .demo import perform
from .hosts import CLIENT, HOSTS
from .paths import BUILD, LAB, ROOT
from .session import Recorder, asciicast, picture, printed
from .up import say

RECORDING = BUILD / "recording"
CAST, PICTURE = ROOT / "docs" / "session.cast", ROOT / "docs" / "session.svg"
TITLE = "A host dies, and nothing is lost"
SOON_S, PROTECTED_S = 30.0, 120.0
BUDGET_MS = 3000  # for a trial on small machines, as in docs/getting-started.md
SETUP = """\
ssh() {{ command ssh -F {config} "$@"; }}
lab() {{ ( cd {root} && {python} -m lab "$@" ); }}
clients() {{ here=$PWD; cd {root}; exec ip netns exec {netns} {python} -m lab.client --rate 20 --out "$here/clients.json"; }}
"""


def record(folder: Path) -> Recorder:
    words = {"config": LAB / "ssh_config", "root": ROOT, "python": sys.executable, "netns": CLIENT}
    setup = SETUP.format(**{key: shlex.quote(str(word)) for key, word in words.items()})
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "PLOVER_LAB", "PLOVER_CACHE") if key in os.environ}
    with Recorder(setup, folder, environment) as shell:
        shell.run("ssh primary ploverctl status")
        shell.run("clients >clients.log 2>&1 & sleep 4; tail -n1 clients.log")
        shell.run("lab power-loss primary    # the leader's host is gone at once", SOON_S)
        shell.run("sleep 2; tail -n1 clients.log; ssh secondary ploverctl status", SOON_S)
        shell.run("lab power-on primary", SOON_S)
        wait_ssh("primary")
        shell.run("ssh secondary ploverctl status --watch", PROTECTED_S, until=": protected;")
        shell.run("kill %1; wait; cat clients.json; echo", SOON_S)
        shell.run("ssh secondary ploverctl status")
        shell.run("ssh secondary ploverctl history -n 4")
    return shell


def bring_up() -> None:
    say("making three hosts")
    hosts_up(list(HOSTS))
    deploy.write_inventory()
    inventory = yaml.safe_load(deploy.INVENTORY.read_text())
    inventory["plover"]["vars"]["plover_vms"][0]["settings"] = {"failover_budget_ms": BUDGET_MS}
    deploy.INVENTORY.write_text(yaml.safe_dump(inventory, sort_keys=False))
    say("running playbooks/deploy-plover.yml")
    deploy.play()
    deploy.wait_protected("primary", PROTECTED_S)
    deploy.wait_service(PROTECTED_S)
    deploy.lead("primary", PROTECTED_S)


def show() -> dict:
    bring_up()
    say("recording a session")
    began = time.time()
    with tempfile.TemporaryDirectory() as name:
        shell = record(Path(name))
        clients = json.loads((Path(name) / "clients.json").read_text())
    leader_lost.check("primary", "secondary")
    text = printed(shell.events)
    if found := re.search(re.escape(str(ROOT.parent)), text):
        raise SystemExit(f"the session shows a path of this machine: {found[0]}")
    CAST.write_text(asciicast(shell.events, TITLE, began))
    PICTURE.write_text(picture(text, TITLE))
    (RECORDING / "session.txt").write_text(text)
    return {**clients, "seconds": shell.events[-1][0], "protected_again": deploy.ploverctl("secondary", "status")[0] == 0}


def good(result: dict) -> bool:
    return result["lost"] == 0 and result["connections_broken"] == 0 and result["protected_again"]


def report(result: dict) -> str:
    return f"""
  {result["acked"]} writes were acknowledged, {result["lost"]} of them are lost.
  The longest time without an answer was {result["outage_ms"]} ms.
  (docs/session.cast, docs/session.svg, build/recording/session.txt)"""


if __name__ == "__main__":
    sys.exit(perform(RECORDING, show, report, good))
