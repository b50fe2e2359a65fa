# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses and routes as `ip -j` tells them, and the words that make the same on another device. Pure."""

from __future__ import annotations

MADE_BY_THE_KERNEL = ("kernel", "ra", "redirect")
ADDRESS_KEYS = ("family", "local", "address", "prefixlen", "broadcast", "dynamic", "noprefixroute", "metric")
ROUTE_KEYS = ("dst", "table", "gateway", "via", "dev", "protocol", "scope", "prefsrc", "metric", "pref", "flags", "metrics", "nexthops")
STATES = ("type", "cache", "expires", "age", "users")  # of a route; nothing to carry
FOREVER_S = 4294967295


def addresses(links):
    """device -> its configured addresses: the kernel derives those of router advertisements again on another device."""
    out = {}
    for link in links:
        for a in link.get("addr_info", []):
            advertised = a["family"] == "inet6" and (a.get("dynamic") or a.get("temporary"))
            if a.get("scope") in ("global", "site") and not advertised:
                keys = [*ADDRESS_KEYS, *(("valid_life_time", "preferred_life_time") if a.get("dynamic") else ())]
                out.setdefault(link["ifname"], []).append({key: a[key] for key in keys if key in a})
    return out


def address_key(a):
    return a["local"], a.get("address", ""), a["prefixlen"]


def address_words(verb, a, device):
    peer = ["peer", "{}/{}".format(a["address"], a["prefixlen"])] if "address" in a else []
    words = ["ip", "addr", verb, *([a["local"], *peer] if peer else ["{}/{}".format(a["local"], a["prefixlen"])]), "dev", device]
    if verb == "del":
        return words
    words += ["broadcast", a["broadcast"]] if "broadcast" in a else []
    words += ["nodad"] if a["family"] == "inet6" else []
    words += ["noprefixroute"] if a.get("noprefixroute") else []
    words += ["metric", str(a["metric"])] if "metric" in a else []
    if a.get("dynamic") and a.get("valid_life_time", FOREVER_S) < FOREVER_S:
        words += ["valid_lft", str(a["valid_life_time"]), "preferred_lft", str(a["preferred_life_time"])]
    return words


def routes(listed, family):
    """device -> its routes of every table, but for those that the kernel makes itself. One with several next hops belongs to
    each of their devices. ``unknown``: what of a route is not carried over."""
    out = {}
    for r in listed:
        if _the_kernels(r):
            continue
        route = {key: r[key] for key in ROUTE_KEYS if r.get(key) not in (None, [])}
        route["family"] = family
        if unknown := sorted(set(r) - {*ROUTE_KEYS, *STATES}):
            route["unknown"] = unknown
        for device in dict.fromkeys(hop["dev"] for hop in hops(route) if "dev" in hop):
            out.setdefault(device, []).append(route)
    return out


def _the_kernels(r):
    by_itself = r.get("protocol") in MADE_BY_THE_KERNEL or r.get("table") == "local" or r.get("type", "unicast") != "unicast"
    return by_itself or r.get("dst", "").startswith(("fe80", "ff00"))


def hops(route):
    return route.get("nexthops") or [route]


def route_key(route):
    """Two routes with the same one lead the same way, whatever their metric."""
    ways = sorted(hop.get("gateway") or hop.get("via", {}).get("host", "") for hop in hops(route))
    return route["family"], route["dst"], route.get("table", ""), tuple(ways)


def route_words(verb, route, source, target):
    """``replace`` the route, with ``target`` wherever it has ``source``; or ``del``."""
    words = ["ip", route["family"], "route", verb, route["dst"]]
    for word, key in (("table", "table"), ("proto", "protocol"), ("metric", "metric")):
        words += [word, str(route[key])] if key in route else []
    if verb == "del":
        return words if "nexthops" in route else [*words, "dev", source]
    for word, key in (("scope", "scope"), ("src", "prefsrc"), ("pref", "pref")):
        words += [word, str(route[key])] if key in route else []
    for metrics in route.get("metrics", []):
        words += [word for key, value in metrics.items() for word in (key, str(value))]
    if "nexthops" not in route:
        return words + _hop_words(route, source, target)
    for hop in route["nexthops"]:
        words += ["nexthop", *_hop_words(hop, source, target), *(["weight", str(hop["weight"])] if "weight" in hop else [])]
    return words


def _hop_words(hop, source, target):
    words = ["via", hop["gateway"]] if "gateway" in hop else []
    words = ["via", hop["via"]["family"], hop["via"]["host"]] if "via" in hop else words
    words += ["dev", target if hop.get("dev") in (source, None) else hop["dev"]]
    return words + (["onlink"] if "onlink" in hop.get("flags", []) else [])


def bound(rules, device):
    """Of the policy's rules (`ip -j rule`), those that name the device."""
    return [rule for rule in rules if device in (rule.get("iif"), rule.get("oif"))]
