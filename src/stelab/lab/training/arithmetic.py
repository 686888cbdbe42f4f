"""What computed a run, and how precisely: two runs that differ in it may differ by that alone."""

from __future__ import annotations

from typing import Any

import torch


def arithmetic(device: torch.device) -> dict[str, Any]:
    """Return the GPU's name, or ``"cpu"``, and torch's switches for float32 as they are now.

    By torch's own names: products of float32 matrices may be rounded to TF32 or bfloat16 before
    they are summed, and cuDNN's convolutions are, unless somebody forbids it.
    """
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else device.type,
        "float32_matmul_precision": _read(torch.get_float32_matmul_precision),
        "matmul_allow_tf32": _read(lambda: torch.backends.cuda.matmul.allow_tf32),
        "cudnn_allow_tf32": _read(lambda: torch.backends.cudnn.allow_tf32),
    }


def _read(switch: Any) -> Any:
    """Return a switch; torch refuses to where somebody set it by its newer names."""
    try:
        return switch()
    except RuntimeError:
        return f"set by fp32_precision={torch.backends.cuda.matmul.fp32_precision}"
