# SPDX-License-Identifier: GPL-3.0-or-later
"""What the deploy play has to leave on each host, read from the host itself."""

from __future__ import annotations

import json

import pytest

REPLICAS, WITNESS = ("primary", "secondary"), "witness"
EVERYWHERE = (*REPLICAS, WITNESS)


def seat_of(host):
    name = host.check_output("hostname")
    assert name in EVERYWHERE
    return name, "witness" if name == WITNESS else "replica"


@pytest.fixture
def replica(host):
    name, seat = seat_of(host)
    if seat == "witness":
        pytest.skip("for the replicas")
    return name


def test_this_hosts_daemon_runs_and_will_run_after_a_reboot(host):
    _, seat = seat_of(host)
    unit = host.service(f"plover-{seat}@demo")
    assert unit.is_running and unit.is_enabled


def test_the_other_seats_daemon_is_not_here(host):
    _, seat = seat_of(host)
    other = "replica" if seat == "witness" else "witness"
    assert not host.service(f"plover-{other}@demo").is_running


def test_every_member_says_protected(host):
    done = host.run("ploverctl status -o json")
    status = json.loads(done.stdout)
    assert (done.rc, status["service"]) == (0, "protected"), status
    assert status["in_sync"] == sorted(REPLICAS)


def test_settings_are_readable_by_root_only(host):
    file = host.file("/etc/plover/demo.json")
    assert (file.user, file.mode) == ("root", 0o640)
    assert file.group == ("plover-witness" if seat_of(host)[1] == "witness" else "root")
    assert json.loads(file.content_string)["member"] == seat_of(host)[0]


def test_links_are_encrypted_and_the_key_is_for_the_member_only(host):
    status = json.loads(host.run("ploverctl status -o json").stdout)
    assert status["link_security"] == "tls" and all(status["encrypted"].values()), status
    assert all(found["days_left"] > 800 for found in status["tls"]["certificates"].values())
    folder, key = host.file("/etc/plover/demo/tls"), host.file("/etc/plover/demo/tls/key.pem")
    owner = "plover-witness" if seat_of(host)[1] == "witness" else "root"
    assert (folder.user, folder.mode, key.user, key.mode) == (owner, 0o700, owner, 0o600)
    name = f"plover:{json.loads(host.file('/etc/plover/demo.json').content_string)['cluster_id']}/{seat_of(host)[0]}"
    assert f"URI:{name}" in host.check_output("openssl x509 -in /etc/plover/demo/tls/cert.pem -noout -ext subjectAltName")
    assert host.run("openssl verify -CAfile /etc/plover/demo/tls/ca.pem /etc/plover/demo/tls/cert.pem").rc == 0
    assert not host.file("/etc/plover/demo/tls/mode").exists


def test_the_current_version_is_a_link_to_a_folder_of_its_own(host):
    assert host.file("/opt/plover/current").is_symlink
    assert host.run("ploverctl --version").stdout.startswith("ploverctl ")


def test_the_witness_carries_no_qemu(host):
    if seat_of(host)[1] != "witness":
        pytest.skip("for the witness")
    assert not host.exists("qemu-system-x86_64")
    assert not host.file("/opt/plover/current/native").exists


def test_only_the_leaders_tap_is_in_the_bridge_beside_the_service_card(host, replica):
    leads = json.loads(host.run("ploverctl status -o json").stdout)["role"] == "leader"
    assert host.check_output("basename $(readlink /sys/class/net/svc0/master)") == "br0"
    assert host.run("basename $(readlink /sys/class/net/plover0/master)").stdout.strip() == ("br0" if leads else "")
    assert host.service("plover-bridge").is_enabled


def test_qemu_runs_in_a_unit_of_its_own_that_is_not_enabled(host, replica):
    unit = host.service("plover-qemu@demo")
    assert unit.is_running
    assert host.run("systemctl is-enabled plover-qemu@demo").stdout.strip() == "static"


