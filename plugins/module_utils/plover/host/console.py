# SPDX-License-Identifier: GPL-3.0-or-later
"""Output of commands. Not ``print``: ansible-test treats all of module_utils as parts of modules, whose standard output is
their result."""

from __future__ import annotations

import sys
from contextlib import suppress


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # a reader sees each line at once


def complain(text: object) -> None:
    sys.stderr.write(f"{text}\n")


def until_enough() -> suppress:
    """For a command that goes on until somebody ends it: Ctrl-C and a pipe without a reader are its regular end."""
    return suppress(KeyboardInterrupt, BrokenPipeError)
