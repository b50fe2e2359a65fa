# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns errors in a filter into one sentence each."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

EXPECTED = (ValueError, KeyError, TypeError, AttributeError, StopIteration)


def clear(filters):
    """Wraps filters (name -> function): errors about their input become an AnsibleFilterError that names the filter."""
    return {name: _clear(name, function) for name, function in filters.items()}


def _clear(name, function):
    def called(*arguments, **named):
        try:
            return function(*arguments, **named)
        except EXPECTED as error:
            said = str(error) if isinstance(error, ValueError) else f"{error!r}; see playbooks/inventory.example.yml"
            raise AnsibleFilterError(f"plover.vmft.{name}: {said}") from error

    return called
