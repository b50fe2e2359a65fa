# SPDX-License-Identifier: GPL-3.0-or-later
"""make demo-operate: what an operator sees of a failover. The primary loses power: the alert comes from both survivors and ends,
the web page shows the new leader, and the hook has run. Prometheus, Alertmanager and Chromium are Debian's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import yaml

from . import deploy, leader_lost
from .__main__ import execute, wait_ssh
from .__main__ import up as hosts_up
from .demo import finish_load, perform, start_load, wait_leader
from .hosts import HOSTS, Host
from .operate import told
from .operate.page import Pages
from .paths import BUILD, LAB, ROOT
from .prometheus import promtool
from .up import say

DEMO = BUILD / "demo-operate"
RULES_TEST = ROOT / "tests" / "plays" / "alerts.test.yml"
PLAY = Path(__file__).parent / "operate" / "monitoring.yml"
HOOK = re.compile(r"^    cat >(/usr/local/sbin/plover-event) .*?^    END\n    chmod [^\n]*\n", re.M | re.S)
SURVIVORS = ("secondary", "witness")
FAILED_OVER = {"PloverFailover": "demo"}  # comes at once, and lasts for ten minutes
GONE = {"PloverMemberGone": "primary", "PloverTargetDown": f"{told.address('primary')}:9742"}
LOAD_BEFORE_S, FIRES_AT_ONCE_S, FIRES_S, RESOLVES_S = 20.0, 60.0, 240.0, 120.0
PROTECTED_S, SCRAPED_S, TELLS_S = 120.0, 120.0, 20.0
PAGE_S_MAX = 2.0
LEADS_TIMES_MAX = 5
BUDGET_MS = 2000  # twice the default: Prometheus, Alertmanager, a browser and three hosts share this machine
HISTORY_S = 3.0  # the page asks for the history a moment after the news


def hook() -> tuple[str, str]:
    """(path of the script, commands that make it), as docs/operations.md has it."""
    found = HOOK.search((ROOT / "docs" / "operations.md").read_text())
    if not found:
        raise SystemExit("docs/operations.md: the example of a hook is not found")
    return found[1], textwrap.dedent(found[0])


def write_inventory(command: str) -> None:
    """The example inventory with exporters that other hosts reach, and the hook."""
    deploy.write_inventory()
    inventory = yaml.safe_load(deploy.INVENTORY.read_text())
    variables = inventory["plover"]["vars"]
    variables["plover_monitoring"] = True
    variables["monitoring_listen_address"] = "{{ ansible_host }}"
    variables["plover_vms"][0]["settings"] = {"on_event_command": [command], "failover_budget_ms": BUDGET_MS}
    deploy.INVENTORY.write_text(yaml.safe_dump(inventory, sort_keys=False))


def bring_up() -> Path:
    """The lab with all that an operator needs; the file of the CA that signs the exporters' certificates."""
    say("making three hosts")
    hosts_up(list(HOSTS), ("prometheus", "prometheus-alertmanager"))
    command, script = hook()
    for host in HOSTS:
        if (done := execute(host, script)).returncode:
            raise SystemExit(f"{host}: the hook cannot be put there: {done.stderr}")
    write_inventory(command)
    say("running playbooks/deploy-plover.yml, with exporters and a hook")
    deploy.play()
    say("installing Prometheus and Alertmanager on secondary and witness, with the rules of role monitoring")
    deploy.play("-e", f"operate_webhook=http://{told.HERE}:{told.PORT}/", playbook=PLAY)
    deploy.wait_protected("primary", PROTECTED_S)
    deploy.lead("primary", PROTECTED_S)
    told.wait_targets(SURVIVORS, len(HOSTS), SCRAPED_S)
    (authority,) = (LAB / "ca").glob("*/ca.pem")
    return authority


