# SPDX-License-Identifier: GPL-3.0-or-later
"""The files by which a VM's members encrypt their links, round by round, so that no link is refused in between. Pure, but for
the CA that it is given.

All members have their files of one round before the next begins, as with the secrets (module_utils/_ansible/secrets.py):

  round 0   each trusts the old CA and the new one, and takes links with and without TLS
  round 1   each shows its new certificate, and dials with TLS
  round 2   each trusts the new CA alone, refuses revoked certificates, and takes links with TLS only
"""

from __future__ import annotations

import datetime
import re
from typing import Any, NamedTuple

from . import certificates
from .certificates import Certificate

SEATS = ("primary", "secondary", "witness")
ACCEPT, DIAL, ONLY = MODES = ("accept", "dial", "only")
TLS, NONE = "tls", "none"
ROTATE = ("secret", "certificates", "ca")
ROUNDS = 3
REVOKED_MAX = 24  # of one CA; then a new CA ends the list
_SERIAL = re.compile(r"[0-9A-F]{1,40}\Z")
_FILES = ("mode", "ca.pem", "cert.pem", "revoked")


class Found(NamedTuple):
    """What a host has of a member's files, as look.sh of role secrets prints it."""

    authorities: tuple[str, ...] = ()
    certificate: str = ""
    fits: bool = False  # the key fits the certificate
    mode: str = ONLY
    revoked: tuple[str, ...] = ()
    deployed: bool = False
    runs: str = ""  # link_security of the daemon; "mixed" is tls as well; empty if it knows no TLS or does not answer


def looked(output: str | None) -> Found:
    """Lines C(%NAME TEXT) with the files' lines, and marks."""
    lines = [line[1:].partition(" ") for line in (output or "").splitlines() if line.startswith("%")]
    texts = {name: "\n".join(text for mark, _space, text in lines if mark == name) for name in (*_FILES, "runs")}
    marks = {mark for mark, _space, _text in lines}
    mode = texts["mode"].strip() or ONLY
    return Found(
        authorities=tuple(certificates.pems(texts["ca.pem"])),
        certificate=texts["cert.pem"],
        fits="fits" in marks,
        mode=mode if mode in MODES else ONLY,
        revoked=tuple(sorted({line.strip().upper() for line in texts["revoked"].splitlines() if _SERIAL.match(line.strip().upper())})),
        deployed="deployed" in marks,
        runs=TLS if texts["runs"].strip() == "mixed" else texts["runs"].strip(),
    )


class Wanted(NamedTuple):
    """What the play asks for. C(rotate): of ROTATE. C(only): the members whose certificates are rotated; empty: all."""

    now: datetime.datetime
    days: int
    renew_days: int
    rotate: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()


