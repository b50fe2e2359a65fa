# SPDX-License-Identifier: GPL-3.0-or-later
"""ploverctl's command line."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .. import __version__
from ..config.settings import SETTINGS, check_value


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="ploverctl", description="Ask and steer Plover on this host.")
    out.add_argument("--vm", metavar="NAME", help="the VM (default: the only one of this host)")
    out.add_argument("--version", action="version", version=f"ploverctl {__version__}")
    commands = out.add_subparsers(dest="command", required=True)
    for name, text in (
        ("status", "what this member is doing, and why"),
        ("switchover", "let the secondary take over (on the leader)"),
        ("audit", "compare all guest memory of both hosts (on the leader)"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("-o", choices=("text", "json"), default="text", dest="format")
        if name == "status":
            command.add_argument("--watch", action="store_true", help="go on, with a line whenever there is news")
        if name == "audit":
            command.add_argument(
                "--disks", action="store_true", help="the disks' images too, block by block; the VM stands still meanwhile"
            )
    past = commands.add_parser("history", help="who led when and why, and when the VM was protected, as this host saw it")
    past.add_argument("-o", choices=("text", "json"), default="text", dest="format")
    past.add_argument("-n", type=int, default=50, metavar="COUNT", dest="count", help="the last COUNT lines (default 50)")
    over = commands.add_parser("failover", help="lead here although no quorum is left (needs --force)")
    over.add_argument("--force", action="store_true", help="the other members are gone for good; tells the price first")
    over.add_argument("--yes", action="store_true", help="I have read the price and accept it")
    over.set_defaults(format="text")
    rdma = commands.add_parser("rdma", help="'rdma check': what 'transport: rdma' would use here, and does it work")
    rdma.add_argument("what", choices=("check",))
    rdma.add_argument("--address", help="this host's replication address (default: as the VM's settings say)")
    rdma.add_argument(
        "--settings",
        type=rdma_settings,
        default={},
        metavar="JSON",
        help='with --address: settings rdma_*, as {"rdma_device": "mlx5_0"}, in place of the defaults',
    )
    rdma.add_argument("-o", choices=("text", "json"), default="text", dest="format")
    cold = commands.add_parser("cold-start", help="boot the VM afresh after its state was lost on all hosts")
    cold.add_argument("--force", action="store_true", help="although this host's disk is torn or older; tells the price")
    cold.add_argument("--yes", action="store_true", help="I know that the VM's memory is lost")
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
