"""What a GPU would make the host wait for, counted where there is none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_")


def _by_mask(indices: Any) -> bool:
    """How many entries are chosen is not known before the device has computed the mask."""
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


class Waits(TorchDispatchMode):
    """Counts what waits for a device, or copies to it, where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, and go on."""
        if op.overloadpacket._qualified_op_name in (
            *("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal"),
            *("aten::nonzero", "aten::masked_select", "aten::lift_fresh", "aten::unique"),
        ) or (op.overloadpacket._qualified_op_name in _INDEXING and _by_mask(args[1])):
            self.found[str(op)] += 1
        return op(*args, **(kwargs or {}))
