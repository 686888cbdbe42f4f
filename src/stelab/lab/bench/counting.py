"""What steps of training start, wait for and take."""

import resource
import sys
import time
from contextlib import ExitStack
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from stelab.lab.bench.steps import COUNTED
from stelab.lab.bench.turns import peak_mib

_aten = torch.ops.aten
_NO_KERNELS = {_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty, _aten.detach}
# What is not known before the device has computed it: the host waits.
_WAITS = {
    _aten._local_scalar_dense,
    _aten.nonzero,
    _aten.equal,
    _aten.masked_select,
    _aten._unique2,
}
_COPIES = {_aten.copy_, _aten._to_copy}


class Counter(TorchDispatchMode):
    """Counts operations while it is active; what was compiled runs as it was before.

    Attributes:
        kernels: Operations of ATen that compute or copy: views and allocations are apart.
        waits: Those for which the host waits for the device: reading a value, choosing by
            one, copying between host and device.
        flops: Floating point operations of products and convolutions, backward too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels = self.waits = self.flops = 0
        self.eager = ExitStack()

    def __enter__(self) -> "Counter":
        """Begin; no program of torch.compile runs while operations are watched."""
        if "torch._dynamo" in sys.modules:  # which takes long to import
            self.eager.enter_context(torch.compiler.set_stance("force_eager"))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """End."""
        super().__exit__(*error)
        self.eager.close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count an operation and do it."""
        kwargs = kwargs or {}
        before = [a.device.type for a in args if isinstance(a, torch.Tensor)]
        out = func(*args, **kwargs)
        operation = func.overloadpacket
        self.kernels += not func.is_view and operation not in _NO_KERNELS
        crosses = operation in _COPIES and {*before, out.device.type} > {"cpu"}
        self.waits += operation in _WAITS or crosses
        if operation in flop_registry:
            self.flops += flop_registry[operation](*args, **kwargs, out_val=out)
        return out

    def of_a_step(self, images: int) -> dict[str, float]:
        """Return the means of `COUNTED` steps, which had so many images together."""
        values = {"kernels": self.kernels / COUNTED, "waits": self.waits / COUNTED}
        return {**values, "mflop_an_image": self.flops / images / 1e6}


def now(device: torch.device) -> float:
    """Return the time in seconds when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def memory(device: torch.device) -> dict[str, float]:
    """Return the most memory that this process has had, in MiB, also on a GPU."""
    peak = {"peak_mib": peak_mib(resource.getrusage(resource.RUSAGE_SELF))}
    if device.type == "cuda":
        peak["peak_gpu_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peak
