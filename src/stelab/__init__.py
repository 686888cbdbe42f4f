"""stelab: a laboratory for straight-through and other gradient estimators of binary layers.

Importing it is light: torch is loaded when a name that needs it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stelab.binarizer import Binarizer
    from stelab.binary_weights import BinaryConv2d, BinaryLinear
    from stelab.categorizer import Categorizer
    from stelab.chain import Chain
    from stelab.engine import studies
    from stelab.engine.config.compose import build, compose
    from stelab.lab.training import train
    from stelab.philox import Philox
    from stelab.ternarizer import Ternarizer

__all__ = [
    "Binarizer",
    "BinaryConv2d",
    "BinaryLinear",
    "Categorizer",
    "Chain",
    "Philox",
    "Ternarizer",
    "build",
    "compose",
    "studies",
    "train",
]
_HOME = {
    "Binarizer": "stelab.binarizer",
    "BinaryConv2d": "stelab.binary_weights",
    "BinaryLinear": "stelab.binary_weights",
    "Categorizer": "stelab.categorizer",
    "Chain": "stelab.chain",
    "Philox": "stelab.philox",
    "Ternarizer": "stelab.ternarizer",
    "build": "stelab.engine.config",
    "compose": "stelab.engine.config",
    "train": "stelab.lab.training",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("stelab")
    if name == "studies":
        return import_module("stelab.engine.studies")
    if name not in _HOME:
        raise AttributeError(f"module 'stelab' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
