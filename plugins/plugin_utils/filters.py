# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong in a filter, as one sentence."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

EXPECTED = (ValueError, KeyError, TypeError, AttributeError, StopIteration)


def clear(filters):
    """The same filters, name -> function; what they raise about their input becomes an AnsibleFilterError that names one."""
    return {name: _clear(name, function) for name, function in filters.items()}


def _clear(name, function):
    def called(*arguments, **named):
        try:
            return function(*arguments, **named)
        except EXPECTED as error:
            said = str(error) if isinstance(error, ValueError) else f"{error!r}; see playbooks/inventory.example.yml"
            raise AnsibleFilterError(f"plover.vmft.{name}: {said}") from error

    return called
