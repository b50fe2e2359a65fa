# SPDX-License-Identifier: GPL-3.0-or-later
"""FOLDER: put an archive into it that has the layout of MLNX_OFED's, and its SHA-256 beside it. Its installer only writes
down how it was called, and brings an `ofed_info` and an `openibd` of the same kind: it tests the role's logic, no more.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from pathlib import Path

VERSION, SYSTEM = "24.10-1.1.4.0", "debian12.5"
INSTALLER = f"""#!/bin/sh
# Called from its own folder, as the real one must be.
set -e
[ -d DEBS ] && [ "$(cat distro)" = {SYSTEM} ]
echo "$*" >>/var/log/standin-installed
printf '#!/bin/sh\\necho MLNX_OFED_LINUX-{VERSION}:\\n' >/usr/bin/ofed_info
printf '#!/bin/sh\\necho "$1" >>/var/log/standin-openibd\\n' >/etc/init.d/openibd
chmod 755 /usr/bin/ofed_info /etc/init.d/openibd
"""


def build(folder: Path, version: str = VERSION, system: str = SYSTEM) -> tuple[Path, str]:
    """(the archive, its SHA-256); the same bytes each time."""
    name = f"MLNX_OFED_LINUX-{version}-{system}-x86_64"
    files = {
        ".mlnx": f"MLNX_OFED_LINUX-{version} (OFED-{version.rpartition('.')[0]}):\n",
        "distro": f"{system}\n",
        "arch": "x86_64\n",
        "mlnxofedinstall": INSTALLER,
        "DEBS/standin_1_all.deb": "not a package\n",
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(f"{name}/{path}")
            info.size, info.mode = len(text), 0o755 if path == "mlnxofedinstall" else 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    path = folder / f"{name}.tgz"
    path.write_bytes(out.getvalue())
    return path, hashlib.sha256(out.getvalue()).hexdigest()


if __name__ == "__main__":
    archive, digest = build(Path(sys.argv[1]))
    (Path(sys.argv[1]) / "mlnx.sha256").write_text(digest + "\n")
