# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx's settings for the documents' site; tools/make_docs_site.py makes its folder of sources."""

from __future__ import annotations

project = "Plover"
author = "The Plover developers"
extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"
# As on a forge: each heading has an anchor, by its words.
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Plover"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
suppress_warnings = ["misc.highlighting_failure"]  # no fault: a block in a language that cannot be coloured
antsibull_ext_color_scheme = "default-autodark"  # of the tables of options
