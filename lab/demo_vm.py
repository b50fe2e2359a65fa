# SPDX-License-Identifier: GPL-3.0-or-later
"""make demo-vm: a VM as people have it. A libvirt domain is imported; its Debian boots by its own boot loader and gets its address by
cloud-init. Clients download, ask in short connections, and keep an SSH session. Its host loses power in the middle of all that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from . import debian_guest, deploy, leader_lost
from .__main__ import execute, wait_ssh
from .__main__ import up as hosts_up
from .demo import ended, finish_load, perform, start_load, wait_leader
from .demo_disk import mismatching_blocks
from .hosts import CLIENT, CLIENT_IP, HOSTS, SERVICE_IP, Host
from .paths import BUILD, ROOT
from .up import BEGAN, say

DEMO = BUILD / "demo-vm"
OUT, KEY, DOMAIN = DEMO / "clients.json", DEMO / "id", ROOT / "lab" / "guest" / "web.xml"
PROTECTED_S, BOOT_S, AUDIT_S = 600.0, 600.0, 120.0
IDLE_S, LOAD_BEFORE_S, LOAD_AFTER_S, FIRST_S = 40.0, 20.0, 20.0, 180.0
# Two emulated CPUs that boot Debian leave little of a small machine to the three hosts' daemons: they are not to take that for a death.
SETTINGS = {"failover_budget_ms": 3000}
# As docs/sizing.md has it, but with a look every quarter of a second: under TCG each pause is long.
CHRONY = f"""server {CLIENT_IP} iburst minpoll -2 maxpoll -2
makestep 0.05 -1
driftfile /var/lib/chrony/chrony.drift
"""
FOLLOWED_FROM_S = 8.0  # the session is young, and the guest's clock has not been asked for yet


def imported() -> dict:
    """The entry of plover_vms, with what the import asks for."""
    DEMO.mkdir(parents=True, exist_ok=True)
    KEY.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(KEY)], check=True)
    seats = [word for seat in HOSTS for word in (f"--{seat}", seat)]
    done = subprocess.run(
        [sys.executable, "-m", "plover.ctl", "import", str(DOMAIN), "--name", "demo", *seats, "-o", "json"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins" / "module_utils")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the import has status {done.returncode}: {done.stdout}{done.stderr}")
    vm = json.loads(done.stdout)["vm"]
    vm["disks"][0]["source"] = str(debian_guest.build())
    vm["settings"].update(SETTINGS)
    return {**vm, "addresses": [SERVICE_IP], "cloud_init": cloud_init(vm["mac"])}


def cloud_init(mac: str) -> dict:
    return {
        "user_data": {
            "ssh_authorized_keys": [KEY.with_suffix(".pub").read_text().strip()],
            "ssh_genkeytypes": ["ed25519"],
            "locale": "C.UTF-8",
            "ntp": {"enabled": False},
            "write_files": [{"path": "/etc/chrony/chrony.conf", "content": CHRONY}],
            "runcmd": [["systemctl", "restart", "chrony"]],
        },
        "network_config": {
            "version": 2,
            "ethernets": {"lan": {"match": {"macaddress": mac}, "addresses": [f"{SERVICE_IP}/24"], "gateway4": CLIENT_IP}},
        },
    }


def wait_for_page(seconds: float) -> None:
    end = time.monotonic() + seconds
    ask = f"exec 3<>/dev/tcp/{SERVICE_IP}/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q 'It works' <&3"
    while subprocess.run(["ip", "netns", "exec", CLIENT, "timeout", "10", "bash", "-c", ask], capture_output=True, check=False).returncode:
        if time.monotonic() > end:
            raise SystemExit(f"the guest serves no page after {seconds:.0f} s; see /var/log/plover/demo/console.log on the leader's host")
        time.sleep(0.5)


def finished_booting(seconds: float) -> None:
    """cloud-init has run to its end: from here on the guest has nothing to do of its own."""
    end = time.monotonic() + seconds
    while "Cloud-init v. 22.4.2 finished" not in console():
        if time.monotonic() > end:
            raise SystemExit(f"cloud-init has not ended after {seconds:.0f} s; see {DEMO / 'console.txt'}")
        time.sleep(1.0)


def console() -> str:
    """What the guest has said, on whichever host."""
    said = "".join(execute(host, "cat /var/log/plover/demo/console.log*").stdout for host in ("primary", "secondary"))
    (DEMO / "console.txt").write_text(said)
    return said


def progress() -> dict:
    lines = (DEMO / "client.log").read_text().splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {"downloads": 0, "requests": 0, "lines": 0}


def wait_for_clients(load: subprocess.Popen, seconds: float) -> None:
    """Each kind of client has had an answer."""
    end = time.monotonic() + seconds
    while not all(progress()[kind] for kind in ("downloads", "requests", "lines")):
        if load.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"the clients got no answers within {seconds:.0f} s: {progress()}; see {DEMO / 'client.log'}")
        time.sleep(0.5)


def lag_percent(host: str, seconds: float) -> float:
    """How much too slow QEMU's clock goes on ``host``, which leads, in so long."""
    lags = []
    for wait_s in (0.0, seconds):
        time.sleep(wait_s)
        lags.append((time.monotonic(), deploy.wait_protected(host, PROTECTED_S)["clock_lag_ms"]))
    (began, before_ms), (ended, after_ms) = lags
    return round((after_ms - before_ms) / 10 / (ended - began), 2)


