# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's durable state on disk: ``state.json`` in its state folder (docs/ARCHITECTURE.md, invariant 3).

:class:`Store` keeps a :class:`Durable` in one file, replaced atomically and fsynced (file and folder) before ``save``
returns, and refuses a damaged file instead of starting from nothing.

Without the file, a member has forgotten its promises and takes part in nothing until it has recovered (consensus/amnesia.py).
The exception is a new VM: the play that creates it leaves an empty file ``first-boot`` beside it.

A file that came back from a backup knows old promises only, so it counts for no more than a missing file. Each state.json
names its own birth in an attribute (host/birth.py), and its text says so, which every copy keeps. A file that does not say so
is of an earlier version, or of a file system that cannot tell; it counts. The exception is a folder with a file ``birth``: the
member has written files that name their birth since, so this one was put back.

A full disk must not keep a member from its vote: a file ``spare`` holds room for the next state, and gives it when it is needed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import zlib
from pathlib import Path

from ..consensus.durable import Durable, Record
from ..errors import DurableStateError
from . import birth

log = logging.getLogger(__name__)
FIRST_BOOT, MEMBER, BIRTH, SPARE = "first-boot", "member", "birth", "spare"
SPARE_BYTES = 1 << 14  # a state takes a block, and another one until it has taken the old one's place
FULL = (errno.ENOSPC, errno.EDQUOT)
BIRTH_TEXT = "state.json names its own birth (user.plover.birth). A copy of it does not, and counts for nothing.\n"
READ_CHARACTERS_MAX = 1 << 16  # of a file in the state folder; ours are much shorter
SHOWN = 80
NAMES_BIRTH = "0x"  # before the checksum. Earlier versions read it as part of the number, so a rollback finds a good file


def _body(state: Durable) -> str:
    return json.dumps(
        {
            "view": state.view,
            "voted_for": state.voted_for,
            "record": {
                "view": state.record.view,
                "version": state.record.version,
                "in_sync": sorted(state.record.in_sync),
                **({"off": True} if state.record.off else {}),  # else as earlier versions write it
            },
        }
    )


class Files:
    """The few file operations a :class:`Store` needs, each of which raises OSError. The simulator has its own."""

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def read(self, path: Path) -> str:
        with open(path, encoding="utf-8") as file:
            return file.read(READ_CHARACTERS_MAX)

    def write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")

    def reserve(self, path: Path, size: int) -> None:
        """A file of ``size`` bytes, which it really takes."""
        path.write_bytes(bytes(size))

    def sync(self, path: Path) -> None:
        """A file's contents, or a folder's names, are on the disk when this returns."""
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def exists(self, path: Path) -> bool:
        return os.path.lexists(path)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sign(self, path: Path) -> bool:
        """Let the file name its own birth. False if the file system cannot."""
        return birth.sign(path)

    def is_signed(self, path: Path) -> bool:
        """False: this is a copy of a file."""
        return birth.is_signed(path)