class Group:
    """A VM's members: what they have, and what each of them needs."""

    def __init__(self, vm: dict[str, Any], found: dict[str, Found], own: Any, wanted: Wanted) -> None:
        self.vm, self.found, self.own, self.wanted = vm, found, own, wanted
        self.members = [vm[seat] for seat in SEATS]
        self.encrypted = (vm.get("link_security") or TLS) == TLS
        self.uris = {member: certificates.uri_of(vm["cluster_id"], member) for member in self.members} if self.encrypted else {}
        self.revoked = tuple(sorted({serial for one in found.values() for serial in one.revoked}))
        self.has = {member: certificates.read(found[member].certificate) for member in self.members}

    # ---- who needs a certificate -------------------------------------------------------------------------------
    def fault(self, member: str) -> tuple[str, str]:
        """Why its certificate does not do any more, and whether its key still does; two empty texts if all is well."""
        found, has = self.found[member], self.has[member]
        if not found.certificate:
            return "new", "it has no certificate"
        if has is not None and not found.fits:
            return "new", "its key does not fit its certificate"
        if has is not None and has.serial in self.revoked:
            return "new", "its certificate was revoked"
        if has is not None and self._issuer(has) is None:
            return "same", "no member trusts the CA of its certificate"
        return flaw(has, self.uris[member], self.wanted.now, self.wanted.renew_days)

    def _issuer(self, has: Certificate) -> Certificate | None:
        return next((authority for authority in self._trusted() if has.signed_by(authority)), None)

    def _trusted(self) -> list[Certificate]:
        read = (certificates.read(text) for one in self.found.values() for text in one.authorities)
        return list({found.serial: found for found in read if found is not None}.values())

    def needs(self) -> dict[str, tuple[str, str]]:
        """member -> (whether it takes the 'same' key or a 'new' one, why). A member without an entry keeps its certificate."""
        if not self.encrypted:
            return {}
        rotate = self.wanted.rotate
        out = {member: fault for member in self.members if (fault := self.fault(member))[0]}
        if "certificates" in rotate:
            chosen = self.wanted.only or self.members
            out.update(
                {member: ("new", out.get(member, ("", "its certificate is rotated"))[1]) for member in self.members if member in chosen}
            )
        issuers = {member: self._issuer(has) for member, has in self.has.items() if member not in out and has is not None}
        serials = {one.serial for one in issuers.values() if one is not None}
        if not out and len(serials) <= 1 and "ca" not in rotate:
            return {}
        kept = None if self._new_authority(out) else self.own.certificate.serial
        for member, one in issuers.items():
            if one is None or one.serial != kept:
                out[member] = ("same", "another CA signs from now on")
        return out

    def _new_authority(self, needs: dict[str, tuple[str, str]]) -> bool:
        """Whether the CA on this machine is none that could sign."""
        if self.own is None or "ca" in self.wanted.rotate:
            return True
        lasts = self.own.certificate.not_after >= self.wanted.now + datetime.timedelta(days=self.wanted.days)
        return not lasts or len({*self.revoked, *self._outdated(needs)}) > REVOKED_MAX

    def _outdated(self, needs: dict[str, tuple[str, str]]) -> set[str]:
        """Serial numbers of the certificates whose keys are replaced: nobody may use them any more."""
        renewed = [member for member, (key, _why) in needs.items() if key == "new"]
        listed = {serial for member in renewed for serial in self.own.serials_of(self.uris[member])}
        shown = [has for member in renewed if (has := self.has[member]) is not None and has.signed_by(self.own.certificate)]
        return listed | {has.serial for has in shown if set(has.names) <= {self.uris[m] for m in renewed}}

    # ---- the files ---------------------------------------------------------------------------------------------
    def rounds(self, requests: dict[str, str], make: Any) -> dict[str, list[dict[str, Any]]]:
        """member -> its files in each round; an empty dictionary: it has none. C(requests): the CSRs of those in :meth:`needs`.
        C(make()): a new CA. Signs, and leaves the CA that signed in C(self.own)."""
        if not self.encrypted:
            return self._without()
        needs, new = self.needs(), dict(self.has)
        outdated: set[str] = set(self.revoked)
        if needs:
            if self._new_authority(needs):
                self.own, outdated = make(), set()
            else:
                outdated |= self._outdated(needs)
                self.own.revoke(outdated)
            new.update({m: self.own.sign(requests[m], self.uris[m], self.wanted.now, self.wanted.days) for m in needs})
            last = [self.own.certificate.text]
        else:
            issuer = self._issuer(new[self.members[0]])
            outdated |= self.own.revoked() if self.own and issuer and issuer.serial == self.own.certificate.serial else set()
            last = [issuer.text] if issuer else []
        return {member: self._files(member, new[member], last, outdated) for member in self.members}

    def _files(self, member: str, new: Any, last: list[str], outdated: set[str]) -> list[dict[str, Any]]:
        usable = self.has[member] is not None and self.found[member].fits
        old = self.has[member].text if usable else new.text
        trusted = [one.text for one in self._trusted()]
        both = [*trusted, *(text for text in last if text not in trusted)]
        modes = self._modes(member)
        return [
            {"authorities": "".join(authorities), "certificate": certificate, "mode": mode, "revoked": sorted(revoked)}
            for authorities, certificate, mode, revoked in (
                (both, old, modes[0], self.revoked),
                (both, new.text, modes[1], self.revoked),
                (last, new.text, modes[2], outdated),
            )
        ]

    def _modes(self, member: str) -> list[str]:
        """From plain links to TLS only, once all daemons know TLS. Whoever encrypts all links never goes back by itself."""
        modes = {m: one.mode for m, one in self.found.items() if self.has[m] is not None}
        fresh = not any(one.deployed for one in self.found.values())
        if fresh or (modes and set(modes.values()) == {ONLY}):
            return [ONLY] * ROUNDS
        now = modes.get(member, ACCEPT)
        if now == ONLY:
            now = DIAL  # another one still dials without TLS
        if all(one.runs == TLS for one in self.found.values()):
            return [now, DIAL, ONLY]
        return [now] * ROUNDS

    def _without(self) -> dict[str, list[dict[str, Any]]]:
        """link_security: none. Every member takes links without TLS before the first dials so; at last the files go."""
        out: dict[str, list[dict[str, Any]]] = {}
        gone = all(one.runs == NONE or not one.deployed for one in self.found.values())
        for member, found in self.found.items():
            files = {
                "authorities": "".join(found.authorities),
                "certificate": found.certificate,
                "mode": found.mode,
                "revoked": list(found.revoked),
            }
            taking = {**files, "mode": DIAL if found.mode == ONLY else found.mode}
            if not found.certificate or gone:
                out[member] = [{}] * ROUNDS
            else:
                out[member] = [taking, {**files, "mode": ACCEPT}, {**files, "mode": ACCEPT}]
        return out


