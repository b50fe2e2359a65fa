# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the hosts of the VMs: the shell around module_utils/_ansible/layout/hosts.py."""

from __future__ import annotations

import os

from ansible_collections.plover.vmft.plugins.filter.plover_problems import plain, variables_of
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout import hosts as layout
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout import space, trust
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout.known import REPLICA_SEATS
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout.vms import of_host


def file_mib(path):
    """Disk space that a file on this machine takes."""
    try:
        return os.stat(os.path.expanduser(path)).st_blocks * 512 >> 20
    except OSError:
        return 0


def plover_host_problems(vms, looks, hostvars, limits):
    seen = {
        host: look.get("host") or {"failure": ["other", str(look.get("msg", "no result"))[:200]]} for host, look in plain(looks).items()
    }
    hosts = {host: variables_of(hostvars[host]) for host in seen}
    return layout.problems(plain(vms) or [], seen, hosts, plain(limits), file_mib)


def plover_host_paths(vms, host, limits):
    """The paths that plover_host_info has to look at on a host."""
    replicas, members = (of_host(plain(vms) or [], host, kinds) for kinds in (REPLICA_SEATS, None))
    return [*space.paths(replicas, plain(limits)), *trust.paths(members)]


class FilterModule:
    def filters(self):
        return {"plover_host_problems": plover_host_problems, "plover_host_paths": plover_host_paths}
