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
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from hydra._internal.utils import _locate

from stelab import arguments
from stelab.arguments import Only
from stelab.engine.errors import first_line

# Keys of a node that are Hydra's, not arguments of its target.
HYDRA_KEYS = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")


@dataclass(frozen=True, eq=False)
class Signature:
    """What a target takes by keyword."""

    annotations: dict[str, Any] = field(default_factory=dict)  # `Any` where a type is not judged
    # Keyword-only names without a default. (Positional ones are data that code passes, such as
    # the parameters of an optimizer.)
    required: frozenset[str] = frozenset()
    positional: frozenset[str] = frozenset()  # names that are taken by position only
    open: bool = False  # whether any other name is taken too (**kwargs)


@cache
def read_signature(target: str) -> Signature:
    """Return the keyword parameters of the class or function with the dotted name `target`.

    What they refuse of a target that is not stelab's, `import_signature` may accept. Both raise
    LookupError if there is no such thing, its import fails, or it cannot be called.
    """
    module, _, name = target.rpartition(".")
    if not module or not all(part.isidentifier() for part in target.split(".")):
        raise LookupError(f"'{target}' is not a dotted name like 'package.module.Name'")
    try:
        definition = _find(module, name)
        if definition is None:
            raise LookupError(f"there is no '{name}' in {module}")
        return _signature(*definition, strict=is_own(target))
    except (_NoSource, LookupError, ImportError, RecursionError) as error:
        if is_own(target) and not isinstance(error, _NoSource):
            raise
        return import_signature(target)


@cache
def import_signature(target: str) -> Signature:
    """Import `target` and return its keyword parameters; open where Python does not know them."""
    try:
        thing = _locate(target)  # as `instantiate` will
    except (Exception, SystemExit) as error:
        raise LookupError(why_not_found(target, error.__cause__ or error)) from error
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
        annotations={p.name: _judged(p.annotation, names, strict=False) for p in named},
        required=frozenset(
            p.name for p in outermost if p.kind == p.KEYWORD_ONLY and p.default is p.empty
        ),
        positional=frozenset(p.name for p in parameters if p.kind == p.POSITIONAL_ONLY),
        open=any(p.kind == p.VAR_KEYWORD for p in (*parameters, *outermost)),
    )


def is_own(target: str) -> bool:
    """Whether a target is stelab's: its source is plain, and its types are what it takes."""
    return target.startswith(("stelab.", "hydra_plugins.stelab."))


def why_not_found(target: str, error: BaseException) -> str:
    """Return why a target is not found, from what its import raised."""
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
    """The source does not tell: it is compiled, or what stands there is no class or function."""


def _signature(module: str, node: ast.AST, *, strict: bool) -> Signature:
    if isinstance(node, ast.FunctionDef):
        return _parameters(node.args, strict=strict)
    if not isinstance(node, ast.ClassDef):
        raise _NoSource
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _parameters(item.args, strict=strict)
    for base in node.bases:
        if isinstance(base, ast.Name) and (definition := _find(module, base.id)):
            return _signature(*definition, strict=strict)
    return Signature()


def _parameters(arguments: ast.arguments, *, strict: bool) -> Signature:
    named = [a for a in (*arguments.args, *arguments.kwonlyargs) if a.arg != "self"]
    hyperparameters = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return Signature(
        annotations={
            a.arg: _judged(a.annotation and ast.unparse(a.annotation), _NAMES, strict=strict)
            for a in named
        },
        required=frozenset(a.arg for a, default in hyperparameters if default is None),
        open=arguments.kwarg is not None,
    )


_NAMES = {**vars(typing), **vars(arguments)}  # what annotations in a source are made of


def _judged(annotation: Any, names: dict[str, Any], *, strict: bool) -> Any:
    """Return the type that an annotation, or its source, asks for; `Any` if it does not decide.

    stelab's own annotations do (`strict`), and `stelab.arguments` wherever they are used. Those of
    others are often narrower than what their code takes: torchvision's `RandomErasing` has
    ``value: float``, which may be ``"random"``.
    """
    try:
        kind = eval(annotation, dict(names)) if isinstance(annotation, str) else annotation
    except Exception:  # made of something else
        return Any
    return kind if kind is not None and (strict or _has_range(kind)) else Any


def _has_range(kind: Any) -> bool:
    """Whether a type is of `stelab.arguments`, or made of one."""
    if any(isinstance(entry, Only) for entry in getattr(kind, "__metadata__", ())):
        return True
    return any(map(_has_range, typing.get_args(kind)))


def _find(module: str, name: str) -> tuple[str, ast.AST] | None:
    """Find where `name` is defined, following imports from `module` on."""
    for node in _flat(_statements(module)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
            return module, node
        if isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name: alias.name for alias in node.names}
            if name in names:
                is_package = node.level and _source(module).name == "__init__.py"
                package = module if is_package else module.rpartition(".")[0]
                home = resolve_name("." * node.level + (node.module or ""), package)
                return _find(home, names[name])
    return None


def _flat(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements, those under an ``if`` (of TYPE_CHECKING, mostly) too."""
    for node in statements:
        yield node
        if isinstance(node, ast.If):
            yield from _flat([*node.body, *node.orelse])


@cache
def _statements(module: str) -> list[ast.stmt]:
    path = _source(module)
    try:
        return ast.parse(path.read_bytes()).body
    except SyntaxError as error:
        error.filename = str(path)
        raise LookupError(why_not_found(module, error)) from error
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise LookupError(f"{path}: its source cannot be read: {error}") from error


def _source(module: str) -> Path:
    """Return the file of `module`. Only the top-level package is looked up, none is imported."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ValueError, ImportError):
        spec = None
    if spec is None:
        raise LookupError(f"there is no package '{top}' (is it installed, or on PYTHONPATH?)")
    if rest and spec.submodule_search_locations is None:  # such as os.path
        raise _NoSource
    files = [] if rest or not spec.origin else [spec.origin]
    for folder in spec.submodule_search_locations or []:  # a namespace package has several
        path = os.path.join(folder, *rest)
        files += [os.path.join(path, "__init__.py"), *(f"{path}{end}" for end in all_suffixes())]
    file = next(filter(os.path.isfile, files), None)
    if file is None:
        raise LookupError(f"there is no module '{module}'")
    if not file.endswith(".py"):
        raise _NoSource
    return Path(file)