def made() -> None:
    say("making three hosts and a Debian image (the first time some minutes; then 5 s)")
    vm = imported()
    hosts_up(list(HOSTS))
    deploy.write_inventory(vm=vm)
    say(f"{DOMAIN.name} is imported; running playbooks/deploy-plover.yml, which copies the image of {debian_guest.IMAGE_MIB} MiB")
    changed, _ = deploy.play()
    say(f"the play changed {changed} things; waiting until the guest has booted and its copy is complete")
    wait_for_page(BOOT_S)
    finished_booting(BOOT_S)
    deploy.lead("primary", PROTECTED_S)


def failed_over(load: subprocess.Popen) -> float:
    """The primary loses power under load and comes back. Returns how slow the guest's clock was under load."""
    wait_for_clients(load, FIRST_S)
    load_percent = lag_percent("primary", LOAD_BEFORE_S)
    deploy.lead("primary", PROTECTED_S)  # on a busy machine there may have been a failover
    say(f"power loss of the primary in the middle of downloads; so far {progress()}")
    Host("primary").power_loss()
    wait_leader("secondary", 60)
    leader_lost.check("primary", "secondary")
    say(f"the secondary leads; the clients go on for {LOAD_AFTER_S:.0f} s by the same connections")
    time.sleep(LOAD_AFTER_S)
    say("the primary gets its power back; its memory and its disk are filled anew")
    Host("primary").power_on()
    wait_ssh("primary")
    deploy.wait_protected("secondary", PROTECTED_S)
    return load_percent


def show() -> dict:
    made()
    say(f"protected; how slow is the clock of an idle guest? ({IDLE_S:.0f} s)")
    idle_percent = lag_percent("primary", IDLE_S)
    load = start_load(OUT, "lab.vm_client", "--host", SERVICE_IP, "--key", str(KEY), "--time-server", CLIENT_IP)
    with ended(load):
        load_percent = failed_over(load)
        clients = finish_load(load, OUT)
    for problem in clients["problems"]:
        print(f"  {problem}")
    say("protected again; comparing the memory and the disks of both hosts")
    blocks = mismatching_blocks(AUDIT_S)
    _code, audit = deploy.ploverctl("secondary", "audit")
    protected, _status = deploy.ploverctl("secondary", "status")
    followed = [abs(off_s) - sure_s for at_s, off_s, sure_s in clients["clock"] if at_s > clients["clock"][0][0] + FOLLOWED_FROM_S]
    return {
        "booted_by": "bios" if "GRUB boots Debian" in console() else "unknown",
        **{key: clients[key] for key in ("downloads", "downloads_broken", "requests", "requests_broken", "lines", "sessions_broken")},
        "outage_ms": clients["outage_ms"],
        "ram_pages_mismatching": audit["mismatching"] + audit["untracked"] if audit.get("ok") else None,
        "disk_blocks_mismatching": blocks,
        "reprotected": protected == 0,
        "clock_lag_percent_idle": idle_percent,
        "clock_lag_percent_load": load_percent,
        "clock_off_ms_p95": round(1000 * sorted(followed)[int(0.95 * len(followed))]) if followed else None,
        "wall_s": round(time.monotonic() - BEGAN, 1),
    }


def good(result: dict) -> bool:
    broken = [result[key] for key in ("downloads_broken", "requests_broken", "sessions_broken")]
    differ = (result["ram_pages_mismatching"], result["disk_blocks_mismatching"])
    done = all(result[key] > 0 for key in ("downloads", "requests", "lines"))
    return result["booted_by"] == "bios" and broken == [0, 0, 0] and differ == (0, 0) and result["reprotected"] and done


def report(result: dict) -> str:
    return f"""
  Debian booted by its own boot loader, and got its address by cloud-init.
  Its host died. {result["downloads"]} downloads, {result["requests"]} short connections, {result["lines"]} lines of one SSH session:
  {result["downloads_broken"]}, {result["requests_broken"]} and {result["sessions_broken"]} of them broke. The longest time without an \
answer was {result["outage_ms"]} ms.
  The VM is {"protected again" if result["reprotected"] else "NOT protected"}; {result["ram_pages_mismatching"]} pages and \
{result["disk_blocks_mismatching"]} blocks differ between its two copies.
  QEMU's clock was {result["clock_lag_percent_idle"]} % slow while the guest was idle, and {result["clock_lag_percent_load"]} % under load.
  With chrony the guest was at most {result["clock_off_ms_p95"]} ms off, in 95 of 100 looks.
  (build/demo-vm/result.json)"""


if __name__ == "__main__":
    sys.exit(perform(DEMO, show, report, good))
