# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command says. Not ``print``: ansible-test takes all of module_utils for parts of modules, whose standard output is
their result."""

from __future__ import annotations

import sys


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # whoever watches sees each line when it comes


def complain(text: object) -> None:
    sys.stderr.write(f"{text}\n")
