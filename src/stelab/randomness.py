"""Where the layer's random numbers come from, and the laws that it draws by."""

import torch
from torch import Generator, Tensor

from stelab.philox import Philox

Source = Generator | Philox
"""A generator of torch's, or a function of seed, step and position; None is torch's global one."""


def uniform(like: Tensor, *, generator: Source | None) -> Tensor:
    """Draw from the open interval (0, 1), in the shape of `like`, in float32 or wider."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    if isinstance(generator, Philox):
        return generator.uniform(like.shape, dtype=dtype, device=like.device)
    u = torch.rand(like.shape, dtype=dtype, device=like.device, generator=generator)
    return u.clamp_min(torch.finfo(dtype).tiny)


def bernoulli(p: Tensor, *, generator: Source | None) -> Tensor:
    """Draw bits that are 1 with probability `p`, in its shape and dtype, without a gradient."""
    return (uniform(p, generator=generator) < p).to(p.dtype)


def exponential(like: Tensor, *, generator: Source | None) -> Tensor:
    """Draw from Exp(1), finite and above 0, in the shape of `like`, in float32 or wider."""
    return -uniform(like, generator=generator).log()
