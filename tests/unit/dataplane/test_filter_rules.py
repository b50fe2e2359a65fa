# SPDX-License-Identifier: GPL-3.0-or-later
"""The TAP's filter as text, and what nft says of it. Real frames are judged in tests/system."""

from __future__ import annotations

import pytest
from plover.config.settings import Config
from plover.dataplane import filter_rules
from plover.dataplane.tap_filter import counts
from plover.errors import NetworkError
from settings import settings


def test_the_table_is_replaced_in_one_transaction():
    text = filter_rules.replace("plover0", Config(settings("primary")).nics[0].given)
    name = "netdev plover_tap_plover0"
    assert text.startswith(f"table {name}\ndelete table {name}\ntable {name} {{\n")
    assert filter_rules.remove("plover0") == f"table {name}\ndelete table {name}\n"


@pytest.mark.parametrize(
    "said", [b"", b"{", b"[]", b'{"nftables": [{"counter": {}}]}', b'{"nftables": [{"counter": {"name": "x", "packets": "y"}}]}']
)
def test_nonsense_of_nft_is_refused(said):
    with pytest.raises(NetworkError, match="nothing that can be read"):
        counts(said)
