# SPDX-License-Identifier: GPL-3.0-or-later
"""Fencing: the external agent (when it is run, what waits for it, the process) and the watchdog's policy.

The watchdog's adapter on a real device: tests/integration/test_watchdog.py.
"""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from plover.config.settings import Config
from plover.core.fencing import RETRY_S_MAX, Fencing
from plover.errors import ConfigError, FencingError
from plover.host import watchdog
from plover.host.fence_agent import fence, read_input, words
from plover.host.watchdog import Keeper, Watchdog
from plover.watchdog import __main__ as watchdog_program
from settings import settings as good_settings

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")

AGENT = {"fence_command": ["/sbin/fence", "{host}", "--ip={address}"], "failover_budget_ms": 2000}


def fenced(policy):
    return protected(fence_policy=policy, **AGENT)


# --- when the agent is run, and what waits for it ---


@pytest.mark.parametrize("policy", ["automatic", "required"])
def test_a_failover_runs_it_once_against_the_old_leader(policy):
    group = fenced(policy)
    assert all(not seat.fenced for seat in group.seats.values())
    group.kill("primary")
    group.until(lambda: group.serving() is not None)
    assert group.write(9).name == "secondary"
    assert group["secondary"].fenced == ["primary"]
    assert group["secondary"].status()["fencing"]["agent"] == "primary is fenced"
    group.restart("primary")
    group.until(group.protected)
    group.run(5.0)
    assert group["secondary"].fenced == ["primary"] and group["primary"].fenced == []


def test_required_waits_for_success_and_lets_nothing_out_before():
    group = fenced("required")
    group["secondary"].fence_error = "fence_command: /sbin/fence ended with status 1: no route"
    group.send(5)
    group.kill("primary")
    group.run(8.0)
    node = group["secondary"]
    assert group.serving() is None and node.released == [] and node.core.leading.tap_up is False
    assert node.fenced == ["primary"] * 4  # at once, then after 1, 2 and 4 s
    status = node.status()
    assert status["service"] == "down"
    assert status["sentence"] == (
        "elected, but not serving: waiting for fence agent: fence_command: /sbin/fence ended with status 1: no route"
    )
    group.restart("primary")  # without its VM; it asks to join, but nobody serves yet
    group.run(1.0)
    assert group.serving() is None
    node.fence_error = None
    group.until(lambda: group.serving() is node, 10.0)
    assert "primary is fenced" in node.reports
    group.until(group.protected)
    assert group.write(6) is node and 5 not in group["primary"].released


def test_automatic_tries_once_and_goes_on():
    group = fenced("automatic")
    group["secondary"].fence_error = "it is broken"
    group.kill("primary")
    died = group.now
    group.until(lambda: group.serving() is not None)
    assert group.now - died < 0.6
    group.run(5.0)
    node = group["secondary"]
    assert node.fenced == ["primary"] and group.write(6) is node
    assert "fencing primary failed: it is broken; going on (fence_policy is automatic)" in node.reports
    assert node.status()["fencing"]["agent"] == "primary is not fenced: it is broken"


def test_who_hands_over_is_not_fenced():
    group = fenced("required")
    answers = group["primary"].switchover()
    group.until(lambda: answers == [None])
    group.until(group.protected)
    node = group["secondary"]  # now it loses its QEMU and says so
    node.qemu_dies()
    group.until(lambda: group.serving() is not None and group.serving().name == "primary")
    assert [seat.fenced for seat in group.seats.values()] == [[], [], []]


def test_a_forced_leader_tries_it_but_is_not_held_up_by_it():
    group = fenced("required")
    group["secondary"].fence_error = "the whole rack is gone"
    group.kill("primary")
    group.kill("witness")
    group.run(4.0)
    assert group["secondary"].force() is None
    assert group.write(6).name == "secondary" and group["secondary"].fenced == ["primary"]


def test_without_a_policy_nothing_is_run():
    group = protected()
    group.kill("primary")
    group.until(lambda: group.serving() is not None)
    assert group["secondary"].fenced == []
    assert group["secondary"].status()["fencing"] == {"views": "always", "agent": "off"}


def test_the_pause_between_tries_is_bounded():
    fencing, now, pauses = Fencing("required", "primary", 2), 0.0, []
    for _ in range(12):
        while not fencing.tick(now):
            now += 0.25
        assert fencing.tick(now) == []  # one at a time
        began = now
        fencing.answered(now, "no")
        while not fencing.tick(now):
            now += 0.25
        pauses.append(now - began)
        fencing.answered(now, "no")
    assert pauses[0] == 1.0 and max(pauses) == RETRY_S_MAX


