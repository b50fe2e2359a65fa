# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the kernel has what the filter of the VMs' frames needs. With ``nft`` the kernel judges a chain like the filter's and
keeps nothing of it; without, it is asked whether it has nftables at all. Linux include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess

PATHS = "/usr/sbin:/sbin:/usr/bin"
TRIAL = (
    'add table netdev plover_trial; add chain netdev plover_trial x { type filter hook ingress device "lo" priority 0; }; '
    "add rule netdev plover_trial x ether saddr 02:00:00:00:00:01 icmpv6 type nd-redirect drop"
)
TIMEOUT_S = 10.0
NETLINK_NETFILTER, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN = 12, 10, 16
NLM_F_REQUEST, NLMSG_ERROR = 1, 2
HEADER, GENERIC = struct.Struct("=IHHII"), struct.Struct("=BBH")


def why_not():
    """Why not; empty if the VMs' frames can be filtered here."""
    nft = shutil.which("nft", path=PATHS)
    try:
        return _judged(nft) if nft else _asked()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the kernel says: {getattr(error, 'strerror', None) or error}"


def _judged(nft):
    done = subprocess.run(
        [nft, "-c", TRIAL], capture_output=True, text=True, check=False, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, errors="replace"
    )
    return f"nft says: {(done.stderr.splitlines() or ['nothing'])[0][:200]}" if done.returncode else ""


def _asked():
    """Raises OSError if the kernel knows no such request. To ask for it loads the module."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.bind((0, 0))
        kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN
        sock.send(HEADER.pack(HEADER.size + GENERIC.size, kind, NLM_F_REQUEST, 1, 0) + GENERIC.pack(0, 0, 0))
        said = sock.recv(4096)
    _length, kind, _flags, _number, _port = HEADER.unpack_from(said)
    number = -struct.unpack_from("=i", said, HEADER.size)[0] if kind == NLMSG_ERROR else 0
    return f"the kernel says: {os.strerror(number)}" if number else ""
