# SPDX-License-Identifier: GPL-3.0-or-later
"""Which parts of the code an input reached. The code under test is compiled with a mark at the start of each block, which leaves
its number in a trail; two marks in a row are an edge. A tracer of the interpreter would cost ten times as much.
"""

from __future__ import annotations

import ast
import builtins
import importlib.abc
import importlib.machinery
import itertools
import sys
from collections import deque
from collections.abc import Iterable

WATCHED = ("plover.", "ansible_collections.plover.vmft.plugins.module_utils.")
TRAIL_MAX = 20_000  # of an input; the rest of its trail counts
NAME = "__plover_trail__"
_trail: deque[int] = deque(maxlen=TRAIL_MAX)
_numbers = itertools.count()
words: set[bytes] = set()  # strings and byte strings in the code under test: good parts of inputs


def clear() -> None:
    _trail.clear()


def edges() -> set[tuple[int, int]]:
    marks = list(_trail)
    return set(zip(marks, marks[1:]))


def _call() -> ast.Call:
    return ast.Call(ast.Name(NAME, ast.Load()), [ast.Constant(next(_numbers))], [])


def _marked(body: list[ast.stmt]) -> list[ast.stmt]:
    return [ast.Expr(_call()), *body]


class _Marks(ast.NodeTransformer):
    """A mark in each function, branch, loop and handler, and in front of the later operands of ``and`` and ``or``."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        documented = ast.get_docstring(node) is not None
        node.body = [self.visit(each) for each in node.body]
        node.body = node.body[:documented] + _marked(node.body[documented:])
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def _branches(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        for part in ("body", "orelse"):
            if getattr(node, part, None):
                setattr(node, part, _marked(getattr(node, part)))
        return node

    visit_If = visit_For = visit_While = visit_AsyncFor = visit_ExceptHandler = visit_match_case = _branches

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        node.values = [node.values[0], *map(_before, node.values[1:])]
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        node.body, node.orelse = _before(node.body), _before(node.orelse)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.ifs = [ast.BoolOp(ast.And(), [each, ast.UnaryOp(ast.Not(), _call())]) for each in node.ifs]
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        value = node.value.encode() if isinstance(node.value, str) else node.value
        if isinstance(value, bytes) and 1 < len(value) < 40 and b" " not in value:
            words.add(value)
        return node


def _before(node: ast.expr) -> ast.expr:
    """The expression, after a mark (which is None)."""
    return ast.BoolOp(ast.Or(), [_call(), node])


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> object:  # not from a cache, nor into one
        path = self.get_filename(fullname)
        tree = ast.fix_missing_locations(_Marks().visit(ast.parse(self.get_data(path), path)))
        return compile(tree, path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Iterable[str] | None, target: object = None) -> object:
        if not fullname.startswith(WATCHED):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install() -> None:
    """Before anything of the code under test is imported."""
    setattr(builtins, NAME, _trail.append)
    sys.meta_path.insert(0, _Finder())
