# SPDX-License-Identifier: GPL-3.0-or-later
"""The XML of a domain, read without trust: bounded, and without a document type, so no entity can grow or name a file. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.parsers import expat

from ..errors import ConfigError, plain

BYTES_MAX = 1 << 20
ELEMENTS_MAX, DEPTH_MAX = 20_000, 64
WORDS_MAX = 120  # of what is quoted from the file
NAMESPACE = " "  # between the namespace of an element and its name
REMEDY = "give the output of 'virsh dumpxml NAME'"


def parse(data: bytes) -> Element:
    """The element C(domain). Raises ConfigError."""
    if len(data) > BYTES_MAX:
        raise ConfigError(f"the file has over {BYTES_MAX} bytes, too many for a domain; {REMEDY}")
    try:
        root = _tree(data)
    except (expat.ExpatError, ParseError, ValueError, LookupError, AssertionError) as error:
        raise ConfigError(f"the file is no XML ({quoted(str(error))}); {REMEDY}") from error
    if root.tag != "domain":
        raise ConfigError(f"the file describes a {quoted(root.tag)}, not a domain; {REMEDY}")
    return root


def _tree(data: bytes) -> Element:
    builder, counted = TreeBuilder(), _Counted()
    parser = expat.ParserCreate(namespace_separator=NAMESPACE)
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        counted.begin()
        builder.start(name, attributes)

    def end(name: str) -> None:
        counted.depth -= 1
        builder.end(name)

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.Parse(data, True)
    return builder.close()


class _Counted:
    def __init__(self) -> None:
        self.depth = self.elements = 0

    def begin(self) -> None:
        self.depth, self.elements = self.depth + 1, self.elements + 1
        if self.depth > DEPTH_MAX or self.elements > ELEMENTS_MAX:
            raise ConfigError(f"the file has over {ELEMENTS_MAX} elements, or over {DEPTH_MAX} within one another; {REMEDY}")


def _refuse_doctype(*_declared: object) -> None:
    raise ConfigError(f"the file declares a document type (DOCTYPE), which no domain has; {REMEDY}")


def quoted(words: str | None, most: int = WORDS_MAX) -> str:
    """Words of the file as a message shows them."""
    words = plain((words or "").strip())
    return words if len(words) <= most else f"{words[:most]}..."


def text(element: Element | None, path: str = "") -> str:
    """Of the element, or of the one at ``path`` below it; empty if there is none."""
    found = element.find(path) if element is not None and path else element
    return (found.text or "").strip() if found is not None else ""


def attribute(element: Element | None, path: str, name: str) -> str:
    found = element.find(path) if element is not None and path else element
    return found.get(name, "").strip() if found is not None else ""


def children(element: Element | None) -> Iterator[Element]:
    return iter(element) if element is not None else iter(())