def test_the_native_library_is_loaded_in_the_daemon(host, replica):
    pid = host.check_output("systemctl show -P MainPID plover-replica@demo")
    assert "/native/libplover_native.so" in host.file(f"/proc/{pid}/maps").content_string


def test_plover_hash_prints_one_hash_per_page(host, replica):
    pages = host.check_output("f=$(mktemp) && head -c 8192 /dev/zero > $f && plover-hash $f; rm $f").splitlines()
    assert len(pages) == 2 and pages[0] == pages[1] and len(pages[0]) == 16


@pytest.mark.parametrize("script", ["/etc/qemu-ifup", "/etc/qemu-ifdown"])
def test_tap_scripts_are_executable(host, replica, script):
    assert host.file(script).mode == 0o755


# --- confinement ---
LIMITS = {"plover-witness@demo": 2.0, "plover-replica@demo": 5.0, "plover-qemu@demo": 3.0}


def facts_of(host, unit):
    """/proc/PID/status of a unit's main process."""
    text = host.check_output(f"cat /proc/$(systemctl show -P MainPID {unit})/status")
    return {key: value.split() for key, value in (line.split(":", 1) for line in text.splitlines())}


def test_the_units_are_hardened(host):
    units = ["plover-witness@demo"] if seat_of(host)[1] == "witness" else ["plover-replica@demo", "plover-qemu@demo"]
    for unit in units:
        said = host.run(f"systemd-analyze security --no-pager {unit}").stdout
        score = float(said.rsplit("exposure level for", 1)[1].split(":", 1)[1].split()[0])
        assert score <= LIMITS[unit], said
        assert facts_of(host, unit)["NoNewPrivs"] == ["1"] and facts_of(host, unit)["Seccomp"] == ["2"]


def test_qemu_is_its_vms_own_user_and_nothing_more(host, replica):
    facts, user = facts_of(host, "plover-qemu@demo"), host.user("plover-demo")
    assert set(facts["Uid"]) == {str(user.uid)} and set(facts["Gid"]) == {str(user.gid)} and user.uid != 0
    assert int(facts["CapEff"][0], 16) == int(facts["CapPrm"][0], 16) == 0
    assert host.run("runuser -u plover-demo -- test -w /run/plover/demo/ctl.sock").rc


def test_qemu_has_no_network(host, replica):
    cards = host.check_output("cat /proc/$(systemctl show -P MainPID plover-qemu@demo)/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in cards] == ["lo"]


def test_the_witness_is_not_root(host):
    if seat_of(host)[1] != "witness":
        pytest.skip("for the witness")
    facts = facts_of(host, "plover-witness@demo")
    assert set(facts["Uid"]) == {str(host.user("plover-witness").uid)} and int(facts["CapEff"][0], 16) == 0
    assert host.file("/var/lib/plover/demo/state.json").user == host.file("/etc/plover/demo.secret").user == "plover-witness"


@pytest.mark.parametrize(
    "path, mode", [("/run/plover/demo", 0o711), ("/dev/shm/plover", 0o711), ("/var/log/plover/demo", 0o700), ("/run/plover", 0o755)]
)
def test_the_folders_are_roots_own(host, replica, path, mode):
    folder = host.file(path)
    assert (folder.user, folder.group, folder.mode) == ("root", "root", mode)


def test_guest_memory_is_for_qemu_alone_and_the_console_is_not_in_memory(host, replica):
    memory = host.file("/dev/shm/plover/demo.ram")
    assert (memory.user, memory.mode) == ("plover-demo", 0o600)
    assert host.file("/var/log/plover/demo/console.log").user == "root"
    assert not host.file("/run/plover/demo/console.log").exists


def test_a_reboot_of_the_leaders_host_cost_a_switchover_and_no_failover(host, replica):
    """side_effect.yml rebooted each host; the one that led at that moment handed over first."""
    rows = json.loads(host.run("ploverctl history -o json").stdout)["entries"]
    causes = [row["cause"] for row in rows if row["kind"] == "view"]
    assert "failover" not in causes and len(causes) > 1, rows
