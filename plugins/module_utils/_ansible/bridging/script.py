# SPDX-License-Identifier: GPL-3.0-or-later
"""plover-bridge VERB: run, undo, confirm or wait for a change of a BRIDGE; up: make the bridges of bridges.d."""

from __future__ import annotations

import argparse
import glob
import sys

from . import armed, host, own
from .model import Refusal


def main(words=None):
    parser = argparse.ArgumentParser(prog="plover-bridge", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("run", "undo", "confirm"):
        verbs.add_parser(verb).add_argument("bridge")
    wait = verbs.add_parser("wait", help="for the change's result; status 1 if it is a bad one")
    wait.add_argument("bridge")
    wait.add_argument("limit_s", type=float)
    for verb in ("up", "undo-at-boot"):
        verbs.add_parser(verb)
    options = parser.parse_args(words)
    try:
        return _do(options)
    except (host.HostError, Refusal) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _do(options):
    if options.verb == "run":
        armed.run(options.bridge)
    elif options.verb == "undo":
        armed.undo(options.bridge)
    elif options.verb == "confirm":
        armed.confirm(options.bridge)
    elif options.verb == "undo-at-boot":
        armed.undo_at_boot()
    elif options.verb == "wait":
        result = armed.wait(options.bridge, options.limit_s)
        sys.stdout.write(result["said"] + "\n")
        return 0 if result["ok"] else 1
    else:
        for path in sorted(glob.glob(own.FOLDER + "*.json")):
            host.up(host.read(path))
    return 0
