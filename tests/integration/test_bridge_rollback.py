# SPDX-License-Identifier: GPL-3.0-or-later
"""An armed change of a real network, in a namespace of its own: made, confirmed, undone, failed, cut short."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lab.netns import alone

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN = """
import sys
sys.path.insert(0, sys.argv[1] + "/plugins/module_utils")
import json
from _ansible.bridging import armed, host, model
folder = sys.argv[2]
armed.STATE = folder + "/state"
for words in ("link add eth0 type veth peer name far0", "link set far0 up",
              "addr add 192.0.2.5/24 dev eth0", "addr add 2001:db8::5/64 dev eth0 nodad",
              "link set eth0 up", "route add default via 192.0.2.1 dev eth0 metric 7"):
    host.must(["ip", *words.split()])
path = folder + "/interfaces"
host.write(path, "old", 0o600)
join = ["sh", "-c", "ip link add br0 type bridge && ip link set eth0 master br0"]
plan = model.Plan("plover", {path: "new", folder + "/more": "new"}, start=[join])
real = host.command  # there is no systemd here: the test is the timer
host.command = lambda words, *more: (0, "") if words[0].startswith("system") else real(words, *more)
armed.SCRIPT = "/bin/true"
def begin():
    armed.begin(host.look("br0", "eth0"), plan, True, 60)
def show():
    addresses = {dev: sorted(a["local"] for a in have) for dev, have in host._addresses().items()}
    routes = {dev: [(r["dst"], r["gateway"], r["metric"]) for r in have] for dev, have in host._routes().items()}
    files = [host.read(path), host.mode_of(path), host.read(folder + "/more")]
    print(json.dumps([addresses, routes, files, "br0" in host._links(), sorted(armed.noted("br0", "undo"))[:1]]))
"""
ADDRESSES, ROUTE = ["192.0.2.5", "2001:db8::5"], [["default", "192.0.2.1", 7]]
OLD = [{"eth0": ADDRESSES}, {"eth0": ROUTE}, ["old", 0o600, None], False, []]
NEW = [{"br0": ADDRESSES}, {"br0": ROUTE}, ["new", 0o600, "new"], True, []]


@pytest.fixture
def network(tmp_path):
    def run(script: str) -> list[str]:
        return alone(sys.executable, "-c", BEGIN + script, str(ROOT), str(tmp_path))

    return run


def test_a_confirmed_change_stays(network):
    said = network("begin(); armed.run('br0'); armed.confirm('br0'); armed.undo('br0'); show()")
    assert json.loads(said[-1]) == NEW


def test_a_change_that_nobody_confirms_is_undone_with_addresses_routes_and_files(network):
    said = network("begin(); armed.run('br0'); armed.undo('br0'); show(); print(armed.wait('br0', 0)['said'])")
    assert json.loads(said[0]) == OLD
    assert said[1] == "nobody came in over a new connection; the old network is back"


def test_what_was_undone_cannot_be_confirmed(network):
    assert network("""
begin(); armed.run('br0'); armed.undo('br0')
try:
    armed.confirm('br0')
except host.HostError as error:
    print(error)
print(armed.noted('br0', 'made'))
""") == ["nobody came in over a new connection; the old network is back", "{}"]


def test_a_change_that_fails_half_way_is_undone_at_once(network):
    said = network("plan.start[0][2] += ' && false'; begin(); armed.run('br0'); show(); print(armed.wait('br0', 0)['said'])")
    assert json.loads(said[0]) == OLD
    assert "failed" in said[1] and said[1].endswith("the old network is back")


def test_after_a_power_loss_the_old_files_are_there_before_the_network_starts(network):
    said = network("begin(); armed.run('br0'); armed.undo_at_boot(); show()")
    assert json.loads(said[0])[2] == OLD[2]


def test_a_second_change_waits_for_the_first(network):
    assert (
        "is under way and not confirmed"
        in network("""
begin()
try:
    begin()
except model.Refusal as error:
    print(error)
""")[0]
    )


def test_an_undo_that_is_late_changes_nothing(network):
    said = network("begin(); armed.run('br0'); armed.undo('br0'); armed.run('br0'); armed.undo('br0'); show()")
    assert json.loads(said[0]) == OLD


def test_a_manager_that_is_quicker_with_an_address_is_no_failure(network):
    """It gave the address between our look and our own attempt: what was looked at is from before."""
    stands, refused = network("""
look, stale = host._addresses, []
host._addresses = lambda: stale.pop() if stale else look()
wanted = look()["eth0"]
for words in ("link add br0 type bridge", "addr add 192.0.2.5/24 dev br0"):
    host.must(["ip", *words.split()])
stale.append({})
host.carry("eth0", "br0", wanted, [])
print(sorted(a["local"] for a in look()["br0"]))
try:
    host.carry("eth0", "br0", [{**wanted[0], "local": "999.0.2.5"}], [])
except host.HostError as error:
    print(error)
""")
    assert stands == str(ADDRESSES) and "999.0.2.5" in refused


def test_a_bridge_that_its_manager_makes_anew_while_it_is_taken_away_is_gone_in_the_end(network):
    make = "ip link add br0 type bridge"
    again = f"{make} && ip link set br0 up && (sleep 0.15; {make}) >/dev/null 2>&1 &"
    said = network(f"plan.back_start = [['sh', '-c', {again!r}]]; begin(); armed.run('br0'); armed.undo('br0'); show()")
    assert json.loads(said[0]) == OLD
