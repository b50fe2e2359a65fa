# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs the certificates of the VMs' members on the control machine; see modules/plover_certificates.py."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.plover.vmft.plugins.filter.plover_problems import plain
from ansible_collections.plover.vmft.plugins.plugin_utils import authority, link_files

EXPECTED = (ValueError, KeyError, TypeError, AttributeError, OSError)
DAYS_MAX = 1825


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        given = plain(self._task.args)
        try:
            folder = Path(os.path.expanduser(given["folder"]))
            if not folder.is_absolute():
                raise ValueError(f"secrets_ca_dir: {folder} must be a whole path, beginning with / or ~")
            if given.get("state", "present") == "absent":
                result.update(_remove(folder, given["vms"], self._task.check_mode))
            else:
                result.update(_sign(folder, given, self._task.check_mode))
        except EXPECTED as error:
            raise AnsibleActionFail(str(error) if isinstance(error, (ValueError, OSError)) else repr(error)) from error
        return result


def _remove(folder, vms, check_mode):
    gone = [vm["cluster_id"] for vm in vms if (folder / vm["cluster_id"]).is_dir()]
    if not check_mode:
        gone = [name for name in gone if authority.remove(folder / name)]
    return {"changed": bool(gone), "actions": [f"removed the CA {folder / name}" for name in gone]}


def _sign(folder, given, check_mode):
    wanted = _wanted(given)
    needs, files, differs, serials, actions = {}, {}, {}, {}, []
    for vm in given["vms"]:
        group = _group(folder, vm, given.get("looks") or {}, wanted)
        needs[vm["name"]] = group.needs()
        requests = {host: of[vm["name"]] for host, of in (given.get("requests") or {}).items() if of.get(vm["name"])}
        if set(needs[vm["name"]]) <= set(requests):
            mine, before = folder / vm["cluster_id"], group.own
            rounds = group.rounds(requests, lambda vm=vm, mine=mine: authority.Authority.make(mine, vm["cluster_id"], wanted.now))
            if needs[vm["name"]] and not check_mode:
                group.own.save()
            actions += [f"made a CA for {vm['name']} in {mine}"] if group.own is not before else []
            actions += [f"signed the certificate of {vm['name']} on {member}" for member in needs[vm["name"]]]
            files[vm["name"]] = rounds
            serials[vm["name"]] = link_files.serials(rounds)
            differs[vm["name"]] = link_files.changes(rounds, group.found)
    return {
        "changed": bool(actions),
        "actions": actions,
        "needs": {name: {member: {"key": key, "why": why} for member, (key, why) in of.items()} for name, of in needs.items()},
        "reasons": [f"{name} on {member}: {why}; it gets a new one" for name, of in needs.items() for member, (_key, why) in of.items()],
        "rounds": files,
        "differs": differs,
        "serials": serials,
    }


def _wanted(given):
    days, renew_days = int(given.get("days", 825)), int(given.get("renew_days", 90))
    if not 1 <= renew_days < days <= DAYS_MAX:
        raise ValueError(
            f"secrets_certificate_days: {days} must be at most {DAYS_MAX}, and more than secrets_certificate_renew_days, {renew_days}, "
            "which is at least 1"
        )
    rotate = frozenset(_words(given.get("rotate")))
    if rotate - set(link_files.ROTATE):
        raise ValueError(f"rotate: {', '.join(sorted(rotate))} must be some of {', '.join(link_files.ROTATE)}")
    only = frozenset(_words(given.get("members")))
    return link_files.Wanted(datetime.datetime.now(datetime.timezone.utc), days, renew_days, rotate, only)


def _words(value):
    """A list, which comes as a text from the command line."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value or []


def _group(folder, vm, looks, wanted):
    found = {vm[seat]: link_files.looked((looks.get(vm[seat]) or {}).get(vm["name"])) for seat in link_files.SEATS}
    encrypted = (vm.get("link_security") or link_files.TLS) == link_files.TLS
    own = authority.Authority.load(folder / vm["cluster_id"]) if encrypted else None
    return link_files.Group(vm, found, own, wanted)
