"""Autoencoders: the tutorial's, the same function without its dead weights, and an MLP.

References:
    Askary (2020), "Intuitive Explanation of Straight-Through Estimators with PyTorch
    Implementation".
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import nn

from stelab.arguments import Count, Flag, checked
from stelab.binarizer import Binarizer
from stelab.lab.models.autoencoder import Autoencoder
from stelab.lab.models.points import FromPoint, ToPoint


@checked
def tutorial(
    *,
    binarizer: Binarizer,
    bits: Count,
    relu_before_bits: Flag,
    norm: Literal["batch", "group", "none"],
    signed: Flag,
) -> Autoencoder:
    """Build the tutorial's network: 28x28 images, codes of shape ``(bits, 1, 1)``.

    With ``bits=512, relu_before_bits=True, norm="batch", signed=False`` the layers are exactly
    the tutorial's, and so is the order of the state dict: weights saved from the tutorial's code
    load with ``model.load_state_dict(dict(zip(model.state_dict(), weights.values())))``.

    About 3.0 of its 7.0 million parameters never act: the last 4x4 kernel of the encoder sees a
    padded 3x3 map at one position, and the first 5x5 output of the decoder is cropped to 3x3.

    Args:
        binarizer: The binary layer.
        bits: Bits a code.
        relu_before_bits: Whether a ReLU precedes the binary layer.
        norm: Norm after every layer but the first and the last.
        signed: Feed the decoder {-1, 1} instead of {0, 1}.
    """
    to_code = partial(nn.Conv2d, kernel_size=4, stride=2, padding=1)
    from_code = partial(nn.ConvTranspose2d, kernel_size=5, stride=2, padding=1)
    return _convolutional(binarizer, bits, relu_before_bits, norm, signed, to_code, from_code)


@checked
def conv(
    *,
    binarizer: Binarizer,
    bits: Count,
    relu_before_bits: Flag,
    norm: Literal["batch", "group", "none"],
    signed: Flag,
    image_shape: Sequence[int] = (1, 28, 28),  # of older runs, which do not say it
) -> Autoencoder:
    """Build the function class of `tutorial` without its dead weights, for images of any shape.

    The two layers around the code keep the taps that act: ``weight[:, :, 1:, 1:]`` of the
    encoder's last kernel and ``weight[:, :, 1:4, 1:4]`` of the decoder's first. Equal live
    weights give equal outputs up to rounding; default initialization differs, because it scales
    with a kernel's size. Images of `image_shape`, ``(channels, height, width)``, are halved three
    times, from 28x28 to 3x3, before the layer that makes codes. Other arguments: see `tutorial`.
    """
    if min(image_shape[1:]) < 8:
        raise ValueError(f"images must have 8x8 pixels or more, got {tuple(image_shape)}")
    smallest = halved(image_shape)[-1]
    to_code = partial(ToPoint, kernel_size=smallest)
    from_code = partial(FromPoint, kernel_size=smallest)
    return _convolutional(
        binarizer, bits, relu_before_bits, norm, signed, to_code, from_code, image_shape
    )


def _convolutional(
    binarizer: Binarizer,
    bits: int,
    relu_before_bits: bool,
    norm: str,
    signed: bool,
    to_code: Callable[[int, int], nn.Module],
    from_code: Callable[[int, int], nn.Module],
    image_shape: Sequence[int] = (1, 28, 28),
) -> Autoencoder:
    norms = partial(_norms, norm, batch_norm=nn.BatchNorm2d)
    channels, sizes = image_shape[0], halved(image_shape)[::-1]
    # Each kernel is as large as it takes to double to the size that the encoder had there.
    to_quarter, to_half, to_whole = (
        (large[0] - 2 * small[0] + 4, large[1] - 2 * small[1] + 4)
        for small, large in pairwise(sizes)
    )
    encoder = nn.Sequential(
        nn.Conv2d(channels, 64, kernel_size=4, stride=2, padding=1),  # 14x14
        nn.ReLU(),
        nn.Conv2d(64, 128, kernel_size=4, stride=2, padding=1),  # 7x7
        *norms(128),
        nn.ReLU(),
        nn.Conv2d(128, 256, kernel_size=4, stride=2, padding=1),  # 3x3
        *norms(256),
        nn.ReLU(),
        to_code(256, bits),  # 1x1
        *norms(bits),
        *([nn.ReLU()] if relu_before_bits else []),
    )
    decoder = nn.Sequential(
        from_code(bits, 256),  # 3x3
        *norms(256),
        nn.ReLU(),
        nn.ConvTranspose2d(256, 128, kernel_size=to_quarter, stride=2, padding=1),  # 7x7
        *norms(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, kernel_size=to_half, stride=2, padding=1),  # 14x14
        *norms(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, channels, kernel_size=to_whole, stride=2, padding=1),  # 28x28
        nn.Tanh(),
    )
    code_shape = (bits, 1, 1)
    return Autoencoder(
        encoder=encoder, binarizer=binarizer, decoder=decoder, code_shape=code_shape, signed=signed
    )


@checked
def mlp(
    *,
    binarizer: Binarizer,
    bits: Count,
    hidden: Count,
    relu_before_bits: Flag,
    norm: Literal["batch", "group", "none"],
    signed: Flag,
    image_shape: Sequence[int] = (1, 28, 28),  # of older runs, which do not say it
) -> Autoencoder:
    """Build pixels - hidden - bits - hidden - pixels, the fastest to ablate on; codes: ``(bits,)``.

    Args:
        binarizer: The binary layer.
        bits: Bits a code.
        hidden: Width of the hidden layer on each side.
        relu_before_bits: Whether a ReLU precedes the binary layer.
        norm: Norm after every layer but the last.
        signed: Feed the decoder {-1, 1} instead of {0, 1}.
        image_shape: ``(channels, height, width)``; all of its numbers are pixels.
    """
    pixels = math.prod(image_shape)
    norms = partial(_norms, norm, batch_norm=nn.BatchNorm1d)
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, hidden),
        *norms(hidden),
        nn.ReLU(),
        nn.Linear(hidden, bits),
        *norms(bits),
        *([nn.ReLU()] if relu_before_bits else []),
    )
    decoder = nn.Sequential(
        nn.Linear(bits, hidden),
        *norms(hidden),
        nn.ReLU(),
        nn.Linear(hidden, pixels),
        nn.Tanh(),
        nn.Unflatten(1, tuple(image_shape)),
    )
    return Autoencoder(
        encoder=encoder, binarizer=binarizer, decoder=decoder, code_shape=(bits,), signed=signed
    )


def halved(image_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return height and width of an image, and what convolutions of stride 2 leave, three times."""
    _, height, width = image_shape
    return [(height // 2**i, width // 2**i) for i in range(4)]


def _norms(norm: str, size: int, *, batch_norm: type[nn.Module]) -> list[nn.Module]:
    """Return the norm that follows a layer to `size` channels or features, or nothing.

    Batch norm makes an example's loss depend on the bits of its whole batch; group norm (8 groups,
    or fewer so that each has at least 8 channels) does not.
    """
    if norm == "batch":
        return [batch_norm(size)]
    if norm == "group":
        # A group of one value would normalize it away.
        return [nn.GroupNorm(math.gcd(8, size, max(1, size // 8)), size)]
    return []
