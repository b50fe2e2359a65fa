#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key and certificate of a VM's member, on its host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plover_certificate
short_description: Key and certificate of a VM's member
description:
  - Makes the member's key, which never leaves the host, and a request for a certificate; writes the certificate and what belongs to
    it into C(/etc/plover/NAME/tls). M(plover.vmft.plover_certificates) signs on the control machine, and role
    P(plover.vmft.secrets#role) calls both.
  - The daemons read these files for each new link, so nothing has to be restarted.
author: The Plover developers (@plover)
version_added: 1.0.0
options:
  name:
    description: The VM.
    type: str
    required: true
  state:
    description: V(requested) returns a request. V(present) writes the files, V(absent) removes them with the key.
    type: str
    choices: [requested, present, absent]
    default: present
  fresh_key:
    description: For O(state=requested), make a new key. It comes into force with its certificate.
    type: bool
    default: false
  certificate:
    description: The certificate. Its key must be here.
    type: str
    default: ""
  authorities:
    description: The certificates of the CAs that are trusted.
    type: str
    default: ""
  revoked:
    description: Serial numbers of certificates that are refused.
    type: list
    elements: str
    default: []
  mode:
    description: V(accept) takes links with and without TLS and dials without, V(dial) dials with TLS, V(only) takes nothing else.
    type: str
    choices: [accept, dial, only]
    default: only
attributes:
  check_mode:
    description: Reports what would change; makes no key, so RV(request) is empty.
    support: full
  diff_mode:
    description: Names the files.
    support: partial
    details: It does not show what is in them.
"""

EXAMPLES = r"""
- name: Make a key and a request
  plover.vmft.plover_certificate:
    name: demo
    state: requested
  register: made
"""

RETURN = r"""
request:
  description: The request (CSR), for O(state=requested).
  returned: success
  type: str
actions:
  description: What was done, one sentence each.
  returned: success
  type: list
  elements: str
"""

import os  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible import tls_files  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible.client import ClientError  # noqa: E402
from ansible_collections.plover.vmft.plugins.module_utils._ansible.member import check_name  # noqa: E402

SPEC = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["requested", "present", "absent"], "default": "present"},
    "fresh_key": {"type": "bool", "default": False, "no_log": False},
    "certificate": {"type": "str", "default": ""},
    "authorities": {"type": "str", "default": ""},
    "revoked": {"type": "list", "elements": "str", "default": []},
    "mode": {"type": "str", "choices": ["accept", "dial", "only"], "default": "only"},
}


def requested(files, module):
    if module.check_mode:
        return ["would make a request"], ""
    request = files.request(module.params["fresh_key"])
    return ["made a request"], request


def present(files, module):
    given = module.params
    if not given["certificate"] or not given["authorities"]:
        raise tls_files.TlsError("certificate and authorities are needed for state present")
    wanted = files.wanted(given["authorities"], given["certificate"], given["mode"], given["revoked"])
    differing = files.differing(wanted)
    if not module.check_mode:
        files.write(wanted)
    return [f"{'removed' if wanted[name] is None else 'wrote'} {files.folder}/{name}" for name in differing], ""


def absent(files, module):
    found = os.path.lexists(files.folder)
    if not module.check_mode:
        files.remove()
    return [f"removed {files.folder}"] if found else [], ""


def main():
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        check_name(module.params["name"])

        def openssl(words):
            program = module.get_bin_path("openssl")
            if program is None:
                raise tls_files.TlsError("openssl is missing on this host; install the package openssl")
            return module.run_command([program, *words])

        files = tls_files.TlsFiles(tls_files.FOLDER.format(module.params["name"]), openssl)
        state = {"requested": requested, "present": present, "absent": absent}[module.params["state"]]
        actions, request = state(files, module)
        module.exit_json(
            changed=bool(actions), actions=actions, request=request, diff={"before": "", "after": "".join(f"{a}\n" for a in actions)}
        )
    except (tls_files.TlsError, ClientError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
