# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest with KVM hands out: a tar file at the start of a disk that is larger."""

from __future__ import annotations

import io
import tarfile

from lab.kvm import machine


def test_reports_are_read_from_the_start_of_the_disk(tmp_path):
    disk, content = tmp_path / "out.tar", b"<testsuites/>"
    with tarfile.open(disk, "w") as tar:
        entry = tarfile.TarInfo("./main_job:each_step.xml")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    with open(disk, "ab") as file:
        file.truncate(1 << 20)
    assert machine._reports(disk) == {"main_job:each_step.xml": content}


def test_a_guest_that_wrote_nothing_left_no_report(tmp_path):
    disk = tmp_path / "out.tar"
    disk.write_bytes(bytes(1 << 20))
    assert machine._reports(disk) == {}
