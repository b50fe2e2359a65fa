# SPDX-License-Identifier: GPL-3.0-or-later
"""The results of `make bench-input`: latency that the runtime adds, profiles, a table. Pure."""

from __future__ import annotations

from typing import Any

from .report import middle

Run = dict[str, Any]
ROWS_MAX, PER_FRAME = 20, 0.9  # calls for each frame, but for those of the profile's edges
WAIT = "<method 'poll' of 'select.epoll' objects>"
COLUMNS = ("frames_per_s", "p50_us", "p99_us", "frames_per_batch", "cpu_us_per_batch", "cpu_us_per_frame", "syncvms", "others_percent")
CASE = ("way", "frame_bytes", "per_s")


def added_us(runs: list[Run]) -> dict[str, float]:
    """How much longer a frame of a paced load takes than without the runtime."""
    out = {}
    for case in cases(runs):
        for key in ("p50_us", "p99_us"):
            ours, bare = (middle(runs, key, system=system, **case) for system in ("plover", "bare"))
            if case["per_s"] and ours is not None and bare is not None:
                out[f"{case['way']}_{case['frame_bytes']}_{case['per_s']}_{key}"] = round(ours - bare, 1)
    return out


def vs_bare(runs: list[Run]) -> dict[str, float]:
    """The runtime divided by the bare path: frames/s as fast as it goes, else CPU time of a frame."""
    out = {}
    for case in cases(runs):
        key = "cpu_us_per_frame" if case["per_s"] else "frames_per_s"
        ours, bare = (middle(runs, key, system=system, **case) for system in ("plover", "bare"))
        if ours is not None and bare:
            pace = f"{case['per_s']}_cpu" if case["per_s"] else "max_frames"
            out[f"{case['way']}_{case['frame_bytes']}_{pace}"] = round(ours / bare, 3)
    return out


def cases(runs: list[Run]) -> list[dict[str, Any]]:
    return [dict(zip(CASE, values)) for values in dict.fromkeys(tuple(run[key] for key in CASE) for run in runs)]


def condensed(rows: list[list], frames: int) -> dict[str, Any]:
    """The functions of a profile that took most of the time, and the share of those called for each frame.

    The wait for events is left out: it is not work.
    """
    rows = [row for row in rows if row[2] != WAIT]
    whole_s = sum(own for *_, own, _ in rows)
    per_frame_s = sum(own for *_, calls, own, _ in rows if calls >= PER_FRAME * frames)
    rows = sorted(rows, key=lambda row: -row[4])[:ROWS_MAX]
    return {
        "frames": frames,
        "us_per_frame": round(1e6 * whole_s / frames, 2),
        "us_per_frame_called_for_each": round(1e6 * per_frame_s / frames, 2),
        "functions": [
            {
                "function": name if file == "~" else f"{file}:{line} {name}",
                "calls_per_frame": round(calls / frames, 3),
                "us_per_frame": round(1e6 * own / frames, 3),
                "percent": round(100 * own / whole_s, 1),
            }
            for file, line, name, calls, own, _ in rows
        ],
    }


def table(result: dict[str, Any]) -> list[str]:
    runs = result["runs"]
    out = [
        "",
        f"Frames through the runtime without a guest, {result['cores']} cores ({result['cpu']}); medians over the rounds.",
        "CPU: of the leader's host; a batch is one entry of the log; others: what other programs took.",
        "",
        f"{'':34} {'system':8}" + "".join(f"{key.replace('_', ' '):>18}" for key in COLUMNS),
    ]
    for case in cases(runs):
        pace = f"{case['per_s']:,}/s" if case["per_s"] else "as fast as it goes"
        for system in dict.fromkeys(run["system"] for run in runs):
            figures = (middle(runs, key, system=system, **case) for key in COLUMNS)
            cells = "".join(f"{'-' if value is None else f'{value:,.2f}':>18}" for value in figures)
            out.append(f"{case['way']:7} {case['frame_bytes']:5} B {pace:19} {system:8}{cells}")
    out += ["", *(f"{name}, added: {value:,.0f}" for name, value in result["added_us"].items())]
    out += ["", *(f"{name}, divided by bare: {value:.2f}" for name, value in result["vs_bare"].items())]
    for name, found in result["profiles"].items():
        # Of a paced load a batch is mostly one frame, and what is called for each is no longer told apart.
        each = "" if "/s" in name else f", {found['us_per_frame_called_for_each']:.2f} of them in what each calls"
        out += [
            "",
            f"The leader's daemon, {name}, profiled (which makes Python's calls slower than they are): "
            f"{found['us_per_frame']:.2f} µs per frame{each}",
            f"{'calls per frame':>15} {'µs per frame':>12} {'%':>5}",
        ]
        out += [
            f"{row['calls_per_frame']:15.3f} {row['us_per_frame']:12.3f} {row['percent']:5.1f}  {row['function']}"
            for row in found["functions"]
        ]
    return out
