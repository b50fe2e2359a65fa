# SPDX-License-Identifier: GPL-3.0-or-later
"""The one file that imports prometheus-client, which writes the formats of Prometheus and OpenMetrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import ConfigError
from . import seen as look

try:
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
    from prometheus_client.openmetrics import exposition as openmetrics

    MISSING = ""
except ImportError as error:  # ansible-test imports this without it
    CounterMetricFamily = GaugeMetricFamily = object
    MISSING = str(error)

Family = Any
Kind = Callable[..., Family]
COUNTER: Kind = CounterMetricFamily
GAUGE: Kind = GaugeMetricFamily
OPENMETRICS = "application/openmetrics-text"


def check() -> None:
    """Raises ConfigError if the library is missing."""
    if MISSING:
        raise ConfigError(f"prometheus-client cannot be imported ({MISSING}); role 'runtime' installs it")


def info(name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Family:
    family = InfoMetricFamily(name, text, labels=labels)
    for row in rows:
        family.add_metric(row, {})
    return family


def histogram(name: str, text: str, rows: Iterable[tuple[str, Any]]) -> Family:
    """``rows``: each VM, and its histogram as core/counters.py describes one. One that is not well-formed is left out."""
    family = HistogramMetricFamily(name, text, labels=("vm",))
    for vm, told in rows:
        bounds, counts, total = (look.at(told, key) for key in ("bounds_s", "counts", "sum_s"))
        if not _fits(bounds, counts) or look.number(total) is None:
            continue
        buckets, below = [], 0
        for bound, count in zip([*map(float, bounds), float("inf")], counts):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), below))
        family.add_metric((vm,), buckets, total)
    return family


def _fits(bounds: Any, counts: Any) -> bool:
    if not isinstance(bounds, list) or not isinstance(counts, list) or len(counts) != len(bounds) + 1 or len(counts) > look.ITEMS_MAX:
        return False
    if any(look.number(each) is None for each in bounds + counts) or not all(isinstance(each, int) and each >= 0 for each in counts):
        return False
    return bounds == sorted(set(map(float, bounds)))


class _Collector:
    def __init__(self, families: Callable[[], Iterator[Family]]) -> None:
        self.collect = families


def render(families: Callable[[], Iterator[Family]], accept: str) -> tuple[str, bytes]:
    """(content type, text). Only two versions are written, so a request's words do not come back in the answer's header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(families))
    ProcessCollector(registry=registry)
    if OPENMETRICS in accept:
        return openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(registry)
    return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)
