"""What a `_target_` takes: its signature is the schema of its node.

The source of a module says in milliseconds what its import says in seconds, because most targets
import torch. So the source is read first. Where it does not speak plainly (star imports, bases in
other modules, dataclasses, class methods, what is compiled) the target is imported and inspected,
as it is before anything foreign is refused: only Python itself knows what Python accepts.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import os
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import all_suffixes
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra._internal.utils import _locate

from stelab import arguments
from stelab.arguments import Only
from stelab.engine.errors import first_line


@dataclass(frozen=True, eq=False)
class Signature:
    """What a target takes by keyword.

    Attributes:
        annotations: Parameter names and their types; `Any` where a type is not judged.
        required: Keyword-only names without a default. (What is positional is data that code
            passes, such as the parameters of an optimizer.)
        positional: Names that are taken by position only.
        open: Whether any other name is taken too (``**kwargs``).
    """

    annotations: dict[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    positional: frozenset[str] = frozenset()
    open: bool = False


@cache
def read_signature(target: str) -> Signature:
    """Return the keyword parameters of the class or function with the dotted name `target`.

    They are read from its source where that is plain. What they would refuse of a target that is
    not stelab's, `import_signature` may accept.

    Raises:
        LookupError: There is no such thing, its import fails, or it cannot be called.
    """
    module, _, name = target.rpartition(".")
    if not module or not all(part.isidentifier() for part in target.split(".")):
        raise LookupError(f"'{target}' is not a dotted name like 'package.module.Name'")
    try:
        found = _find(module, name)
        if found is None:
            raise LookupError(f"there is no '{name}' in {module}")
        return _signature(*found, own=is_own(target))
    except (_NoSource, LookupError, RecursionError) as error:
        if is_own(target) and not isinstance(error, _NoSource):
            raise
        return import_signature(target)


@cache
def import_signature(target: str) -> Signature:
    """Import `target` and return its keyword parameters; open where Python does not know them.

    Raises:
        LookupError: As `read_signature`.
    """
    thing = _imported(target)
    if not callable(thing):
        raise LookupError(f"it must be a class or function, but is of type {type(thing).__name__}")
    try:
        parameters = inspect.signature(thing).parameters.values()
        # A decorator may take more than what it decorates, whose signature it shows.
        outermost = inspect.signature(thing, follow_wrapped=False).parameters.values()
        constructor = thing.__init__ if isinstance(thing, type) else thing  # type: ignore[misc]
        names = getattr(inspect.unwrap(constructor), "__globals__", {})
    except Exception:  # a builtin without one, or whatever a __signature__ raises
        return Signature(open=True)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return Signature(
        annotations={p.name: _judged(p.annotation, names, own=False) for p in named},
        required=frozenset(
            p.name for p in outermost if p.kind == p.KEYWORD_ONLY and p.default is p.empty
        ),
        positional=frozenset(p.name for p in parameters if p.kind == p.POSITIONAL_ONLY),
        open=any(p.kind == p.VAR_KEYWORD for p in (*parameters, *outermost)),
    )


def is_own(target: str) -> bool:
    """Tell whether a target is stelab's: its source is plain, and its types are what it takes."""
    return target.startswith(("stelab.", "hydra_plugins.stelab."))


def _imported(target: str) -> Any:
    """Return what `instantiate` will find.

    Raises:
        LookupError: It will find nothing: says why.
    """
    try:
        return _locate(target)
    except (Exception, SystemExit) as error:
        raise LookupError(why_not_found(target, error.__cause__ or error)) from error


def why_not_found(target: str, error: BaseException) -> str:
    """Say why a target is not found, from what its import raised."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno or 1}: its source is broken: {error.msg}"
    if isinstance(error, AttributeError) and hasattr(error, "obj"):
        return str(error)
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or not f"{target}.".startswith(f"{missing}."):
        return f"its import fails: {type(error).__name__}: {first_line(error)}"
    parent, _, name = missing.rpartition(".")
    if not parent:
        return f"there is no package '{name}' (is it installed, or on PYTHONPATH?)"
    near = difflib.get_close_matches(name, dir(_locate(parent)), n=1, cutoff=0.6)
    return f"there is no '{name}' in {parent}" + (f"; did you mean '{near[0]}'?" if near else "")


class _NoSource(Exception):
    """The source does not say it: it is compiled, or what stands there is no class or function."""


def _signature(module: str, node: ast.AST, *, own: bool) -> Signature:
    if isinstance(node, ast.FunctionDef):
        return _parameters(node.args, own=own)
    if not isinstance(node, ast.ClassDef):
        raise _NoSource
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _parameters(item.args, own=own)
    for base in node.bases:
        found = _find(module, base.id) if isinstance(base, ast.Name) else None
        if found is not None:
            return _signature(*found, own=own)
    return Signature()


def _parameters(arguments: ast.arguments, *, own: bool) -> Signature:
    named = [a for a in (*arguments.args, *arguments.kwonlyargs) if a.arg != "self"]
    hyperparameters = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return Signature(
        annotations={
            a.arg: _judged(a.annotation and ast.unparse(a.annotation), _NAMES, own=own)
            for a in named
        },
        required=frozenset(a.arg for a, default in hyperparameters if default is None),
        open=arguments.kwarg is not None,
    )


_NAMES = {**vars(typing), **vars(arguments)}


def _judged(annotation: Any, names: dict[str, Any], *, own: bool) -> Any:
    """Return the type that a configuration must have; `Any` where an annotation does not decide.

    stelab's own annotations do, and `stelab.arguments` wherever they are used. Those of others are
    often narrower than what their code takes: torchvision's `RandomErasing` has ``value: float``,
    which may be ``"random"``.

    Args:
        annotation: A type, or its source.
        names: What the source may be made of, besides builtins.
        own: Whether it is stelab's.
    """
    try:
        kind = eval(annotation, dict(names)) if isinstance(annotation, str) else annotation
    except Exception:  # made of something else
        return Any
    return kind if kind is not None and (own or _has_range(kind)) else Any


def _has_range(kind: Any) -> bool:
    """Tell whether a type is of `stelab.arguments`, or made of one."""
    metadata = getattr(kind, "__metadata__", ())
    return any(isinstance(entry, Only) for entry in metadata) or any(
        map(_has_range, typing.get_args(kind))
    )


def _find(module: str, name: str) -> tuple[str, ast.AST] | None:
    """Find where `name` is defined, following imports from `module` on."""
    for node in _flat(_statements(module)):
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


def _flat(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements, those under an ``if`` (of TYPE_CHECKING, mostly) too."""
    for node in statements:
        yield node
        if isinstance(node, ast.If):
            yield from _flat([*node.body, *node.orelse])


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
