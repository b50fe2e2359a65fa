# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs the certificate of a host's exporter on the control machine; see modules/plover_exporter_certificate.py."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.plover.vmft.plugins.filter.plover_problems import plain
from ansible_collections.plover.vmft.plugins.plugin_utils import certificates
from ansible_collections.plover.vmft.plugins.plugin_utils.authority import Authority

EXPECTED = (ValueError, KeyError, TypeError, AttributeError, OSError)


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        try:
            now = datetime.datetime.now(datetime.timezone.utc)
            result.update(signed(plain(self._task.args), now, self._task.check_mode))
        except EXPECTED as error:
            raise AnsibleActionFail(str(error) if isinstance(error, (ValueError, OSError)) else repr(error)) from error
        return result


def signed(given, now, check_mode=False):
    uri = certificates.uri_of(given["cluster_id"], given["host"]).replace("plover:", "plover-exporter:", 1)
    folder = Path(os.path.expanduser(given["folder"])) / given["cluster_id"]
    own = Authority.load(folder)
    if own is None:
        raise ValueError(
            f"secrets_ca_dir: there is no CA in {folder}; deploy with link_security: tls from this machine first, or set monitoring_tls: "
            "own and bring certificates of your own"
        )
    days, renew_days, hosts = int(given.get("days", 825)), int(given.get("renew_days", 90)), tuple(given["names"])
    found = certificates.read(given.get("certificate") or "")
    why = _why(found, own, uri, hosts, now, renew_days)
    request = given.get("request")
    if why and request and not check_mode:
        found = own.sign(request, uri, now, days, hosts)
        own.save()
    text = found.text if found and (request or not why) else ""
    return {"changed": bool(why and request), "why": why, "certificate": text, "authority": own.certificate.text}


def _why(found, own, uri, hosts, now, renew_days):
    """Why a new certificate is needed; empty if it is not."""
    if found is None:
        return "it has none"
    if not found.signed_by(own.certificate) or found.serial in own.revoked():
        return "it is not from the present CA, or was revoked"
    if found.names != (uri,) or certificates.hosts_of(found.parsed) != set(hosts):
        return "its names have changed"
    return f"it ends in {found.days_left(now)} days" if found.days_left(now) < renew_days else ""
