# SPDX-License-Identifier: GPL-3.0-or-later
"""Output of commands. Not ``print``: ansible-test treats all of module_utils as parts of modules, whose standard output is
their result."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # a reader sees each line at once


def complain(text: object) -> None:
    sys.stderr.write(f"{text}\n")


@contextmanager
def until_enough() -> Iterator[None]:
    """For a command that goes on until somebody ends it: Ctrl-C and a pipe without a reader are its regular end."""
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Python would try the last words once more as it exits, and complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
