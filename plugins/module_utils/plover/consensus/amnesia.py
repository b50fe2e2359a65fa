# SPDX-License-Identifier: GPL-3.0-or-later
"""A member that has forgotten its promises, and how it recovers. Pure; the rules are in docs/fencing.md.

Its state file is gone: the disk is new, the folder is not mounted, somebody cleaned up. Or the file is a copy from a backup,
and older promises are all that it knows (host/store.py). It may have voted for a leader that
only one other member knows. So it does not vote, stand for election or acknowledge anything until it has recovered. It
recovers like a replica in Viewstamped Replication Revisited (Liskov and Cowling, 2012), section 4.3:

 * Both other members tell it their views, in answers to a question that it asked after this start. Each promise that it ever
   made was made to one of them, and that member already had the view on disk. So no forgotten promise belongs to a higher
   view than the highest answer.
 * It takes the record from the leader of that view or of a later one. The leader of a lower view may be deposed already, by
   the very vote that was forgotten.

The question is a pre-vote request for view 0. No candidate asks for that view, so all versions refuse it and tell their own
view in the refusal. A member that has forgotten its own promises does not answer.

One exception, made by an operator: a forced leader (``failover --force``) that nobody has acknowledged yet says so in its
refusal. Its word alone is then enough, because it stands in for the members that are gone.
"""

from __future__ import annotations

from ..protocol import wire

QUESTION = wire.VoteRequest(view=0, pre=True, transfer=False, record_view=0, record_version=0, record_in_sync=0, last_view=0, last_index=0)
LATELY_S = 5.0


def is_question(m: wire.VoteRequest) -> bool:
    """Does the sender ask because it has forgotten its promises?"""
    return m.pre and m.view == 0


class Amnesia:
    """The other members' answers since this member started."""

    def __init__(self, others: tuple[str, ...]) -> None:
        self._others = others
        self._views: dict[str, int] = {}
        self._forced: tuple[str, int] | None = None  # a leader by force, and its view

    def heard(self, src: str, m: wire.Message) -> bool:
        """Note what ``m`` tells. True if it is a leader's heartbeat that ends our amnesia."""
        if isinstance(m, wire.VoteReply) and not m.granted:
            self._tell(src, m.view)
            if m.ahead:
                self._forced = (src, m.view)
        if not isinstance(m, wire.Heartbeat) or not m.view:
            return False
        self._tell(src, m.view)
        return (src, m.view) == self._forced or (not self.missing and m.view >= self.newest)

    def _tell(self, src: str, view: int) -> None:
        """Its last answer counts: each one is as good, and a witness that lied may be mended meanwhile."""
        self._views[src] = view

    @property
    def newest(self) -> int:
        """The highest view in an answer so far; 0 without an answer."""
        return max(self._views.values(), default=0)

    @property
    def missing(self) -> list[str]:
        """Members that have not answered yet."""
        return [other for other in self._others if other not in self._views]

    def describe(self, forgetful: list[str]) -> str:
        """``forgetful``: other members that have forgotten their promises too."""
        text = (
            "this host has forgotten what it promised (its state folder is empty, or came back from a copy), so it neither votes nor leads"
        )
        if len(forgetful) == len(self._others):
            return (
                f"{text}; so have {' and '.join(forgetful)}: nobody remembers this VM. If it is new, or all of its "
                "hosts are, run the deploy play. If their state folders came back from copies, empty all three first; the "
                "play then has the VM booted afresh"
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
