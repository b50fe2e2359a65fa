# SPDX-License-Identifier: GPL-3.0-or-later
"""ploverctl's command line."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .. import __version__
from ..config.settings import SETTINGS, check_value


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="ploverctl", description="Query and control Plover on this host.")
    out.add_argument("--vm", metavar="NAME", help="the VM (default: the only one on this host)")
    out.add_argument("--version", action="version", version=f"ploverctl {__version__}")
    commands = out.add_subparsers(dest="command", required=True)
    for name, text in (
        ("status", "what this member is doing, and why"),
        ("switchover", "hand the VM over to the secondary (run on the leader)"),
        ("audit", "compare all guest memory of both hosts (run on the leader)"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("-o", choices=("text", "json"), default="text", dest="format")
        if name == "status":
            command.add_argument("--watch", action="store_true", help="keep running, and print a line after each change")
        if name == "audit":
            command.add_argument(
                "--disks", action="store_true", help="compare the disk images, too, block by block; the VM stands still meanwhile"
            )
    past = commands.add_parser("history", help="leaders, modes and their reasons over time, as this host saw them")
    past.add_argument("-o", choices=("text", "json"), default="text", dest="format")
    past.add_argument("-n", type=int, default=50, metavar="COUNT", dest="count", help="show the last COUNT lines (default 50)")
    over = commands.add_parser("failover", help="lead from this host although no quorum is left (needs --force)")
    over.add_argument("--force", action="store_true", help="the other members are gone for good; shows the price first")
    over.add_argument("--yes", action="store_true", help="I have read the price and accept it")
    over.set_defaults(format="text")
    rdma = commands.add_parser("rdma", help="'rdma check': which device 'transport: rdma' would use here, and whether it works")
    rdma.add_argument("what", choices=("check",))
    rdma.add_argument("--address", help="this host's replication address (default: from the VM's settings)")
    rdma.add_argument(
        "--settings",
        type=rdma_settings,
        default={},
        metavar="JSON",
        help='with --address: settings rdma_* in place of the defaults, e.g. {"rdma_device": "mlx5_0"}',
    )
    rdma.add_argument("-o", choices=("text", "json"), default="text", dest="format")
    cold = commands.add_parser("cold-start", help="boot the VM afresh after its state was lost on all hosts")
    cold.add_argument("--force", action="store_true", help="even if this host's disk is torn or older; shows the price first")
    cold.add_argument("--yes", action="store_true", help="I accept that the VM's memory is lost")
    cold.set_defaults(format="text")
    return out


def rdma_settings(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is not JSON ({error})") from error
    if not isinstance(values, dict) or any(not key.startswith("rdma_") or key not in SETTINGS for key in values):
        raise argparse.ArgumentTypeError("must be an object of settings rdma_*")
    problems = [problem for key, value in values.items() for problem in check_value(key, value)]
    if problems:
        raise argparse.ArgumentTypeError("; ".join(problems))
    return values
