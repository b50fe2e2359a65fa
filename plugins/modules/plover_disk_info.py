#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt), which ansible-test wants in words
"""The disk images of a host's VMs, and whether their overlays fit into its memory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_disk_info
short_description: Images of protected VMs on this host
description:
  - Looks at image files and block devices without changing anything.
  - Needs no QEMU, so it can run before QEMU is installed.
author: The Plover developers (@plover)
version_added: 0.1.0
options:
  images:
    description: The images.
    type: list
    elements: dict
    required: true
    suboptions:
      vm:
        description: Name of the VM. Its own QEMU may use the image.
        type: str
        required: true
      path:
        description: Path of the image on this host.
        type: str
        required: true
      format:
        description: Its format.
        type: str
        choices: [raw, qcow2]
        default: raw
  overlay_dir:
    description: Where the overlays' tmpfs is, or will be, mounted.
    type: path
    default: /run/plover-disks
attributes:
  check_mode:
    description: Runs in check mode; it never changes anything.
    support: full
"""

EXAMPLES = r"""
- name: Is the image there?
  plover.vmft.plover_disk_info:
    images: [{vm: demo, path: /var/lib/plover-images/demo.img}]
  register: look
"""

RETURN = r"""
images:
  description: By path, C(exists), C(length) in bytes as the guest sees it, C(problem) (a sentence or empty), and C(user),
    a process other than the VM's own QEMU that has it locked.
  returned: success
  type: dict
deployed:
  description: By VM, whether it was ever deployed here.
  returned: success
  type: dict
free_mib:
  description: Memory for guests and overlays, including what they use already.
  returned: success
  type: int
overlay_used_mib:
  description: Memory that the overlays use now.
  returned: success
  type: int
"""

import fcntl  # noqa: E402
import glob  # noqa: E402
import os  # noqa: E402
import stat  # noqa: E402
import struct  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils.plover.config.image_kinds import HEAD_BYTES, misfit  # noqa: E402

SECTOR_BYTES = 512
QCOW2_MAGIC = b"QFI\xfb"
QCOW2_LENGTH_AT = 24
# QEMU's lock bytes (its block/file-posix.c). 100 + n: permission n is in use. 200 + n: n is denied to others. n = 1: writing.
LOCK_BYTES = (101, 201)
F_OFD_GETLK = 36
FLOCK = "hhqqi4x"
STATE_DIR = "/var/lib/plover"
RAM_FILES = "/dev/shm/plover/*.ram"


def length_of(path, kind, fresh):
    """The image's length as the guest sees it, in bytes. Raises ValueError with the reason. ``fresh``: no VM of ours has run from it."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise ValueError("is neither a file nor a block device")
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        length = file.seek(0, os.SEEK_END)
        file.seek(max(length - HEAD_BYTES, 0))
        wrong = misfit(kind, head, file.read(HEAD_BYTES)) if fresh else ""
    if wrong:
        raise ValueError(wrong)
    if kind == "qcow2":
        if not head.startswith(QCOW2_MAGIC) or len(head) < QCOW2_LENGTH_AT + 8:
            raise ValueError("is no qcow2 image; correct the disk's format")
        length = int.from_bytes(head[QCOW2_LENGTH_AT : QCOW2_LENGTH_AT + 8], "big")
    if not length or length % SECTOR_BYTES:
        raise ValueError(f"has {length} bytes, which is no whole number of {SECTOR_BYTES}-byte sectors; lengthen it with truncate")
    return length


def writers(path):
    """Processes of this host that have ``path`` open for writing."""
    wanted, out = os.stat(path), set()
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            found = os.stat(link)
            if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
                continue
            with open(link.replace("/fd/", "/fdinfo/"), encoding="ascii") as file:
                flags = next(line.split()[1] for line in file if line.startswith("flags:"))
        except (OSError, StopIteration):
            continue  # it ended meanwhile
        if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
            out.add(int(link.split("/")[2]))
    return out


def name_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return f"process {pid} ({file.read(60).replace(bytes(1), b' ').decode(errors='replace').strip()})"
    except OSError:
        return f"process {pid}"


def is_locked(path):
    """Whether QEMU or one of its tools writes to ``path``, or denies writing to others. C(qemu-img info) does not tell: it
    succeeds on a raw image in use."""
    with open(path, "rb") as file:
        for byte in LOCK_BYTES:
            asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
            if struct.unpack(FLOCK, fcntl.fcntl(file, F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK:
                return True
    return False


def user_of(module, vm, path):
    """The process that has the image locked, other than the VM's own QEMU; empty if there is none."""
    if not is_locked(path):
        return ""
    own = module.run_command(["systemctl", "show", "-P", "MainPID", f"plover-qemu@{vm}.service"])[1].strip()
    found = writers(path)
    others = sorted(found - {int(own or 0)})
    return ", ".join(name_of(pid) for pid in others) if others or found else "a process that cannot be seen from here"


def is_deployed(vm):
    return os.path.exists(f"{STATE_DIR}/{vm}")


def look(module, image):
    out = {"exists": os.path.lexists(image["path"]), "length": 0, "problem": "", "user": ""}
    if out["exists"]:
        try:
            out["length"] = length_of(image["path"], image["format"], not is_deployed(image["vm"]))
            out["user"] = user_of(module, image["vm"], image["path"])
        except (OSError, ValueError) as error:
            out["problem"] = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
    return out


def used_bytes(folder):
    """Bytes used in the tmpfs at ``folder``; 0 if there is none yet."""
    if not os.path.ismount(folder):
        return 0
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def free_bytes(overlays):
    """Available memory plus what our own guests and overlays use."""
    with open("/proc/meminfo", encoding="ascii") as file:
        available = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:")) << 10
    return available + overlays + sum(os.stat(path).st_blocks * 512 for path in glob.glob(RAM_FILES))


def main():
    image = {
        "vm": {"type": "str", "required": True},
        "path": {"type": "str", "required": True},
        "format": {"type": "str", "choices": ["raw", "qcow2"], "default": "raw"},
    }
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "dict", "required": True, "options": image},
            "overlay_dir": {"type": "path", "default": "/run/plover-disks"},
        },
        supports_check_mode=True,
    )
    images, overlays = module.params["images"], used_bytes(module.params["overlay_dir"])
    module.exit_json(
        changed=False,
        images={image["path"]: look(module, image) for image in images},
        deployed={image["vm"]: is_deployed(image["vm"]) for image in images},
        free_mib=free_bytes(overlays) >> 20,
        overlay_used_mib=-(-overlays >> 20),
    )


if __name__ == "__main__":
    main()
