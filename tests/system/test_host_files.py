# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that other programs of a host run or read: the TAP's script, in a network of its own; needrestart's, by Perl."""

from __future__ import annotations

import subprocess

import pytest

from lab.netns import alone
from lab.paths import ROOT

IFUP = ROOT / "roles/qemu/files/qemu-ifup"
NEEDRESTART = ROOT / "roles/runtime/files/host/needrestart.conf"
# As needrestart reads its conf.d, and then asks whether it may restart a unit (needrestart's own configuration file).
ASKS = """our %nrconf = (override_rc => {qr(^dbus) => 0});
eval do { local (@ARGV, $/) = $ARGV[0]; <> }; die $@ if $@;
my ($found) = grep { $ARGV[1] =~ /$_/ } keys %{$nrconf{override_rc}};
print defined $found ? $nrconf{override_rc}{$found} : "yes";"""


@pytest.mark.parametrize("mtu", [1400, 1500, 9000])
def test_a_tap_takes_the_bridges_mtu_and_does_not_lower_it(mtu):
    said = alone(
        "sh",
        "-ec",
        f"""mount -t sysfs sysfs /sys; ip link add eth0 mtu {mtu} type veth peer name far0 mtu {mtu}
ip link add br0 type bridge; ip link set eth0 master br0 up; ip link set br0 up
ip tuntap add tap0 mode tap
PLOVER_BRIDGE=br0 sh {IFUP} tap0
for name in eth0 br0 tap0; do ip -o link show $name | sed 's/.* mtu \\([0-9]*\\).*/\\1/'; done""",
        mounts=True,
    )
    assert said == [str(mtu)] * 3


@pytest.mark.parametrize(
    "unit, answer",
    [
        ("plover-qemu@shop.service", "0"),
        ("plover-replica@shop.service", "0"),
        ("plover-witness@shop.service", "0"),
        ("plover-exporter.service", "yes"),
        ("ssh.service", "yes"),
        ("dbus.service", "0"),
    ],
)
def test_needrestart_leaves_the_members_and_their_vms_alone(unit, answer):
    done = subprocess.run(["perl", "-we", ASKS, str(NEEDRESTART), unit], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, answer, "")
