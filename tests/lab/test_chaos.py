# SPDX-License-Identifier: GPL-3.0-or-later
"""`make chaos`, trimmed: the most telling faults once each, on hosts that are brought up once. All of it: make chaos."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from lab.chaos import result, runner, voices
from lab.hosts import down, ip, sh
from lab.paths import ROOT

CELLS = [
    ("power-loss", "leader"),
    ("freeze", "leader"),
    ("stop-daemon", "leader"),
    ("kill-daemon", "leader"),
    ("kill-qemu", "leader"),
    ("mute", "leader"),
    ("isolate", "secondary"),
    ("disk-full", "leader"),
    ("power-loss", "witness"),
    ("two-at-once", "secondary"),
]
OUTAGE_MS_MAX = 20_000  # two-at-once stops the service until hosts are back; far above what any of them takes


MAC, SNIFFED = "52:54:00:70:6c:01", "plover-sniffed"
SPEAK = (
    "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0))\n"
    "for _ in range(int(sys.argv[3])): s.send(b'\\xff' * 6 + bytes.fromhex(sys.argv[2].replace(':', '')) + bytes(50))"
)


@pytest.fixture
def wires():
    """Two hosts' wires, svc-left and svc-right, their other ends left and right, in one namespace without a bridge."""
    sh("ip", "netns", "add", SNIFFED)
    try:
        for host in ("left", "right"):
            ip(SNIFFED, f"link add svc-{host} type veth peer name {host}")
            ip(SNIFFED, f"link set svc-{host} up")
            ip(SNIFFED, f"link set {host} up")
        yield
    finally:
        sh("ip", "netns", "del", SNIFFED)


def test_the_sniffer_hears_the_vm_s_frames_from_hosts_and_no_other(wires, tmp_path):
    def speak(card: str, mac: str, count: int) -> None:
        sh("ip", "netns", "exec", SNIFFED, sys.executable, "-c", SPEAK, card, mac, str(count))

    sniffer = subprocess.Popen(
        ["ip", "netns", "exec", SNIFFED, sys.executable, "-m", "lab.chaos.voices", "--mac", MAC, "--out", str(tmp_path / "out.json")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sniffer.stdout.readline() == "ready\n"
    speak("left", MAC, 3)
    speak("right", MAC, 2)
    speak("right", "52:54:00:70:6c:02", 5)
    speak("svc-left", MAC, 5)  # towards the host: not its voice
    sniffer.send_signal(signal.SIGTERM)
    assert sniffer.wait(10) == 0
    frames, dropped = voices.load(tmp_path / "out.json")
    assert ([f.host for f in frames], dropped) == (["left"] * 3 + ["right"] * 2, 0)
    assert all(frames[n].at < frames[n + 1].at for n in range(4))
    assert len(voices.violations(frames, [voices.Term(1, "left", 0.0)])) == 2


@pytest.fixture(scope="module")
def rounds():
    try:
        yield list(runner.play(len(CELLS), 1, CELLS))
    finally:
        assert down() == []


@pytest.mark.parametrize("cell", CELLS, ids="/".join)
def test_a_real_fault_loses_nothing_lets_one_speak_and_ends_protected(rounds, cell):
    [done] = [r for r in rounds if (r.fault, r.role) == cell]
    assert (done.lost, done.violations, done.protected) == ([], [], True), done.details
    assert done.details["acked"] > 100 and sum(done.details["frames"].values()) > 100
    assert done.details["audit"] == {"mismatching": 0, "untracked": 0, "pages": 65_536}
    assert 0 < done.outage_ms < OUTAGE_MS_MAX


def test_a_dead_leader_was_followed_by_another_and_both_were_heard_on_the_wire(rounds):
    [done] = [r for r in rounds if (r.fault, r.role) == ("power-loss", "leader")]
    assert set(done.details["frames"]) == {"primary", "secondary"}
    assert [host for _, host in done.details["views"]] != []


def test_the_result_counts_every_round_once(rounds):
    out = result.summary(rounds)
    assert (out["rounds"], out["lost"], out["violations"], out["unprotected_at_end"]) == (len(CELLS), 0, 0, 0)
    assert set(out["faults"]) == {"/".join(cell) for cell in CELLS}
