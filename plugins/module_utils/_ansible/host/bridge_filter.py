# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the host's own packet filter drop what its bridges forward? Read only.

With br_netfilter (Docker loads it), frames between two ports of a bridge pass the chains at the hook ``forward`` as if the host
routed them, and a chain whose policy is drop, as Docker and ufw have one, drops them (kernel: Documentation/networking/bridge.rst).
"""

from __future__ import annotations

import json

from .network import read, tool

SYSCTLS = {"ip": "bridge-nf-call-iptables", "ip6": "bridge-nf-call-ip6tables"}
LEGACY = {"ip": ("/proc/net/ip_tables_names", "iptables-legacy"), "ip6": ("/proc/net/ip6_tables_names", "ip6tables-legacy")}
ANY, RULES_MAX = "*", 100_000
ENDS, MEANINGLESS = ("drop", "reject"), ("counter", "comment", "log")


def found(root="/proc/sys/net/bridge"):
    """[{sysctl, chain, accepts}] of each chain that drops what no rule accepts. ``accepts``: names of bridges that some rule lets
    through, or ANY."""
    families = [family for family, sysctl in SYSCTLS.items() if read(f"{root}/{sysctl}") == "1"]
    if not families:
        return []
    out = nft(tool("nft", "-j", "list", "ruleset"), families)
    for family in families:
        names, program = LEGACY[family]
        if "filter" in read(names).split():
            out += legacy(tool(program, "-S"), family)
    return out


def nft(text, families):
    """From the output of `nft -j list ruleset`; nothing if it is none."""
    try:
        entries = json.loads(text or "{}").get("nftables", [])[:RULES_MAX]
    except (ValueError, AttributeError):
        return []
    chains = [e["chain"] for e in entries if isinstance(e, dict) and e.get("chain", {}).get("hook") == "forward"]
    rules = [e["rule"] for e in entries if isinstance(e, dict) and "rule" in e]
    out = []
    for chain in chains:
        where = (chain.get("family"), chain.get("table"))
        table = [rule for rule in rules if (rule.get("family"), rule.get("table")) == where]
        base = [rule.get("expr", []) for rule in table if rule.get("chain") == chain.get("name")]
        drops = chain.get("policy") == "drop" or bool(base and any(_always(base[-1], end) for end in ENDS))
        hit = next((family for family in families if where[0] in (family, "inet")), None)
        if drops and hit and not any(_always(expr, "accept") for expr in base):
            accepts = sorted({name for rule in table for name in _accepted(rule.get("expr", []))})
            out.append({"sysctl": SYSCTLS[hit], "chain": "{} {} ({})".format(where[1], chain.get("name"), where[0]), "accepts": accepts})
    return out


def _always(expr, verdict):
    """The rule has that verdict for whatever comes."""
    words = [key for part in expr for key in part]
    return verdict in words and all(word == verdict or word in MEANINGLESS for word in words)


def _accepted(expr):
    """The bridges whose frames a rule accepts."""
    if not any("accept" in part for part in expr):
        return []
    if any(part.get("xt", {}).get("name") == "physdev" for part in expr if isinstance(part.get("xt"), dict)):
        return [ANY]
    out = []
    for match in (part["match"] for part in expr if "match" in part):
        key = match.get("left", {}).get("meta", {}).get("key", "") if isinstance(match.get("left"), dict) else ""
        if key in ("iifname", "oifname", "iif", "oif", "ibrname", "obrname") and match.get("op") == "==":
            right = match.get("right")
            out += [str(name) for name in (right.get("set", []) if isinstance(right, dict) else [right])]
    return out


def legacy(text, family):
    """From the output of `iptables -S`."""
    lines = [line.split() for line in text.splitlines()[:RULES_MAX]]
    accepted = [words for words in lines if words[-2:] == ["-j", "ACCEPT"]]
    if ["-P", "FORWARD", "DROP"] not in lines or ["-A", "FORWARD", "-j", "ACCEPT"] in lines:
        return []
    named = {words[n + 1] for words in accepted for n, word in enumerate(words[:-1]) if word in ("-i", "-o")}
    accepts = [ANY] if any("--physdev-is-bridged" in words for words in accepted) else sorted(named)
    return [{"sysctl": SYSCTLS[family], "chain": f"FORWARD of {LEGACY[family][1]}", "accepts": accepts}]