def rules_ok() -> bool:
    """By promtool: the tests of the rules, and the configuration that the survivors' Prometheus runs with."""
    tested = subprocess.run([promtool(), "test", "rules", RULES_TEST], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    checks = [execute(host, "promtool check config /etc/prometheus/prometheus.yml") for host in SURVIVORS]
    return tested.returncode == 0 and all(check.returncode == 0 and "1 rule files" in check.stdout + check.stderr for check in checks)


def hook_ran(view: int) -> bool:
    """The script of the documents has told the system's log of the failover, on the new leader's host."""
    line = f"demo: failover, view {view}, leader secondary:"
    end = time.monotonic() + TELLS_S
    while line not in execute("secondary", "journalctl -t plover-event -o cat --no-pager").stdout:
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def fail_over(pages: Pages, receiver: told.Receiver) -> dict[str, Any]:
    """The primary loses power and comes back; what was told and shown of it."""
    began = time.time()
    Host("primary").power_loss()
    shown = {name: round(at - began, 3) for name, at in pages.shown_at("secondary", began).items()}
    view = wait_leader("secondary", 30)["view"]
    leader_lost.check("primary", "secondary")
    say(f"the secondary leads; the pages showed it after {' and '.join(f'{after} s ({name})' for name, after in shown.items())}")
    pages.take("degraded")
    # On a busy machine there may have been a failover before, and the alert is still on.
    fired = receiver.wait(told.FIRING, FAILED_OVER, SURVIVORS, 0.0, FIRES_AT_ONCE_S)
    say(f"{' and '.join(FAILED_OVER)} {'came' if fired else 'did NOT come'} from both survivors; {' and '.join(GONE)} take two minutes")
    fired &= receiver.wait(told.FIRING, GONE, SURVIVORS, began, FIRES_S)
    say(f"they {'came from both survivors' if fired else 'did NOT come'}; the primary gets its power back")
    back = time.time()
    Host("primary").power_on()
    wait_ssh("primary")
    deploy.wait_protected("secondary", PROTECTED_S)
    say("protected again; waiting for the alerts' end")
    resolved = fired and receiver.wait(told.RESOLVED, GONE, SURVIVORS, back, RESOLVES_S)
    return {"fired": fired, "resolved": resolved, "shown_s": max(shown.values()), "hook_ran": hook_ran(view)}


def take_protected(pages: Pages) -> None:
    """Screenshots while the primary leads: on a busy machine there may be failovers, also while they are taken."""
    for _again in range(LEADS_TIMES_MAX):
        deploy.lead("primary", PROTECTED_S)
        pages.shown_now("primary")
        pages.take("protected")
        _, status = deploy.ploverctl("primary", "status")
        if status.get("role") == "leader" and status.get("service") == "protected":
            return
        say("there was a failover without a power loss: this machine is busy; once more")
    raise SystemExit(f"the primary did not lead for long enough, {LEADS_TIMES_MAX} times: this machine is too busy")


def watch(pages: Pages, receiver: told.Receiver) -> dict[str, Any]:
    say(f"the page is open on a desktop (from secondary) and on a phone (from witness); clients write for {LOAD_BEFORE_S:.0f} s")
    out = DEMO / "clients.json"
    load = start_load(out, "lab.client")
    try:
        time.sleep(LOAD_BEFORE_S)
        take_protected(pages)
        say("power loss of the primary")
        found = fail_over(pages, receiver)
        time.sleep(HISTORY_S)
        pages.open_history()
        pages.take("protected-again")
        clients = finish_load(load, out)
    finally:
        if load.poll() is None:
            load.kill()
            load.wait()
    if clients["lost"]:
        raise SystemExit(f"{clients['lost']} acknowledged writes are lost")
    return found


def show() -> dict[str, Any]:
    authority = bring_up()
    receiver = told.Receiver()
    try:
        pages = Pages(DEMO, authority, {"desktop": "secondary", "phone": "witness"})
        try:
            found = watch(pages, receiver)
            (DEMO / "pages.json").write_text(json.dumps(pages.seen(), indent=1) + "\n")
            if problems := pages.problems():
                raise SystemExit(f"the web page has problems: {'; '.join(problems)}")
        finally:
            pages.close()
    finally:
        receiver.close()
        (DEMO / "alerts.json").write_text(json.dumps([alert._asdict() for alert in receiver.alerts], indent=1) + "\n")
    return {
        "alert_fired": found["fired"],
        "alert_resolved": found["resolved"],
        "page_showed_failover_s": found["shown_s"],
        "hook_ran": found["hook_ran"],
        "metrics": len(told.metrics("secondary")),
        "promtool_ok": rules_ok(),
        "screenshots": pages.screenshots,
    }


def good(result: dict[str, Any]) -> bool:
    return (
        all(result[key] for key in ("alert_fired", "alert_resolved", "hook_ran", "promtool_ok", "metrics", "screenshots"))
        and result["page_showed_failover_s"] <= PAGE_S_MAX
    )


def report(result: dict[str, Any]) -> str:
    words = {
        "fired": "came from both survivors" if result["alert_fired"] else "did NOT come from both survivors",
        "resolved": "ended when the host was back" if result["alert_resolved"] else "did NOT end",
        "hook": "has run" if result["hook_ran"] else "has NOT run",
        "wrong": "nothing" if result["promtool_ok"] else "SOMETHING",
    }
    return f"""
  The primary's host died. The web page showed the new leader {result["page_showed_failover_s"]} s after the power loss.
  Alerts {words["fired"]}, and {words["resolved"]}. The hook {words["hook"]}.
  Prometheus has {result["metrics"]} metrics; promtool finds {words["wrong"]} wrong with the rules.
  (build/demo-operate: result.json, {len(result["screenshots"])} screenshots, alerts.json, pages.json)"""


if __name__ == "__main__":
    sys.exit(perform(DEMO, show, report, good))