def flaw(has: Certificate | None, uri: str, now: datetime.datetime, renew_days: int) -> tuple[str, str]:
    """What shows on the certificate alone; see :meth:`Group.fault`."""
    if has is None:
        return "new", "its certificate cannot be read"
    if has.names != (uri,):
        return "new", f"its certificate is that of {', '.join(has.names) or 'somebody else'}"
    if has.days_left(now) < renew_days:
        return "same", f"its certificate {'expired' if has.not_after <= now else 'expires'} on {has.not_after:%Y-%m-%d}"
    return "", ""


def notes(vms: list[dict[str, Any]], looks: dict[str, dict[str, str]], now: datetime.datetime, renew_days: int) -> list[str]:
    """A sentence for each certificate that the next deployment replaces. C(looks): host -> VM name -> its certificate's text."""
    out = []
    for vm in vms:
        for member in (vm[seat] for seat in SEATS if (vm.get("link_security") or TLS) == TLS):
            text = (looks.get(member) or {}).get(vm["name"])
            _key, why = flaw(certificates.read(text), certificates.uri_of(vm["cluster_id"], member), now, renew_days) if text else ("", "")
            if why:
                out.append(f"{vm['name']} on {member}: {why}; the deploy play gives it a new one")
    return out


def serials(rounds: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Of the certificates that all members show in the end, if all links are encrypted by then; else nothing can be waited for."""
    last = [texts[-1] for texts in rounds.values()]
    found = [certificates.read(one["certificate"]) for one in last if one and one["mode"] == ONLY]
    return [one.serial for one in found if one is not None] if len(found) == len(SEATS) else []


def changes(rounds: dict[str, list[dict[str, Any]]], found: dict[str, Found]) -> dict[str, bool]:
    """member -> whether any round differs from what it has."""
    return {member: any(not _is(one, found[member]) for one in texts) for member, texts in rounds.items()}


def _is(files: dict[str, Any], found: Found) -> bool:
    if not files:
        return not (found.certificate or found.authorities)
    return (
        files["authorities"] == "".join(found.authorities)
        and files["certificate"].strip() == found.certificate.strip()
        and files["mode"] == found.mode
        and files["revoked"] == list(found.revoked)
    )