# --- the agent's process ---


def test_only_host_and_address_are_filled_in():
    assert words(["/f", "{host}", "--a={address}", "$(reboot) {} {x} %s"], "primary", "10.0.0.1") == [
        "/f",
        "primary",
        "--a=10.0.0.1",
        "$(reboot) {} {x} %s",
    ]


@pytest.fixture
def script(tmp_path):
    def make(text):
        path = tmp_path / "agent"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return make


def run(*argv, timeout_s=5.0):
    return asyncio.run(fence(list(argv), timeout_s))


def test_exit_status_0_is_success_and_it_gets_the_words(script, tmp_path):
    assert run(script(f'echo "$1 $2" > {tmp_path}/said'), "primary", "10.0.0.1") is None
    assert (tmp_path / "said").read_text() == "primary 10.0.0.1\n"


def test_it_reads_its_passwords_on_its_input_and_nobody_sees_them(script, tmp_path):
    agent = script(f"cat > {tmp_path}/read; tr '\\0' ' ' < /proc/$$/cmdline > {tmp_path}/seen; cat {tmp_path}/read; exit 1")
    given = words(["plug={host}\npasswd = hush hush\nlogin=admin\n"], "primary", "10.0.0.1")[0]
    said = asyncio.run(fence([agent], 5.0, given))
    assert (tmp_path / "read").read_text() == "plug=primary\npasswd = hush hush\nlogin=admin\n"
    assert "hush" not in (tmp_path / "seen").read_text()
    assert said.endswith("ended with status 1: plug=primary\npasswd = ********\nlogin=admin")
    assert run(script(f"cat > {tmp_path}/read")) is None and (tmp_path / "read").read_text() == ""
    assert run(script("exit 0"), timeout_s=5.0) is None  # without reading it


def test_the_file_of_its_input_is_roots_alone_and_bounded(tmp_path):
    path = tmp_path / "demo.fence"
    assert read_input(path, required=False) == ""
    with pytest.raises(ConfigError, match=r"fence_input_file: .* is missing; make it, or remove the setting"):
        read_input(path, required=True)
    path.write_text("passwd=hush\n")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="readable by others than its owner; run 'chmod 600"):
        read_input(path, required=False)
    path.chmod(0o600)
    assert read_input(path, required=True) == "passwd=hush\n"
    path.write_text("x" * 4097)
    with pytest.raises(ConfigError, match="over 4096 bytes") as error:
        read_input(path, required=False)
    assert "xx" not in str(error.value)


def test_any_other_end_is_told(script, tmp_path):
    assert run(script("echo no route; exit 3")).endswith("agent ended with status 3: no route")
    assert run(script("exit 1")).endswith("status 1: and said nothing")
    assert run(script("kill -9 $$")).endswith("status -9: and said nothing")
    assert "No such file" in run(str(tmp_path / "missing"))
    assert "Permission denied" in run(str(tmp_path))
    assert len(run(script("head -c 10000000 /dev/zero | tr '\\0' x; exit 1"))) < 700


def test_a_child_that_left_the_session_holds_nothing_up(script):
    began = time.monotonic()
    assert run(script("setsid sleep 5 & exit 0")) is None and time.monotonic() - began < 2


def test_it_is_bounded_and_what_it_started_ends_with_it(script, tmp_path):
    held = tmp_path / "held"  # open for writing as long as anything lives that the agent started
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    began = time.monotonic()
    error = run(script(f"exec 9>{held}; echo two >&9; sleep 20 & sleep 20"), timeout_s=0.3)
    assert error.endswith("agent took longer than 300 ms (fence_timeout_ms)") and time.monotonic() - began < 2
    os.set_blocking(reader, True)
    with open(reader) as end:
        assert end.read() == "two\n" and time.monotonic() - began < 10


# --- settings ---


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"fence_policy": "required"}, "fence_command: is empty, but fence_policy is required; give the agent or set it to off"),
        ({"fence_command": ["fence"]}, "fence_command: 'fence' must be an absolute path"),
        ({"fence_command": ["/f", 7]}, "fence_command: must be a list of words"),
        ({"fence_command": [""]}, "fence_command: must be a list of words"),
        ({"fence_command": ["/f", "a\0b"]}, "fence_command: must be a list of words"),
        (
            {"fence_command": ["/f"], "fence_policy": "required", "fence_timeout_ms": 5000},
            "failover_budget_ms: 1000 is too short: detection_ms 100 + election_ms 150 + fence_timeout_ms 5000 + promotion at "
            "least 200 = 5450; raise failover_budget_ms to 5450",
        ),
        (
            {"fence_watchdog": "automatic", "fence_watchdog_timeout_s": 2, "failover_budget_ms": 2001},
            "fence_watchdog_timeout_s: 2 s must not be shorter than failover_budget_ms (2001)",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, words):
    with pytest.raises(ConfigError) as error:
        Config(good_settings("primary", **changes))
    assert str(error.value).startswith(words)


