#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cloud-init seed of a VM, on a replica's host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_seed
short_description: The cloud-init seed of a protected VM
description:
  - Writes the image that cloud-init's data source NoCloud reads, an ISO 9660 image labelled C(cidata). The same options give the same
    bytes, on every host and at each run.
  - The file is root's alone. Its content is never shown.
author: The Plover developers (@plover)
version_added: 1.0.0
options:
  path:
    description: The image's place. Its folder must exist.
    type: path
    required: true
  user_data:
    description: A text, such as one that begins with C(#cloud-config), or a mapping, which becomes one.
    type: raw
    required: true
  meta_data:
    description: A text or a mapping.
    type: raw
  network_config:
    description: A text or a mapping, version 1 or 2.
    type: raw
  instance_id:
    description: The C(instance-id) if O(meta_data) is a mapping that has none, or is missing.
    type: str
    required: true
attributes:
  check_mode:
    description: Reports whether the image would change.
    support: full
  diff_mode:
    description: Shows nothing, as there may be passwords in it.
    support: none
"""

EXAMPLES = r"""
- name: Make the seed
  plover.vmft.plover_seed:
    path: /var/lib/plover/images/demo/seed
    instance_id: 6f9619ff-8b86-4d01-b42d-00cf4fc964ff
    user_data: {ssh_authorized_keys: [ssh-ed25519 AAAA]}
"""

RETURN = r"""
sha256:
  description: Of the image.
  returned: success
  type: str
"""

import hashlib  # noqa: E402
import os  # noqa: E402
import stat  # noqa: E402
import tempfile  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible import nocloud  # noqa: E402

MODE = 0o600


def is_there(path, image):
    """Whether the file is this image, and root's alone."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            return file.read(len(image) + 1) == image and (stat.S_IMODE(found.st_mode), found.st_uid) == (MODE, os.geteuid())
    except FileNotFoundError:
        return False


def write(path, image):
    """Under another name first, so that half an image is never in place. A running QEMU keeps the file that it has open."""
    handle, new = tempfile.mkstemp(prefix=".plover-new-", dir=os.path.dirname(path))  # its mode is 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except OSError:
        os.unlink(new)
        raise


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "user_data": {"type": "raw", "required": True, "no_log": True},
            "meta_data": {"type": "raw"},
            "network_config": {"type": "raw", "no_log": True},
            "instance_id": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    files = nocloud.files_of(given["user_data"], given["meta_data"], given["network_config"], given["instance_id"])
    image = nocloud.seed(files)
    try:
        changed = not is_there(given["path"], image)
        if changed and not module.check_mode:
            write(given["path"], image)
    except OSError as error:
        module.fail_json(msg=f"{given['path']}: cannot be written: {error.strerror}")
    module.exit_json(changed=changed, sha256=hashlib.sha256(image).hexdigest())


if __name__ == "__main__":
    main()
