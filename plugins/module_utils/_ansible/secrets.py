# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret files of a VM's three members, round by round, so that no link is refused in between. Pure.

A file holds one secret per line. A member proves itself with the first and accepts each of them; the line C(open) admits members
without a secret (see C(links/auth.py)).
"""

from __future__ import annotations

import secrets

OPEN = "open"
HEAD = "# Ansible managed. The first secret proves who we are, each is accepted; rotate_secrets.yml changes them."
SECRET_BYTES = 32
ROUNDS = 3


def lines_of(text):
    """The lines of a file without comments: secrets, and perhaps C(open)."""
    return [line.strip() for line in (text or "").splitlines() if line.strip() and not line.startswith("#")]


def text_of(lines):
    return "\n".join([HEAD, *lines]) + "\n"


def rounds(found, given="", fresh=False, proven=False, rotate=False, new=lambda: secrets.token_hex(SECRET_BYTES)):
    """Each member's file, round by round. All members need their file of one round before the next begins. The last file stays.

    C(found): each member's current file, empty if there is none. C(given): the secret in the inventory. C(fresh): the VM was
    never deployed. C(proven): every member has proved itself to every other. C(rotate): make a new secret.
    """
    lines = [lines_of(text) for text in found]
    known = list(dict.fromkeys(line for one in lines for line in one if line != OPEN))
    wanted = given or (new() if rotate or not known else known[0])
    everyone = list(dict.fromkeys([wanted, *known]))
    # Nobody had a secret, but the VM runs: a member that is not restarted yet proves nothing, and must not be locked out.
    was_open = any(OPEN in one for one in lines) or (not known and not fresh)
    is_open, stays_open = ([OPEN] if flag else [] for flag in (was_open, was_open and not proven))
    last = [text_of([wanted, *stays_open])] * len(found)
    if all(one in ([], [wanted], [wanted, OPEN]) for one in lines):
        return [last] * ROUNDS
    # First each member proves itself with its old secret, which the others know, and accepts every secret.
    accepting = [text_of(list(dict.fromkeys([*(line for line in one if line != OPEN), *known, wanted])) + is_open) for one in lines]
    return [accepting, [text_of(everyone + is_open)] * len(found), last]


def looked(output):
    """The output of C(look.sh) on a host, parsed: the file's text, and the marks before it."""
    lines = (output or "").splitlines()
    marks = {line[1:] for line in lines if line.startswith("%")}
    return {
        "text": "\n".join(line for line in lines if not line.startswith("%")),
        "deployed": "deployed" in marks,
        "proven": "proven" in marks,
    }


def plan(vms, looks, rotate=False):
    """VM name -> host -> its file in each round. C(looks): host -> VM name -> the output of C(look.sh)."""
    out = {}
    for vm in vms:
        hosts = [vm[seat] for seat in ("primary", "secondary", "witness")]
        members = [looked(looks.get(host, {}).get(vm["name"])) for host in hosts]
        texts = rounds(
            [member["text"] for member in members],
            vm.get("secret") or "",
            fresh=not any(member["deployed"] for member in members),
            proven=all(member["proven"] for member in members),
            rotate=rotate,
        )
        out[vm["name"]] = {host: [list(one)[at] for one in texts] for at, host in enumerate(hosts)}
    return out
