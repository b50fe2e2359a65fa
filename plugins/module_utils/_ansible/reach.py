# SPDX-License-Identifier: GPL-3.0-or-later
"""Do members reach each other at their ports? Who needs which way, and what a connection there brings."""

from __future__ import annotations

import os
import socket
from concurrent import futures

from .layout.vms import of_host, port_of, seats

OPEN, REFUSED = "open", "refused"
AT_ONCE_MAX, WAYS_MAX = 32, 1024


def ways(vms, host, addresses, hosts):
    """[{host, address, port, vms}] that the members on ``host`` need. ``addresses``: host -> its address on the replication link.
    ``hosts``: those that can be tried. Raises ValueError."""
    out = {}
    for vm in of_host(vms, host):
        for name in dict.fromkeys(seats(vm).values()):
            if name == host or name not in hosts:
                continue
            if not addresses.get(name):
                raise ValueError(f"plover_replication_address of {name}: is missing; VM {vm['name']} needs it")
            way = {"host": name, "address": addresses[name], "port": port_of(vm), "vms": []}
            out.setdefault((name, way["port"]), way)["vms"].append(vm["name"])
    return list(out.values())


def answers(wanted, timeout_s):
    """ "address:port" -> OPEN, REFUSED or why there is no answer."""
    pairs = list(dict.fromkeys((way["address"], way["port"]) for way in wanted))[:WAYS_MAX]
    with futures.ThreadPoolExecutor(AT_ONCE_MAX) as pool:
        said = pool.map(lambda pair: _answer(*pair, timeout_s), pairs)
        return {f"{address}:{port}": answer for (address, port), answer in zip(pairs, said)}


def _answer(address, port, timeout_s):
    try:
        with socket.create_connection((address, port), timeout_s):
            return OPEN
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return f"nothing answers within {timeout_s:g} s"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)


def problems(wanted, found):
    """A line for each way on which nobody answers."""
    out = []
    for way in wanted:
        answer = found.get("{address}:{port}".format(**way), "not tried")
        if answer not in (OPEN, REFUSED):
            where = f"{way['host']} is not reached at {way['address']}, TCP port {way['port']}: {answer}"
            remedy = "let it through in the packet filters of both hosts and between them (docs/network.md), and see that it is up"
            out.append(f"{', '.join(way['vms'])}: {where}; {remedy}")
    return out
