"""Which dimension of the pre-activation has a threshold for each of its entries."""

from torch import Tensor


def require_no_batch(dim: int) -> None:
    """Raise ValueError where `dim` is the batch's: bits of an example would be its place's."""
    if dim == 0:
        raise ValueError(
            "dim must be a dimension of channels, not 0, which is the batch: take 1, or count "
            "from the last one, -1"
        )


def channel_dim(x: Tensor, dim: int) -> int:
    """Return `dim` of `x` as a number above 0.

    Raises:
        ValueError: `x` has no such dimension, or it is the batch's.
    """
    positive = dim + x.dim() if dim < 0 else dim
    if not 0 < positive < x.dim():
        raise ValueError(
            f"the threshold has channels in dim {dim}, but x has shape {tuple(x.shape)}: expected "
            "a dimension behind the batch's"
        )
    return positive


def require_channels(x: Tensor, channels: int, dim: int, verb: str) -> None:
    """Raise ValueError unless `x` has so many `channels` in dimension `dim`."""
    if x.shape[channel_dim(x, dim)] != channels:
        raise ValueError(
            f"the threshold {verb} {channels} channels in dim {dim}, but x has shape "
            f"{tuple(x.shape)}: expected size {channels} in dim {dim}"
        )


def per_channel(theta: Tensor, x: Tensor, dim: int = 1) -> Tensor:
    """Return theta ``(channels,)`` as ``(channels, 1, ...)``, which broadcasts to dim of `x`."""
    return theta.reshape(-1, *(1,) * (x.dim() - 1 - channel_dim(x, dim)))
