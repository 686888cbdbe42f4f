"""JSON and YAML that anybody may have written: plain values within bounds, or one reason."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.constructor import SafeConstructor

from stelab.engine.files import read_bounded
from stelab.engine.terminal import brief

# Bounds, of YAML but for the first:
DEPTH = 32  # of nested tables and lists; those of stelab are four deep
VALUES = 10_000  # in a document, tables and lists among them
KEYS = 500  # in a document; a run's configuration has about 130
TEXT = 10_000  # characters of a text
_NUMBER = 100  # characters: some of those that YAML knows take a time that grows with the square
_KEY = 100  # characters

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast
_SAFE = SafeConstructor()
_SCALARS = ("int", "float", "bool", "null")
_TAG = "tag:yaml.org,2002:"


def read_json(path: Path, *, limit: int) -> Any:
    """Read a JSON document; what no file can hold as text (lone surrogates, NUL) is escaped."""
    content = read_bounded(path, limit=limit)
    try:
        return _encodable(json.loads(content.decode()))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 ({error.reason})") from error
    except RecursionError:
        raise ValueError(f"{path.name} is nested more than {DEPTH} deep") from None
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from error


def _encodable(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    if isinstance(value, dict | list) and depth == DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return {_encodable(k): _encodable(entry, depth + 1) for k, entry in value.items()}
    if isinstance(value, list):
        return [_encodable(entry, depth + 1) for entry in value]
    return value


def read_yaml(path: Path, *, limit: int) -> Any:
    """Read plain YAML; refuse what makes more of a text than stands there: aliases, tags, dates."""
    content = read_bounded(path, limit=limit)
    try:
        node = yaml.compose(content, Loader=_LOADER)
        return None if node is None else _Plain().value(node)
    except RecursionError:  # without libyaml
        raise ValueError(f"{path.name} is nested more than {DEPTH} deep") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path.name}{where}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: {brief(error)}") from error


class _Plain:
    """Makes plain values of YAML's nodes."""

    def __init__(self) -> None:
        self.known: set[int] = set()
        self.keys = 0

    def value(self, node: yaml.Node, depth: int = 0) -> Any:
        """Return the value of a node, or refuse it."""
        if id(node) in self.known:
            _refuse(node, "aliases are not read")
        self.known.add(id(node))
        if len(self.known) > VALUES:
            _refuse(node, f"there are more than {VALUES} values")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if depth == DEPTH:
            _refuse(node, f"nested more than {DEPTH} deep")
        if node.tag == f"{_TAG}map" and isinstance(node, yaml.MappingNode):
            return self._table(node, depth + 1)
        if node.tag == f"{_TAG}seq":
            return [self.value(entry, depth + 1) for entry in node.value]
        _refuse(node, f"the tag {brief(node.tag)} is not read")

    def _table(self, node: yaml.MappingNode, depth: int) -> dict[Any, Any]:
        self.keys += len(node.value)
        if self.keys > KEYS:
            _refuse(node, f"there are more than {KEYS} keys")
        table: dict[Any, Any] = {}
        for key_node, entry in node.value:
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or len(key_node.value) > _KEY:
                _refuse(key_node, f"a key must be a text of at most {_KEY} characters")
            if key in table:
                _refuse(key_node, f"{brief(key)} is there twice")
            table[key] = self.value(entry, depth)
        return table


def _scalar(node: yaml.ScalarNode) -> Any:
    text, kind = node.value, node.tag.removeprefix(_TAG)
    if kind == "str":
        if len(text) > TEXT or "\0" in text:
            _refuse(node, f"a text has over {TEXT} characters, or a NUL")
        return text
    if kind not in _SCALARS:
        _refuse(node, f"{brief(text)} would be a {brief(kind)}, which no configuration has")
    if len(text) > _NUMBER:
        _refuse(node, f"a number has over {_NUMBER} characters")
    try:
        value = getattr(_SAFE, f"construct_yaml_{kind}")(node)
    except (ValueError, LookupError):  # of what has the tag, but does not look like it
        _refuse(node, f"{brief(text)} is no {kind}")
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(node, f"{brief(text)} is not a finite number")
    return value


def _refuse(node: yaml.Node, problem: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
