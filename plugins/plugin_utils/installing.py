# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads while apt installs packages on a host. Pure."""

from __future__ import annotations

MIB = 1 << 20
# Prints the bytes of the packages fetched since then; how many have been installed; what dpkg did last.
LOOK = """\
since=$(date -d "-%d seconds" "+%%F %%T")
find /var/cache/apt/archives -type f -name "*.deb" -newerct "$since" -printf "%%s\\n" 2>/dev/null | awk '{sum += $1} END {print sum + 0}'
tail -n 5000 /var/log/dpkg.log 2>/dev/null | awk -v since="$since" '
  $1 " " $2 >= since && $3 == "status" {last = $4 " " $5; done += $4 == "installed"} END {print done + 0, last}'
"""


def look(seconds):
    """The command for a host where apt began so long ago."""
    return LOOK % (int(seconds) + 1)


def said(out):
    """What its output means. Raises ValueError if it makes no sense."""
    lines = out.decode("utf-8", "replace").splitlines()
    if len(lines) != 2:
        raise ValueError(f"{len(lines)} lines")
    fetched, (installed, *last) = int(lines[0]), lines[1].split()
    parts = [f"{fetched // MIB} MiB fetched"] if fetched >= MIB else []
    if last:
        parts.append(f"{int(installed)} packages installed, {last[-1].split(':')[0]} is {last[0]}")
    return ", ".join(parts) or "apt reads its package lists, or waits for another apt to end"
