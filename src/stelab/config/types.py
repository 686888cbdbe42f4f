"""Types of hyperparameters: what a value may be, said once, in the signature that takes it.

A configuration is checked against these annotations before torch is imported
(`stelab.config.validate`), a call from Python when it happens (`checked`).
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, validate_call

Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
AtLeastOne = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=1)]
NonNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Fraction = Annotated[float, Field(strict=True, ge=0, lt=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Threads = Annotated[int, Field(strict=True, ge=1, le=1024)]
FewBits = Annotated[int, Field(strict=True, ge=1, le=16)]
AtLeastTwo = Annotated[int, Field(strict=True, ge=2)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Size = Annotated[int, Field(strict=True, ge=0)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]

Constructor = TypeVar("Constructor", bound=Callable[..., Any])


def checked(constructor: Constructor) -> Constructor:
    """Check the arguments of a call against the annotations; raise ValueError where they differ."""
    validate = validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    return validate(constructor)
