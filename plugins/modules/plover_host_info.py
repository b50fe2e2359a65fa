#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt), which ansible-test wants in words
"""What a host can do for Plover, before anything is installed on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_host_info
short_description: What a host can do for Plover, before anything is installed on it
description:
  - Looks at kernel, CPU, KVM, memory, disks, network, RDMA devices, QEMU and clock, and changes nothing.
  - Tries dirty tracking on a page and KVM on a guest of ten bytes, as the existence of a device proves nothing.
  - Asks the kernel for nftables, which loads its module.
  - If a host cannot be reached or runs no Python, the task does not fail; RV(host.failure) says why.
  - Needs only Python's standard library, and C(ip) of iproute2.
author: The Plover developers (@plover)
version_added: 0.2.0
options:
  paths:
    description: Folders and files whose file systems are examined; they need not exist.
    type: list
    elements: path
    default: []
  replication_address:
    description: The host's address on the replication link. Returned unchanged, so that hosts can be compared.
    type: str
    default: ""
  qemu_binary:
    description: The QEMU that Plover would run.
    type: path
    default: /usr/bin/qemu-system-x86_64
  users:
    description: Names of users to look for.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Runs in check mode; it never changes anything.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
  platform:
    description: Linux on x86-64.
    support: full
    platforms: linux
seealso:
  - plugin: plover.vmft.plover_host_problems
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What can this host do?
  plover.vmft.plover_host_info:
    paths: [/opt, /var/lib]
  register: look

- name: Refuse a host without KVM
  ansible.builtin.assert:
    that: look.host.kvm_problem == ''
    fail_msg: "{{ look.host.kvm_problem }}"
"""

RETURN = r"""
host:
  description: What was seen.
  returned: always
  type: dict
  contains:
    failure:
      description: Why the host could not be examined, as a kind and a text. Nothing else is returned then.
      type: list
      elements: str
      returned: if the host could not be examined
    hostname: {description: The host's own name., type: str, returned: success}
    uid: {description: The user that the module ran as., type: int, returned: success}
    python: {description: Version of the Python that it ran with., type: str, returned: success}
    interpreter: {description: Its path., type: str, returned: success}
    machine: {description: The architecture., type: str, returned: success}
    kernel: {description: The kernel's release., type: str, returned: success}
    systemd: {description: Whether systemd runs., type: bool, returned: success}
    uffd_wp_problem: {description: "Why uffd-wp does not work; empty: it does.", type: str, returned: success}
    soft_dirty_problem: {description: "Why soft-dirty does not work; empty: it does.", type: str, returned: success}
    kvm_problem: {description: "Why KVM does not work; empty: a guest ran.", type: str, returned: success}
    nft_problem:
      description: "Why the VMs' frames cannot be filtered by nftables; empty: they can. A missing package is no reason."
      type: str
      returned: success
    apparmor_problem: {description: "Why QEMU cannot be confined by AppArmor; empty: it can.", type: str, returned: success}
    users: {description: Those of O(users) that the host has., type: list, elements: str, returned: success}
    cpu: {description: "C(vendor), C(model) and C(flags) of the CPU.", type: dict, returned: success}
    memory_mib: {description: The host's memory., type: int, returned: success}
    shm_mib: {description: Size of C(/dev/shm)., type: int, returned: success}
    qemu:
      description:
        - Path, C(version) and C(package) of the installed QEMU and its C(accelerators), C(machines), C(netdevs), C(objects).
          C(colo_loop), the dialect of its COLO loop, is C(enable-colo), C(return-path), C(none) or empty, if it did not answer.
          C(block_drivers), those of C(quorum) and C(replication) that it has and may use, is null if it did not answer.
          If none is installed, C(candidate), the version that the package manager would install.
      type: dict
      returned: success
    interfaces:
      description:
        - By name, C(addresses), C(mtu), C(up), C(kind) (bridge, card or other), C(master), C(default_route).
          C(forward_delay_s) of a bridge is how long its spanning tree keeps a new port listening, and then learning; 0 without one.
      type: dict
      returned: success
    bridge_filters:
      description:
        - Chains of the host's packet filter that drop frames of bridges which no rule accepts. C(sysctl) that leads the frames
          there, C(chain), C(accepts) (names of the bridges that some rule accepts, or C(*)).
      type: list
      elements: dict
      returned: success
    listening: {description: "By TCP port, C(pid) and C(command) of the listening process.", type: dict, returned: success}
    rdma_devices: {description: Names of the RDMA devices., type: list, elements: str, returned: success}
    certificates: {description: "By VM, the certificate of this host's member, as far as there is one.", type: dict, returned: success}
    accelerators: {description: "By VM that is deployed on this host, its C(guest_accel).", type: dict, returned: success}
    paths:
      description: By path, C(exists), C(free_mib), C(size_mib), C(free_inodes), C(read_only), C(device) of its file system.
      type: dict
      returned: success
    replication_address: {description: As given., type: str, returned: success}
    clock_s: {description: The host's time., type: float, returned: success}
    clock_offset_s: {description: How far its clock is ahead of the control machine's., type: float, returned: success}
    clock_error_s: {description: Largest error of that offset., type: float, returned: success}
    clock_synchronised: {description: "Whether NTP or the like disciplines its clock; none: unknown.", type: bool, returned: success}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible.host.look import facts  # noqa: E402


def main():
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "replication_address": {"type": "str", "default": ""},
            "qemu_binary": {"type": "path", "default": "/usr/bin/qemu-system-x86_64"},
            "users": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    seen = facts(module.params["paths"], module.params["qemu_binary"], module.params["users"])
    module.exit_json(changed=False, host={**seen, "replication_address": module.params["replication_address"]})


if __name__ == "__main__":
    main()
