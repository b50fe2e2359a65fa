# SPDX-License-Identifier: GPL-3.0-or-later
"""Agreed output broken on purpose: output that leaves although the secondary's VM does not stand by it."""

from __future__ import annotations

from plover.core.agreed_output import AgreedOutput
from plover.core.agreement import Agreement, Flow
from plover.core.transitions import Transitions
from plover.protocol import sayings, segments
from plover.protocol.frames import wrap

from .registry import mutant


@mutant("output leaves before the secondary has reported it: the leader's VM says it for both")
def own_word_taken() -> None:
    good = Agreement.hold

    def hold(self, number, frame):
        for told in sayings.said(wrap(frame)):
            self.hear(sayings.unpack(told))
        return good(self, number, frame)

    Agreement.hold = hold


@mutant("a segment leaves though the secondary's VM has not acknowledged as much")
def ack_not_compared() -> None:
    good = Flow.leaving

    def leaving(self):
        self.acked = self.told
        return good(self)

    Flow.leaving = leaving


@mutant("only the length of a stream is compared, not its bytes")
def bytes_not_compared() -> None:
    good = Flow._difference
    Flow._difference = lambda self, saying, ours: good(self, saying._replace(digest=segments.digest(ours)), ours)


@mutant("the begin of a connection is compared as any other segment")
def begin_compared() -> None:
    segments.SYN = 0


@mutant("the end of a stream is not compared")
def fin_ignored() -> None:
    segments.FIN = 0


@mutant("what the secondary's VM said before the last syncvm counts after it")
def other_syncvms_report() -> None:
    def heard(self, m):
        if self._syncvm is not None:
            self._agreement.hear(sayings.unpack(m.payload))

    AgreedOutput.heard = heard


@mutant("a promotion forgets what the VM has said since its last load")
def kept_output_forgotten() -> None:
    good = Transitions._take_over

    def take_over(self, follower):
        follower.guard.discard()
        good(self, follower)

    Transitions._take_over = take_over
