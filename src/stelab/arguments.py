"""What hyperparameters may be, said once, in the signature that takes them.

A call from Python is checked when it happens (`checked`), a configuration by the same annotations
before torch is imported. Nothing here needs more than the standard library.
"""

import functools
import inspect
import math
import operator
import typing
from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union

Constructor = TypeVar("Constructor", bound=Callable[..., Any])


@dataclass(frozen=True)
class Only:
    """Values of one type, numbers finite and within bounds; ``True`` is no number, 1 no flag.

    Attributes:
        kind: ``float`` (of which integers are some), ``int``, ``bool`` or ``str`` (not empty).
        above: All numbers are greater.
        least: The smallest number.
        below: All numbers are less.
        most: The largest number.
    """

    kind: type
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None

    def __call__(self, argument: Any) -> Any:
        """Return `argument` as `kind`.

        Raises:
            ValueError: Says what it must be.
        """
        value = _to_float(argument) if self.kind is float and type(argument) is int else argument
        if type(value) is bool and self.kind is not bool or not isinstance(value, self.kind):
            raise ValueError(f"must be a valid {_NOUNS[self.kind]}")
        if self.kind is str and not value:
            raise ValueError("must not be empty")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be a finite number")
        return self._within(value)

    def _within(self, value: Any) -> Any:
        for bound, within, words in (
            (self.above, operator.gt, "greater than"),
            (self.least, operator.ge, "greater than or equal to"),
            (self.below, operator.lt, "less than"),
            (self.most, operator.le, "less than or equal to"),
        ):
            if bound is not None and not within(value, bound):
                raise ValueError(f"must be {words} {bound}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Let pydantic check it like a call, where configurations are checked."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self)


_NOUNS = {float: "number", int: "integer", bool: "boolean", str: "string"}

Real = Annotated[float, Only(float)]
Positive = Annotated[float, Only(float, above=0)]
SolvablePenalty = Annotated[float, Only(float, above=0, most=1e12)]  # singular in float64 at 1e15
AtLeastOne = Annotated[float, Only(float, least=1)]
NonNegative = Annotated[float, Only(float, least=0)]
Fraction = Annotated[float, Only(float, least=0, below=1)]
Portion = Annotated[float, Only(float, above=0, below=1)]
Count = Annotated[int, Only(int, least=1)]
FewBits = Annotated[int, Only(int, least=1, most=16)]
Zero = Annotated[float, Only(float, least=0, most=0)]
One = Annotated[float, Only(float, least=1, most=1)]
AtLeastTwo = Annotated[int, Only(int, least=2)]
Seed = Annotated[int, Only(int, least=0, below=2**32)]
Size = Annotated[int, Only(int, least=0)]
Dimension = Annotated[int, Only(int)]
Flag = Annotated[bool, Only(bool)]
Text = Annotated[str, Only(str)]
Level = Real | list[Real]  # of all channels, or of each
Scale = Positive | list[Positive]
Sizes = list[Count]
Reals = list[Real]


def checked(constructor: Constructor) -> Constructor:
    """Check the arguments of each call against their annotations.

    The call raises ValueError, which names every argument that is not what it must be.
    """
    signature = inspect.signature(constructor)

    @functools.wraps(constructor)
    def check(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        annotations = _annotations(constructor)
        mistakes = []
        for name, value in bound.arguments.items():
            try:
                bound.arguments[name] = _check(annotations.get(name, object), value)
            except ValueError as error:
                mistakes.append(f"{name} {error}, got {value!r}")
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return constructor(*bound.args, **bound.kwargs)

    check.__signature__ = signature  # type: ignore[attr-defined]  # it takes nothing else
    return typing.cast(Constructor, check)


def show_arguments(module: object) -> str:
    """Return the constructor's keyword-only arguments as ``name=value, ...``, for `extra_repr`.

    Those that `module` keeps under their names, and of these numbers, tuples, flags and text:
    tensors and other modules show themselves in ``print(model)``.
    """
    parameters = inspect.signature(type(module)).parameters.values()
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    kept = {name: getattr(module, name, None) for name in names}
    return ", ".join(
        f"{n}={v!r}" for n, v in kept.items() if isinstance(v, int | float | str | tuple)
    )


@functools.cache
def _annotations(constructor: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(constructor, include_extras=True)


def _check(annotation: Any, value: Any) -> Any:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        for check in annotation.__metadata__:
            value = check(value)
        return value
    if origin in (Union, UnionType):
        return _check_any(typing.get_args(annotation), value)
    if origin is Literal:
        if value not in typing.get_args(annotation):
            raise ValueError("must be " + " or ".join(map(repr, typing.get_args(annotation))))
    elif annotation is not Any and not isinstance(value, origin or annotation):
        raise ValueError(f"must be of {(origin or annotation).__name__}")
    elif origin is list:
        (entry,) = typing.get_args(annotation)
        return [_check(entry, element) for element in value]
    return value


def _check_any(annotations: tuple[Any, ...], value: Any) -> Any:
    refusals = []
    for annotation in annotations:
        try:
            return _check(annotation, value)
        except ValueError as error:
            refusals.append(str(error).removeprefix("must be "))
    raise ValueError("must be " + " or ".join(refusals))


def _to_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
