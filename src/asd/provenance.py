"""Which code makes a file: a digest that changes when, and only when, the code that a script runs changes."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SILENT = {"settings", "command", "progress", "errors", "provenance"}
"""Rooms that cannot change what a script writes: settings reach it as flags, the others only talk or watch."""


def code_digest(script: Path, package: Path, unused: frozenset[str] = frozenset()) -> str:
    """Return a digest of a script and of the package's modules that it reaches through its imports.

    Syntax trees are hashed, so comments, docstrings, layout and file times do not count.

    Args:
        script: the script's file.
        package: the folder of the package `asd`.
        unused: modules left out (with what only they reach) because this use of the script does not run them.
    """
    found: dict[str, str] = {}
    waiting = {"": script}
    while waiting:
        name, path = waiting.popitem()
        found[name], imported = _read(path.read_text(encoding="utf-8"))
        for module in imported - SILENT - unused - set(found):
            if (package / f"{module}.py").exists():
                waiting[module] = package / f"{module}.py"
    text = "\n".join(f"{name}: {found[name]}" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache  # a room is reached from many scripts, and each job of a cluster reads the rules anew
def _read(source: str) -> tuple[str, frozenset[str]]:
    """The digest of a source's syntax tree, and the modules of `asd` that it imports."""
    tree = _tree(source)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(_imported(tree))


def _tree(source: str) -> ast.Module:
    """The syntax tree of a source without docstrings (of modules, classes, functions and fields)."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [one for one in node.body if not _is_text(one)] or [ast.Pass()]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imported(tree: ast.Module) -> set[str]:
    """The names of the modules of `asd` that a tree imports anywhere but for type checking."""
    names = set()
    for node in _running(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("asd.") for alias in node.names if alias.name.startswith("asd.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "asd":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asd."):
            names.add(node.module.removeprefix("asd."))
    return names


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"):
            yield from _running(child)
