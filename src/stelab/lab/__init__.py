"""The laboratory: networks with binary layers, their data, their training, their gradients."""

import atexit
import gc
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Late(ModuleType):
    """A module that is imported once something of it is used.

    Lightning imports torchmetrics, and that all of scipy.signal, to see whether an old name is
    there: half a second of every start.
    """

    hamming = __file__ = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # for who looks through all modules
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


sys.modules.setdefault("scipy.signal", _Late("scipy.signal"))

# At its end Python looks through all objects several times, for cycles that end with it anyway:
# half as long as a run takes to start.
atexit.register(gc.freeze)
