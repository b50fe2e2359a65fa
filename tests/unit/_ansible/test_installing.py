# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads while apt installs packages on a host, and that this machine answers the question for it."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.plover.vmft.plugins.plugin_utils.installing import look, said

MIB = 1 << 20


@pytest.mark.parametrize(
    "out, words",
    [
        (b"0\n0 \n", "apt reads its package lists, or waits for another apt to end"),
        (b"%d\n0 \n" % (34 * MIB), "34 MiB fetched"),
        (b"%d\n0 unpacked qemu-utils:amd64\n" % (80 * MIB), "80 MiB fetched, 0 packages installed, qemu-utils is unpacked"),
        (b"100\n12 half-configured nftables\n", "12 packages installed, nftables is half-configured"),
    ],
)
def test_it_says_what_has_come_and_what_is_at_hand(out, words):
    assert said(out) == words


@pytest.mark.parametrize("out", [b"", b"x\n0\n", b"0\n", b"0\n\n", b"0\nx y\n", b"1\n2\n3\n", b"\xff\n\xff\n"])
def test_nonsense_is_shown_to_nobody(out):
    with pytest.raises(ValueError, match="."):
        said(out)


def test_the_question_is_one_that_a_shell_answers(tmp_path):
    """With a dpkg.log of its own; what was before the beginning does not count."""
    log = tmp_path / "dpkg.log"
    times = [
        subprocess.run(["date", "-d", f"{ago} seconds ago", "+%F %T"], capture_output=True, text=True, check=True).stdout.strip()
        for ago in (900, 20, 10, 5)
    ]
    lines = ["status installed old:amd64 1", "status installed libaio1:amd64 1", "configure x 1", "status unpacked qemu-utils:amd64 1"]
    log.write_text("".join(f"{when} {line}\n" for when, line in zip(times, lines)))
    (tmp_path / "new.deb").write_bytes(b"x" * 3 * MIB)
    command = look(60).replace("/var/log/dpkg.log", str(log)).replace("/var/cache/apt/archives", str(tmp_path))
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    assert said(done.stdout) == "3 MiB fetched, 1 packages installed, qemu-utils is unpacked"
