"""A digest that changes if, and only if, the code that a script runs changes."""

import ast
import hashlib
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

SILENT = {"settings", "command", "progress", "errors", "code_digest"}
"""Modules that cannot change what a script writes: settings reach it as flags, the others only report or observe."""


def code_digest(
    script: Path,
    package: Path,
    unused: frozenset[str] = frozenset(),
    by_name: Mapping[str, Collection[str]] | None = None,
) -> str:
    """Return a digest of a script and of the package's modules that it reaches through its imports.

    Syntax trees are hashed, so comments, docstrings, layout and file times do not count.

    Args:
        script: the script's file.
        package: the folder of the package `asd`.
        unused: modules ("gaussian", "dcase.download") that this use of the script does not run. They are left out,
            together with the modules that are reached only through them.
        by_name: module -> the modules that it imports by a name that a syntax tree does not have.
    """
    found: dict[str, str] = {}
    waiting = {"": script}
    while waiting:
        name, path = waiting.popitem()
        found[name], imported = _read(path.read_text(encoding="utf-8"))
        imported |= set((by_name or {}).get(name, ()))
        reached = {one for one in imported if one.partition(".")[0] not in SILENT}
        for module in reached - unused - set(found):
            if file := _file(package, module):
                waiting[module] = file
    text = "\n".join(f"{name}: {found[name]}" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file(package: Path, module: str) -> Path | None:
    """The file of a module or of a package within `package`; None if the name is neither."""
    stem = package.joinpath(*module.split("."))
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)


@cache  # many scripts reach the same module, and on a cluster each job reads the rules again
def _read(source: str) -> tuple[str, frozenset[str]]:
    """The digest of a source's syntax tree, and the names within `asd` that it imports."""
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
    """The names within `asd` that a tree imports anywhere except for type checking.

    A name may be a package, a module or a member of a module ("results", "results.metrics",
    "results.metrics.interval"); importing a module also imports the packages that contain it.
    """
    names = set()
    for node in _running(tree):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for parts in (name.split(".") for name in imported):
            if parts[0] == "asd":
                names |= {".".join(parts[1:end]) for end in range(2, len(parts) + 1)}
    return names


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node except those under `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"):
            yield from _running(child)
