# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU time of a request in `make bench-services`, by host and process, and what this machine could serve at best. Pure."""

from __future__ import annotations

from typing import Any

from .report import middle

Run = dict[str, Any]


def per_request(cpu_s: dict[str, float], client_s: float, requests: int) -> Run:
    """Microseconds of each request: all hosts together, the clients, and each process that has any."""
    parts = {who: round(1e6 * seconds / requests, 1) for who, seconds in cpu_s.items() if seconds}
    return {
        "cpu_us_per_request": round(1e6 * sum(cpu_s.values()) / requests, 1),
        "client_cpu_us_per_request": round(1e6 * client_s / requests, 1),
        "cpu_us_per_request_of": parts,
    }


def limit_per_s(runs: list[Run], cores: int, **labels: Any) -> float | None:
    """Requests/s if protection were free: two VMs and the clients at their unprotected cost, on all cores. None: not measured."""
    vm, clients = (middle(runs, key, mode="unprotected", **labels) for key in ("cpu_us_per_request", "client_cpu_us_per_request"))
    return None if vm is None or clients is None else 1e6 * cores / (2 * vm + clients)


def table(runs: list[Run], cores: int) -> list[str]:
    """The last round of each case and system, and this machine's limit."""
    last = {(run["workload"], run["vcpus"], run["mbit_per_s"], run["mode"]): run for run in runs if "cpu_us_per_request_of" in run}
    out = ["", "CPU of a request in microseconds (last round); limit: two VMs and the clients at their unprotected cost, on all cores"]
    for (workload, vcpus, mbit_per_s, mode), run in sorted(last.items()):
        limit = limit_per_s(runs, cores, workload=workload, vcpus=vcpus, mbit_per_s=mbit_per_s)
        reached = f"{100 * run['requests_per_s'] / limit:4.0f} % of {limit:,.0f}/s" if limit else ""
        parts = ", ".join(f"{who} {us:,.0f}" for who, us in run["cpu_us_per_request_of"].items())
        out.append(
            f"{vcpus} vCPU {mbit_per_s / 1000:4g} Gbit/s {workload:16} {mode:12} {parts}, clients "
            f"{run['client_cpu_us_per_request']:,.0f}  {reached}"
        )
    return out