def test_the_agent_has_its_part_of_the_budget_only_where_it_is_used():
    assert Config(good_settings("primary", fence_command=["/f"])).budget.fencing_ms == 0
    config = Config(good_settings("primary", fence_command=["/f"], fence_policy="required"))
    assert config.budget == (100, 150, 250, 500, 1000) and config.fence_timeout_ms == 250
    config = Config(
        good_settings(
            "primary", fence_command=["/f"], fence_policy="automatic", fence_timeout_ms=8000, failover_budget_ms=9000, detection_ms=100
        )
    )
    assert config.budget == (100, 150, 8000, 750, 9000)


# --- the watchdog's policy ---


class FakeDevice:
    """A watchdog that works, or fails as told."""

    def __init__(self, timeout_s=10):
        self.path, self.timeout_s, self.identity, self.armed = "/dev/watchdog0", timeout_s, "fake", False
        self.error, self.gone, self.done = None, False, []

    def arm(self):
        if self.error:
            raise FencingError(self.error)
        self.armed = True
        self.done.append("arm")

    def probe(self):
        self.arm()
        self.disarm()

    def feed(self):
        if self.gone:
            raise OSError(19, "No such device")
        self.done.append("feed")

    def disarm(self):
        if self.armed:
            self.armed = False
            self.done.append("disarm")

    def abandon(self):
        self.armed = False
        self.done.append("abandon")


def test_off_touches_nothing():
    keeper = Keeper("off", FakeDevice())
    keeper.check()
    keeper.arm()
    keeper.progress(1.0)
    keeper.qemu_gone()
    assert keeper.device.done == [] and keeper.describe() == "off"


def test_it_is_fed_several_times_in_a_time_out_and_only_when_the_loop_comes_round():
    keeper = Keeper("required", FakeDevice(10))
    keeper.check()
    keeper.arm()
    keeper.arm()
    keeper.device.done.clear()
    for tick in range(2000):  # 10 s in ticks of 5 ms
        keeper.progress(100 + 0.005 * tick)
    assert keeper.device.done == ["feed"] * 5
    assert keeper.describe() == "/dev/watchdog0 (fake), 10 s, armed"
    keeper.qemu_gone()
    keeper.progress(200.0)
    assert keeper.device.done[5:] == ["disarm"] and "not armed" in keeper.describe()


def test_what_does_not_end_starves_it():
    keeper = Keeper("automatic", FakeDevice())
    keeper.starve("not armed, no use")
    keeper.arm()
    keeper.progress(1.0)
    keeper.starve("QEMU (pid 7) does not end")
    keeper.progress(100.0)
    assert keeper.device.done == ["arm", "feed"]
    assert keeper.describe().endswith("will reset this host: QEMU (pid 7) does not end")


def test_required_refuses_what_automatic_goes_on_without():
    for policy, refuses in (("required", True), ("automatic", False)):
        keeper = Keeper(policy, FakeDevice())
        keeper.device.error = "no device; modprobe softdog"
        for step in (keeper.check, keeper.arm):
            if refuses:
                with pytest.raises(FencingError, match="modprobe softdog"):
                    step()
            else:
                step()
                assert keeper.describe() == "not in use: no device; modprobe softdog"
        keeper.device.error = None
        keeper.arm()
        keeper.device.gone = True
        if refuses:
            with pytest.raises(FencingError, match="No such device while it was fed"):
                keeper.progress(50.0)
        else:
            keeper.progress(50.0)
            assert "while it was fed" in keeper.describe()


def test_what_is_no_watchdog_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    for path, word in ((tmp_path / "missing", "No such file"), (tmp_path / "file", "is no device"), ("/dev/null", "Inappropriate ioctl")):
        device = Watchdog(str(path), 10)
        with pytest.raises(FencingError) as error:
            device.probe()
        assert word in str(error.value) and str(error.value).startswith(f"fence_watchdog_device: {path}: ")
        assert "modprobe softdog" in str(error.value) and not device.armed
    assert watchdog.release(str(tmp_path / "missing")) == 0
    assert watchdog_program.main(["release"]) == watchdog_program.main([]) == 2