class Store:
    def __init__(self, folder: Path, files: Files | None = None, member: str = "") -> None:
        """``member``: the owner that the folder must have (a copied folder has another); empty: anyone."""
        self._member, self._whose = member, folder / MEMBER
        self._path, self._mark, self._files = folder / "state.json", folder / FIRST_BOOT, files or Files()
        self._birth, self._spare = folder / BIRTH, folder / SPARE
        try:
            self._files.make_folder(folder)
        except OSError as error:
            raise DurableStateError(f"state_dir: cannot create {folder}: {error.strerror}") from error

    def begin(self) -> Durable | None:
        """At a daemon's start, before it sends anything: its durable state; None: it has forgotten everything, or remembers
        only what it had promised before a backup.

        The state is written again: after a failed fsync, a file still reads well from the page cache, yet a power loss would
        take it away.
        """
        state = self.load()
        try:
            noted = self._noted_member()
            if state is None and self._files.exists(self._mark):
                state = Durable()
            if state is None or self.is_copy:
                return None
            self.save(state)
            if self._member and not noted:
                self._write(self._whose, f"{self._member}\n")
            if self._files.exists(self._mark):  # it counts once: a state lost later must not pass for a new VM
                self._files.remove(self._mark)
                self._files.sync(self._mark.parent)
        except OSError as error:
            raise DurableStateError(f"state_dir: {self._path.parent}: {error.strerror}; see to it, the member stops until then") from error
        return state

    @property
    def is_copy(self) -> bool:
        """The state came back from a backup. Raises OSError."""
        if not self._files.exists(self._path) or self._files.is_signed(self._path):
            return False
        return self._files.exists(self._birth) or f"\n{NAMES_BIRTH}" in self._files.read(self._path)

    def _noted_member(self) -> str:
        """The folder's owner; empty: an earlier version did not note it. Raises DurableStateError."""
        if not self._member or not self._files.exists(self._whose):
            return ""
        try:
            noted = self._files.read(self._whose).strip()
        except UnicodeDecodeError:
            noted = "nobody"
        if noted != self._member:
            raise DurableStateError(
                f"{self._whose.parent}: this state folder is of member {ascii(noted)[:SHOWN]}, and this is "
                f"{self._member!r}: it was copied. Empty it; the member then asks the others what it "
                "missed"
            )
        return noted

    def load(self) -> Durable | None:
        """None: there is no file."""
        try:
            text = self._files.read(self._path)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise DurableStateError(f"{self._path}: cannot be read: {error}") from error
        try:
            body, crc = text.rstrip("\n").rsplit("\n", 1)
            if int(crc, 16) != zlib.crc32(body.encode()):
                raise ValueError("checksum does not fit")
            data = json.loads(body)
            record = data["record"]
            order = int(record["view"]), int(record["version"])
            state = Durable(int(data["view"]), data["voted_for"], Record(*order, frozenset(record["in_sync"]), record.get("off") is True))
            named = state.record.in_sync | ({state.voted_for} - {None})
            sane = min(state.view, *state.record.order) >= 0 and all(isinstance(name, str) for name in named)
            if not sane or _body(state) != body:
                raise ValueError("this version does not write such a file")
            return state
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise DurableStateError(
                f"{self._path}: is damaged ({error}). A member that forgets its vote could let two leaders live, "
                "so it stays out. Move the file away, never restore an older one: without it the member takes part again "
                "once both others have told it what it missed"
            ) from error

    def save(self, state: Durable) -> None:
        try:
            self._save(state)
        except OSError as error:
            raise DurableStateError(
                f"state_dir: cannot write {self._path}: {error.strerror}; free space or fix it, the member stops until then"
            ) from error

    def _save(self, state: Durable) -> None:
        body = _body(state)
        checksum = f"{zlib.crc32(body.encode()):08x}\n"
        text, unsigned = f"{body}\n{NAMES_BIRTH}{checksum}", f"{body}\n{checksum}"
        try:
            self._write(self._path, text, unsigned)
        except OSError as error:
            if error.errno not in FULL or not self._files.exists(self._spare):
                raise
            log.warning("state_dir: %s is full; the room kept for the member's state is used. Free space there", self._path.parent)
            self._files.remove(self._spare)
            self._write(self._path, text, unsigned)
        self._keep_spare()

    def _keep_spare(self) -> None:
        if self._files.exists(self._spare):
            return
        try:
            self._files.reserve(self._spare, SPARE_BYTES)
        except OSError:  # it is tried again with the next state
            with contextlib.suppress(OSError):
                self._files.remove(self._spare)

    def _write(self, path: Path, text: str, unsigned: str = "") -> None:
        """``unsigned``: the text to write if the file cannot name its birth; empty: this file need not."""
        temporary, signs = path.with_suffix(".new"), False
        self._files.write(temporary, text)
        if unsigned:
            signs = self._files.sign(temporary)
            if not signs:
                self._files.write(temporary, unsigned)
        self._files.sync(temporary)
        if unsigned and not signs:
            self._expect_birth(False)
        self._files.replace(temporary, path)
        self._files.sync(path.parent)
        if signs:
            self._expect_birth(True)

    def _expect_birth(self, wanted: bool) -> None:
        """From the next start on, must state.json name its birth?"""
        if wanted == self._files.exists(self._birth):
            return
        if wanted:
            self._write(self._birth, BIRTH_TEXT)
        else:
            self._files.remove(self._birth)
            self._files.sync(self._birth.parent)
