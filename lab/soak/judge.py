# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the figures of a soak grow? Pure.

A figure's growth is the median slope between pairs of its samples (Theil and Sen): a peak or a restart does not bend it as it would
bend a least-squares line. Only samples of one process are compared, and only those after its warm-up. What leaks grows all the
time, and what a process allocates once, at its first initial sync as a leader, is a step: so both halves of its life must grow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from statistics import median
from typing import NamedTuple

WARM_UP_S = 45.0  # of each process: caches fill, buffers reach their size
POINTS_MAX = 300  # of a process and figure; more are thinned to medians, as pairs grow with their square
POINTS_MIN = 8  # fewer tell nothing


class Limit(NamedTuple):
    """``per_hour``: growth that is no leak. ``floor``: growth over the whole soak that is too little to tell from noise."""

    unit: str
    per_hour: float
    floor: float
    why: str


LIMITS = {
    "heap_kib": Limit("KiB", 4096, 2048, "memory of its own (RssAnon); guest memory is shared and not in it"),
    "fds": Limit("", 4, 4, "open descriptors"),
    "threads": Limit("", 4, 4, "threads"),
    "run_kib": Limit("KiB", 1024, 2560, "/run of the host; the console takes twice guest_console_kib, then it begins anew"),
    "shm_kib": Limit("KiB", 1024, 8192, "/dev/shm of the host without the guest's RAM file"),
    "state_kib": Limit("KiB", 512, 640, "the state folder; the history takes 512 KiB at most"),
    "journal_lines": Limit("lines", 20_000, 400, "lines of Plover's units in the journal; a failover takes some 30 on each host"),
}


class Sample(NamedTuple):
    """``who``: host and unit; ``pid``: of this process, or of the host's first one. ``at``: seconds since the soak began."""

    who: str
    pid: int
    at: float
    figures: dict[str, float]


class Growth(NamedTuple):
    who: str
    figure: str
    per_hour: float
    over_s: float  # the seconds that were judged
    first: float
    last: float
    points: int

    @property
    def limit(self) -> Limit:
        return LIMITS[self.figure]

    @property
    def grown(self) -> float:
        """By the slope, over the seconds that were judged."""
        return self.per_hour * self.over_s / 3600

    @property
    def over(self) -> bool:
        return self.per_hour > self.limit.per_hour and self.grown > self.limit.floor


Points = list[tuple[float, float]]


def segments(samples: Iterable[Sample]) -> dict[tuple[str, str], list[Points]]:
    """(who, figure) -> the points of each of its processes, without the warm-up."""
    lives: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.who, sample.pid].append(sample)
    out: dict[tuple[str, str], list[Points]] = defaultdict(list)
    for (who, _pid), life in lives.items():
        warm = [sample for sample in life if sample.at - life[0].at >= WARM_UP_S]
        for figure in LIMITS:
            points = [(sample.at, sample.figures[figure]) for sample in warm if figure in sample.figures]
            if len(points) >= POINTS_MIN:
                out[who, figure].append(points)
    return out


def thinned(points: Points) -> Points:
    size = -(-len(points) // POINTS_MAX)
    parts = (points[at : at + size] for at in range(0, len(points), size))
    return [(median(at for at, _value in part), median(value for _at, value in part)) for part in parts]


def slope(lives: Iterable[Points]) -> float:
    """Per second: the median over all pairs of samples of one process."""
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for points in lives
        for earlier, later in combinations(thinned(points), 2)
        if later[0] > earlier[0]
    ]
    return median(slopes) if slopes else 0.0


def steady_slope(lives: list[Points]) -> float:
    """Per second: the least of all of it and its two halves."""
    halves = [points[: len(points) // 2] for points in lives], [points[len(points) // 2 :] for points in lives]
    return min(slope(part) for part in (lives, *halves))


def growths(samples: Iterable[Sample]) -> list[Growth]:
    out = []
    for (who, figure), lives in sorted(segments(samples).items()):
        seconds = sum(points[-1][0] - points[0][0] for points in lives)
        count = sum(map(len, lives))
        out.append(Growth(who, figure, round(3600 * steady_slope(lives), 1), round(seconds, 1), lives[0][0][1], lives[-1][-1][1], count))
    return out


def result(samples: list[Sample], rounds: list[dict], seconds: float) -> dict:
    """result.json. ``rounds``: each round's cell, and what it lost or broke."""
    found = growths(samples)
    return {
        "seconds": round(seconds, 1),
        "samples": len(samples),
        "rounds": len(rounds),
        "lost": sum(len(r["lost"]) for r in rounds),
        "violations": sum(len(r["violations"]) for r in rounds),
        "unprotected": sum(not r["protected"] for r in rounds),
        "judged": len(found),
        "grows": [f"{g.who}: {g.figure} {g.per_hour:+.0f} {g.limit.unit}/h, limit {g.limit.per_hour:.0f}" for g in found if g.over],
        "growth": [{**g._asdict(), "limit_per_hour": g.limit.per_hour, "over": g.over} for g in found],
    }


def good(out: dict) -> bool:
    return out["rounds"] > 0 and out["judged"] > 0 and not (out["lost"] or out["violations"] or out["unprotected"] or out["grows"])


def table(out: dict) -> str:
    lines = [f"{'who':<26}{'figure':<15}{'first':>10}{'last':>10}{'per hour':>12}{'limit':>9}{'samples':>9}"]
    for g in out["growth"]:
        mark = "  GROWS" if g["over"] else ""
        lines.append(
            f"{g['who']:<26}{g['figure']:<15}{g['first']:>10.0f}{g['last']:>10.0f}{g['per_hour']:>+12.1f}{g['limit_per_hour']:>9.0f}"
            f"{g['points']:>9}{mark}"
        )
    lines.append(
        f"{out['rounds']} rounds in {out['seconds']:.0f} s: {out['lost']} writes lost, {out['violations']} violations, "
        f"{out['unprotected']} not protected again, {len(out['grows'])} figures grow"
    )
    return "\n".join(lines)
