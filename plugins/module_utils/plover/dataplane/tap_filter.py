# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter of one TAP, kept in the kernel by the distribution's ``nft``: loaded in one transaction, looked after, removed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from typing import Any

from ..config.spoof import OFF, Given
from ..errors import NetworkError
from . import filter_rules as rules
from . import programs

NFT_TIMEOUT_S = 5.0
PATHS = "/usr/sbin:/sbin:/usr/bin"  # a daemon's own PATH may lack the first two
REMEDY = "install package nftables and run Linux with nf_tables (CONFIG_NF_TABLES_NETDEV), or set guest_spoof_check to off"


class TapFilter:
    """``dropped``: frames by reason, since it was loaded first. ``error``: why the VM is not filtered as it should be."""

    def __init__(self, tap: str, given: Given) -> None:
        self._tap, self._given = tap, given
        self._counts: dict[str, int] = {}
        self._before: dict[str, int] = {}  # of tables that somebody removed
        self.error, self.loaded_again = "", 0

    @property
    def on(self) -> bool:
        return self._given.check != OFF

    async def load(self) -> None:
        """Put the filter in place of an older one. Raises NetworkError."""
        if not self.on:
            return await self.remove()
        await _nft(rules.replace(self._tap, self._given), "-f", "-")
        self._before, self._counts = self._total(), {}

    async def look(self) -> bool:
        """Read the counters. False: the filter was gone (``flush ruleset``); it is loaded again. Raises NetworkError."""
        if not self.on:
            return True
        try:
            said = await _nft("", "-j", "list", "counters", "table", "netdev", rules.table(self._tap))
        except NetworkError:
            await self.load()
            self.loaded_again += 1
            return False
        self._counts = counts(said)
        return True

    async def remove(self) -> None:
        """Leave nothing behind. A TAP that is gone passes nothing, so what cannot be removed does no harm."""
        with contextlib.suppress(NetworkError):
            await _nft(rules.remove(self._tap), "-f", "-")

    def _total(self) -> dict[str, int]:
        return {reason: self._before.get(reason, 0) + self._counts.get(reason, 0) for reason in rules.REASONS}

    def describe(self) -> dict[str, Any]:
        """For the status."""
        dropped = {reason: count for reason, count in self._total().items() if count}
        return {"check": self._given.check, "dropped": dropped, "loaded_again": self.loaded_again, "error": self.error}


def counts(said: bytes) -> dict[str, int]:
    """Dropped frames by reason, from nft's JSON. Raises NetworkError if it is none."""
    try:
        found = [item["counter"] for item in json.loads(said)["nftables"] if "counter" in item]
        return {str(counter["name"]): int(counter["packets"]) for counter in found}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NetworkError(f"guest_spoof_check: nft -j says nothing that can be read: {said[:200]!r}") from error


def _nft_path() -> str | None:
    return shutil.which("nft", path=PATHS)


async def _nft(script: str, *arguments: str) -> bytes:
    """What nft says. Raises NetworkError with its reason."""
    nft = _nft_path()
    if nft is None:
        raise NetworkError(f"guest_spoof_check: there is no nft on this host; {REMEDY}")
    process = await asyncio.create_subprocess_exec(
        nft,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    )
    try:
        out, error = await programs.ended(process, NFT_TIMEOUT_S, script.encode())
    except asyncio.TimeoutError:
        raise NetworkError(f"guest_spoof_check: nft took longer than {NFT_TIMEOUT_S} s") from None
    if process.returncode:
        why = error.decode(errors="replace").strip()[:500]
        raise NetworkError(f"guest_spoof_check: nft refuses the filter: {why}; {REMEDY}")
    return out
