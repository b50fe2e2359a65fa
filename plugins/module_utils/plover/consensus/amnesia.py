# SPDX-License-Identifier: GPL-3.0-or-later
"""A member that has forgotten what it promised, and how it comes to take part again. Pure; the rules are in docs/fencing.md.

Its state file is gone: the disk is new, the folder is not mounted, somebody cleaned up. It may have voted for a leader that
only one other member knows. So it gives no vote, stands for nothing and acknowledges nothing until it has recovered, as a
replica does in Viewstamped Replication Revisited (Liskov and Cowling, 2012), section 4.3:

 * Both other members tell it their views, in answers to what it asked since it started. It gave every promise to one of
   them, who had that view on its disk before it asked. So no promise is of a higher view than the highest answer.
 * It takes the record from the leader of that view or of a later one. The leader of a lower view may be deposed already, by
   the very vote that was forgotten.

The question is a pre-vote request for view 0, which no candidate asks for: all versions refuse it and tell their own view in
the refusal. Who has forgotten, too, does not answer.

The exception is an operator's: a leader that was forced (``failover --force``) and that nobody has acknowledged yet says
so in its refusal. Then its word is enough, as it stands in for that of the members that are gone.
"""

from __future__ import annotations

from ..protocol import wire

QUESTION = wire.VoteRequest(view=0, pre=True, transfer=False, record_view=0, record_version=0, record_in_sync=0, last_view=0, last_index=0)
LATELY_S = 5.0


def is_question(m: wire.VoteRequest) -> bool:
    """Does its sender ask because it has forgotten all?"""
    return m.pre and m.view == 0


class Amnesia:
    """What the others said since this member started."""

    def __init__(self, others: tuple[str, ...]) -> None:
        self._others = others
        self._views: dict[str, int] = {}
        self._forced: tuple[str, int] | None = None  # a leader by force, and its view

    def heard(self, src: str, m: wire.Message) -> bool:
        """Take ``m`` in; True if it is a leader's heartbeat that ends our amnesia."""
        if isinstance(m, wire.VoteReply) and not m.granted:
            self._tell(src, m.view)
            if m.ahead:
                self._forced = (src, m.view)
        if not isinstance(m, wire.Heartbeat) or not m.view:
            return False
        self._tell(src, m.view)
        return (src, m.view) == self._forced or (not self.missing and m.view >= self.newest)

    def _tell(self, src: str, view: int) -> None:
        self._views[src] = max(view, self._views.get(src, 0))

    @property
    def newest(self) -> int:
        """The highest view that was told; 0 if none."""
        return max(self._views.values(), default=0)

    @property
    def missing(self) -> list[str]:
        """Who has not answered yet."""
        return [other for other in self._others if other not in self._views]

    def describe(self, forgetful: list[str]) -> str:
        """``forgetful``: other members that have forgotten all as well."""
        text = "this host has forgotten what it promised (its state folder is empty), so it neither votes nor leads"
        if len(forgetful) == len(self._others):
            return (
                f"{text}; so have {' and '.join(forgetful)}: nobody remembers this VM. If it is new, or all of its "
                "hosts are, run the deploy play"
            )
        if forgetful:
            return (
                f"{text}; {forgetful[0]} has forgotten too, so they cannot help each other: run 'ploverctl failover "
                "--force' on a replica that holds the VM's state"
            )
        if self.missing:
            return (
                f"{text}; waiting for {' and '.join(self.missing)} to answer. If that host is gone for good: 'ploverctl "
                "failover --force' on the replica that holds the VM's state"
            )
        return f"{text}; waiting for a leader of view {self.newest} or later"
