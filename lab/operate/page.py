# SPDX-License-Identifier: GPL-3.0-or-later
"""The web page of the lab's exporters, open on a desktop and on a phone: what it shows and when, and how it looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..hosts import NETNS
from .browser import Browser, Tab
from .told import address

PORT = 9742
SIZES = {"desktop": (1280, 800, False), "phone": (390, 844, True)}
OPEN_S, SHOWN_S = 60.0, 30.0
# Notes each state that was painted, by this machine's clock.
WATCH = """(() => {
  window.seen = [];
  const read = () => {
    const card = document.querySelector("article");
    const leader = [...card.querySelectorAll("dt")].find(term => term.textContent === "Leader").nextElementSibling;
    const found = {leader: leader.textContent, service: card.className, news: document.getElementById("news").textContent};
    const last = window.seen.at(-1);
    if (!last || last.leader !== found.leader || last.service !== found.service) window.seen.push({...found, at: Date.now() / 1000});
  };
  read();
  new MutationObserver(() => requestAnimationFrame(read))
    .observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
})()"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Pages:
    """``hosts``: whose exporter each page comes from, by its name in SIZES."""

    def __init__(self, folder: Path, authority: Path, hosts: dict[str, str]) -> None:
        self._folder, self.screenshots = folder, []
        for old in folder.glob("*.png"):
            old.unlink()
        self._browser = Browser(NETNS, folder / "browser", authority)
        try:
            self.tabs = {name: Tab(self._browser, f"https://{address(host)}:{PORT}/", *SIZES[name]) for name, host in hosts.items()}
            for tab in self.tabs.values():
                tab.wait('document.querySelector("article.protected") !== null', OPEN_S)
                tab.run(WATCH)
        except BaseException:
            self.close()
            raise

    def shown_at(self, leader: str, since: float) -> dict[str, float]:
        """When each page showed that ``leader`` leads and the VM is served, by the clock of time.time()."""
        out = {}
        for name, tab in self.tabs.items():
            script = f"window.seen.find(one => one.at >= {since} && one.leader === '{leader}' && one.service !== 'down')"
            out[name] = tab.wait(script, SHOWN_S)["at"]
        return out

    def shown_now(self, leader: str) -> None:
        """Waits until each page shows that ``leader`` leads, and the VM is protected."""
        for tab in self.tabs.values():
            tab.wait(f"window.seen.at(-1).leader === '{leader}' && window.seen.at(-1).service === 'protected'", SHOWN_S)

    def seen(self) -> dict[str, list[dict[str, Any]]]:
        return {name: tab.run("window.seen") for name, tab in self.tabs.items()}

    def open_history(self) -> None:
        for tab in self.tabs.values():
            tab.run('document.querySelector("details").open = true')

    def take(self, what: str) -> None:
        """Screenshots of all pages, light and dark."""
        for name, tab in self.tabs.items():
            for look in ("light", "dark"):
                tab.dark(look == "dark")
                file = f"{what}-{look}-{name}.png"
                tab.screenshot(self._folder / file)
                if file not in self.screenshots:
                    self.screenshots.append(file)

    def problems(self) -> list[str]:
        """Errors of the pages' scripts, and pages that must be scrolled sideways."""
        wide = [f"{name}: {pixels} pixels wider than its window" for name, tab in self.tabs.items() if (pixels := tab.run(WIDER)) > 0]
        return [*self._browser.problems, *wide]

    def close(self) -> None:
        self._browser.close()
