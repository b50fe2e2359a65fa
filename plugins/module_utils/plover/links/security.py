# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches over the links' TLS while they are up: certificates that expire or are revoked, and what status says of them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from ..errors import ConfigError
from . import tls
from .link import Link
from .relay import End
from .secure import Identity

log = logging.getLogger("plover")
LOOK_S = 1.0
DAY_S = 86_400
WARN_DAYS = 30


class Links(Protocol):
    """All links of a member (peers.py)."""

    links: dict[tuple[str, int], Link]
    tls: tls.Folder | None
    watch: Watch | None


def begin(links: Links) -> None:
    """Raises ConfigError if the files of ``link_security: tls`` are not valid."""
    if links.tls:
        links.tls.read()
    else:
        log.warning(
            "link_security is none: whoever reaches the replication network reads the VM's memory and disks, and can change them; "
            "set it to tls"
        )


def hint(links: Links, link: Link, member: str) -> str:
    """Why ``member`` may have closed ``link``."""
    path = links.tls.path if links.tls else ""
    if link.secure and not link.secure.peer:
        return (
            f"{member} closed the link in the middle of the TLS handshake; its log says why. An old version, or link_security: none, does "
            f"not speak TLS: write 'accept' into {path}/{tls.MODE} until it does"
        )
    if link.secure:
        return f"{member} closed the link before it was let in; its log says why"
    return (
        f"{member} closed the link without TLS before it was let in; its log says why. If it wants TLS, write 'dial' into {path}/{tls.MODE}"
    )


class Watch:
    """Looks at the links every few seconds, and closes those that would be refused now."""

    def __init__(self, links: Links, folder: tls.Folder) -> None:
        self._links, self._folder = links, folder
        self.problem = ""  # of our own files: new links are refused, those that are up stay
        self.streams: dict[End, Link] = {}  # of the disks, and the links that they were

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        try:
            found = self._folder.read()
            problem = ""
        except ConfigError as error:
            found, problem = None, str(error)
        if problem and problem != self.problem:
            log.error("no new links: %s", problem)
        self.problem = problem
        for link in list(self._links.links.values()):
            why = self._why_not(link, found)
            if why:
                log.error("link to %s closed: %s", link.member, why)
                link.transport.abort()
            elif found:
                self._renew(link, found)
        self._look_at_streams(found)

    def _look_at_streams(self, found: tls.Credentials | None) -> None:
        """A stream cannot be renewed: QEMU takes its end for a failed disk, and the secondary is dropped. So one whose certificate
        only ends goes on while its member shows a valid one on a link. A revoked one, or one without TLS, does not."""
        self.streams = {end: link for end, link in self.streams.items() if not end.lost}
        known = {link.member for link in self._links.links.values() if link.secure and not self._ended(link)}
        for end, link in list(self.streams.items()):
            why = self._forbidden(link, found) or (self._ended(link) if link.member not in known else "")
            if why:
                log.error("stream of a disk, to %s, closed: %s", link.member, why)
                end.abort()

    @staticmethod
    def _renew(link: Link, found: tls.Credentials) -> None:
        """Sees to it that a link without TLS, or with an old certificate of ours, gets a successor."""
        if not link.dialled:
            if link.secure and link.own_serial != found.own.serial:
                link.ask_to_renew()
        elif (found.own.serial != link.own_serial) if link.secure else found.dials():
            link.stale = True

    def _why_not(self, link: Link, found: tls.Credentials | None) -> str:
        return self._forbidden(link, found) or self._ended(link)

    def _forbidden(self, link: Link, found: tls.Credentials | None) -> str:
        if link.secure is None or link.secure.peer is None:
            if found and not found.accepts_plain():
                return f"it is not encrypted, and {self._folder.path}/{tls.MODE} is 'only' now; it comes back with TLS"
            return ""
        peer = link.secure.peer
        if found and peer.serial in found.revoked:
            return f"its certificate ({peer.serial:x}) is in {self._folder.path}/{tls.REVOKED}; give it a new one"
        return ""

    @staticmethod
    def _ended(link: Link) -> str:
        peer = link.secure and link.secure.peer
        if peer and peer.not_after <= tls.wall():
            return "its certificate has expired; renew it with the deploy play; is the clock of this host right?"
        return ""


def describe(links: Links) -> dict[str, Any]:
    """For the status."""
    encrypted: dict[str, bool] = {}
    for link in links.links.values():
        encrypted[link.member] = encrypted.get(link.member, True) and link.secure is not None
    security = "none" if not links.tls else "tls" if all(encrypted.values()) else "mixed"
    out = {"link_security": security, "encrypted": encrypted}
    return {**out, "tls": _certificates(links, links.tls)} if links.tls else out


def _certificates(links: Links, folder: tls.Folder) -> dict[str, Any]:
    problem, mode, known = "", "", dict[str, Identity]()
    try:
        found = folder.read()
        mode, known = found.mode, {found.own.member: found.own}
    except ConfigError as error:
        problem = str(error)
    for link in links.links.values():
        peer = link.secure and link.secure.peer
        if peer and (peer.member not in known or peer.not_after < known[peer.member].not_after):
            known[peer.member] = peer
    left = {member: int((known[member].not_after - tls.wall()) // DAY_S) for member in sorted(known)}
    certificates = {
        member: {"serial": f"{known[member].serial:x}", "not_after": int(known[member].not_after), "days_left": days}
        for member, days in left.items()
    }
    soon = [
        f"the certificate of {member} ends in {days} days; renew it with the deploy play"
        for member, days in left.items()
        if days < WARN_DAYS
    ]
    return {"mode": mode, "problem": problem, "certificates": certificates, "warnings": soon + _plain_streams(links.watch)}


def _plain_streams(watch: Watch | None) -> list[str]:
    members = sorted({link.member for end, link in watch.streams.items() if not (end.lost or link.secure)}) if watch else []
    return [
        f"disk writes to {member} are not encrypted yet; in mode only the secondary is dropped and comes back with TLS"
        for member in members
    ]
