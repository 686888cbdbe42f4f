"""Read a constructor's parameters from its source, without importing it.

A `_target_` in a YAML file names a class or function whose signature is its schema. Importing
the target would import torch, which takes seconds; its source says the same in milliseconds.
"""

from __future__ import annotations

import ast
import builtins
import os
import typing
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import all_suffixes
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stelab import arguments


@dataclass(frozen=True)
class Signature:
    """What a target takes by keyword.

    Attributes:
        annotations: Parameter names and their types; `Any` where the type needs an import.
        required: Keyword-only names without a default. (What is positional is data that code
            passes, such as the parameters of an optimizer.)
        open: Whether any other name is taken too (``**kwargs``).
    """

    annotations: dict[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    open: bool = False


@cache
def read_signature(target: str) -> Signature:
    """Return the keyword parameters of the class or function with the dotted name `target`.

    Raises:
        LookupError: There is no such module, its source is broken, or it defines no such name.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise LookupError(f"'{target}' is not a dotted name like 'package.module.Name'")
    try:
        found = _find(module, name)
        if found is None:
            raise LookupError(f"there is no '{name}' in {module}")
        return _signature(*found)
    except _NoSource:
        return Signature(open=True)  # its arguments are checked when it is built
    except RecursionError as error:
        raise LookupError(f"the imports of {module} lead back to themselves") from error


class _NoSource(Exception):
    """A module that is built in, frozen or compiled."""


def defines(target: str, method: str) -> bool:
    """Tell whether the class with the dotted name `target` has a `method` of its own.

    Raises:
        LookupError: There is no such module.
    """
    module, _, name = target.rpartition(".")
    _, node = _find(module, name) or (module, None)
    body = node.body if isinstance(node, ast.ClassDef) else []
    return any(isinstance(item, ast.FunctionDef) and item.name == method for item in body)


def _signature(module: str, node: ast.AST) -> Signature:
    if isinstance(node, ast.FunctionDef):
        return _parameters(node.args)
    if not isinstance(node, ast.ClassDef):
        return Signature(open=True)  # an assignment: nothing to read
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _parameters(item.args)
    for base in node.bases:
        found = _find(module, base.id) if isinstance(base, ast.Name) else None
        if found is not None:
            return _signature(*found)
    return Signature()


def _parameters(arguments: ast.arguments) -> Signature:
    positional = [a for a in (*arguments.posonlyargs, *arguments.args) if a.arg != "self"]
    hyperparameters = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return Signature(
        annotations={a.arg: _evaluate(a.annotation) for a in (*positional, *arguments.kwonlyargs)},
        required=frozenset(a.arg for a, default in hyperparameters if default is None),
        open=arguments.kwarg is not None,
    )


_NAMES = {**vars(builtins), **vars(typing), **vars(arguments)}


def _evaluate(annotation: ast.expr | None) -> Any:
    """Evaluate an annotation made of builtins, typing and `stelab.arguments`; else `Any`."""
    if annotation is None:
        return Any
    try:
        return eval(ast.unparse(annotation), dict(_NAMES))
    except Exception:
        return Any


def _find(module: str, name: str) -> tuple[str, ast.AST] | None:
    """Find where `name` is defined, following imports from `module` on."""
    for node in _statements(module):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and name in {
            t.id for t in node.targets if isinstance(t, ast.Name)
        }:
            return module, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _find(_absolute(module, node), alias.name)
    return None


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".") if _source(module).name == "__init__.py" else module.split(".")[:-1]
    kept = package[: len(package) - (node.level - 1)]
    return ".".join([*kept, *([node.module] if node.module else [])])


@cache
def _statements(module: str) -> list[ast.stmt]:
    path = _source(module)
    try:
        return ast.parse(path.read_bytes()).body
    except SyntaxError as error:
        raise LookupError(
            f"{path}:{error.lineno or 1}: its source is broken: {error.msg}"
        ) from error
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise LookupError(f"{path}: its source cannot be read: {error}") from error


def _source(module: str) -> Path:
    """Return the file of `module`. Only the top-level package is looked up, none is imported.

    Raises:
        LookupError: There is none.
        _NoSource: It is no text.
    """
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ValueError, ImportError):
        spec = None
    if spec is None:
        raise LookupError(f"there is no package '{top}' (is it installed, or on PYTHONPATH?)")
    if spec.submodule_search_locations is None and rest:  # such as os.path
        raise _NoSource
    if not rest and spec.origin:
        return _text(Path(spec.origin))
    for folder in spec.submodule_search_locations or []:  # a namespace package has several
        path = Path(folder).joinpath(*rest)
        for found in (path / "__init__.py", *(Path(f"{path}{end}") for end in all_suffixes())):
            if os.path.isfile(found):
                return _text(found)
    raise LookupError(f"there is no module '{module}'")


def _text(path: Path) -> Path:
    if path.suffix != ".py" or not path.is_file():
        raise _NoSource
    return path
