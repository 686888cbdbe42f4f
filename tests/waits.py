"""What a GPU would make the host wait for, counted where there is none."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


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
        ):
            self.found[str(op)] += 1
        return op(*args, **(kwargs or {}))
