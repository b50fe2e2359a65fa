# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl reboot``: the guest shuts down as its power button asks it to, and boots again."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..core.status import OFF
from ..host.console import complain, say
from .reply import Reply, sentence, service_of, text

LOOK_S = 0.2
Ask = Callable[[str], Reply]


def reboot(ask: Ask, timeout_s: float) -> int:
    """``ask(command)``: the daemon's reply."""
    pressed = ask("shutdown")
    if not pressed["ok"]:
        complain(f"ploverctl: {text(pressed, 'error')}")
        return 1
    end = time.monotonic() + timeout_s
    while service_of(status := ask("status")) != OFF:
        if time.monotonic() > end:
            complain(
                f"ploverctl: the guest has not shut down within {timeout_s:g} s, and runs on ({sentence(status)}); it may not heed its "
                "power button: 'ploverctl reset' presses the reset button"
            )
            return 1
        time.sleep(LOOK_S)
    started = ask("start")
    if not started["ok"]:
        complain(f"ploverctl: the VM is off, and does not boot: {text(started, 'error')}; try 'ploverctl start'")
        return 1
    say("reboot: the guest has shut down, and the VM boots")
    return 0
