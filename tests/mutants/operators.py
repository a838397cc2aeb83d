"""The mutations of one Python file: each one changes one expression or statement."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}

Change = tuple[str, ast.expr | ast.stmt, ast.AST]
"""A mutation in words, the node that it replaces, and the new node."""


class Mutation(NamedTuple):
    """One mutation of a file."""

    line: int
    what: str
    """The mutation in words, with the code before and after."""
    source: str
    """The whole mutated file."""


def mutations(source: str) -> Iterator[Mutation]:
    """Every mutation of a file's functions. Texts, annotations and docstrings are never mutated."""
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef):
            for statement in function.body:
                yield from _of(source, statement)


def _of(source: str, root: ast.AST) -> Iterator[Mutation]:
    for node in _walk(root):
        change = _of_statement if isinstance(node, ast.stmt) else _of_expression
        for what, before, after in change(node):
            yield Mutation(node.lineno, _words(what, before, after), _replaced(source, before, after))


def _walk(root: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """The nodes that can be mutated; a nested function is walked by itself."""
    if isinstance(root, ast.FunctionDef | ast.ClassDef | ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        if isinstance(root, ast.Raise):
            yield root
        return
    if isinstance(root, ast.expr | ast.stmt):
        yield root
    for name, value in ast.iter_fields(root):
        if name not in ("annotation", "returns", "type_comment"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _walk(child)


def _of_expression(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare(left, [op], [right]) if type(op) in COMPARISONS:
            yield "swap comparison", node, ast.Compare(left, [COMPARISONS[type(op)]()], [right])
        case ast.BoolOp(op, values):
            yield "swap and/or", node, ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.Not(), operand):
            yield "drop not", node, operand
        case ast.IfExp(test):
            yield "negate condition", test, ast.UnaryOp(ast.Not(), test)
        case ast.BinOp(left, ast.Add() | ast.Sub() as op, right) if not isinstance(left, ast.List | ast.Tuple | ast.JoinedStr):
            yield "swap plus/minus", node, ast.BinOp(left, ast.Sub() if isinstance(op, ast.Add) else ast.Add(), right)
        case ast.Constant(bool() as value):
            yield "flip constant", node, ast.Constant(not value)
        case ast.Constant(int() as value):
            yield "off by one", node, ast.Constant(value + 1)


def _of_statement(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.If(ast.Name() | ast.Attribute() | ast.Call() as test):
            yield "negate condition", test, ast.UnaryOp(ast.Not(), test)
        case ast.Return(value) if value is not None and not isinstance(value, ast.Constant):
            yield "return None", node, ast.Return(ast.Constant(None))
        case ast.Raise():
            yield "drop raise", node, ast.Pass()
        case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Assign([ast.Attribute() | ast.Subscript()]):
            yield "drop statement", node, ast.Pass()


def _replaced(source: str, node: ast.expr | ast.stmt, after: ast.AST) -> str:
    """The source with the text of `node` replaced."""
    lines = source.encode().splitlines(keepends=True)
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    head, tail = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
    text = ast.unparse(ast.fix_missing_locations(after))
    text = f"({text})" if isinstance(after, ast.expr) else text
    return b"".join([*lines[:first], head, text.encode(), tail, *lines[last + 1 :]]).decode()


def _words(what: str, node: ast.AST, after: ast.AST) -> str:
    before = " ".join(ast.unparse(node).split())
    return f"{what}: {before[:90]}" if isinstance(after, ast.Pass | ast.Return) else f"{what}: {before[:60]} -> {ast.unparse(after)[:60]}"
