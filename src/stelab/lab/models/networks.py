"""The networks: the tutorial's, the same function without its dead weights, and an MLP.

References:
    Askary (2020), "Intuitive Explanation of Straight-Through Estimators with PyTorch
    Implementation".
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

from stelab.arguments import Count, Flag, checked
from stelab.binarizer import Binarizer
from stelab.lab.models.autoencoder import Autoencoder


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
) -> Autoencoder:
    """Build the function class of `tutorial` without its dead weights.

    The two layers around the code keep the taps that act: ``weight[:, :, 1:, 1:]`` of the
    encoder's last kernel and ``weight[:, :, 1:4, 1:4]`` of the decoder's first. Equal live
    weights give equal outputs; default initialization differs, because it scales with a kernel's
    size. Arguments: see `tutorial`.
    """
    to_code = partial(nn.Conv2d, kernel_size=3)
    from_code = partial(nn.ConvTranspose2d, kernel_size=3)
    return _convolutional(binarizer, bits, relu_before_bits, norm, signed, to_code, from_code)


def _convolutional(
    binarizer: Binarizer,
    bits: int,
    relu_before_bits: bool,
    norm: str,
    signed: bool,
    to_code: Callable[[int, int], nn.Module],
    from_code: Callable[[int, int], nn.Module],
) -> Autoencoder:
    norms = partial(_norms, norm, batch_norm=nn.BatchNorm2d)
    encoder = nn.Sequential(
        nn.Conv2d(1, 64, kernel_size=4, stride=2, padding=1),  # 14x14
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
        nn.ConvTranspose2d(256, 128, kernel_size=5, stride=2, padding=1),  # 7x7
        *norms(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, kernel_size=4, stride=2, padding=1),  # 14x14
        *norms(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, kernel_size=4, stride=2, padding=1),  # 28x28
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
) -> Autoencoder:
    """Build 784 - hidden - bits - hidden - 784, the fastest to ablate on; codes: ``(bits,)``.

    Args:
        binarizer: The binary layer.
        bits: Bits a code.
        hidden: Width of the hidden layer on each side.
        relu_before_bits: Whether a ReLU precedes the binary layer.
        norm: Norm after every layer but the last.
        signed: Feed the decoder {-1, 1} instead of {0, 1}.
    """
    norms = partial(_norms, norm, batch_norm=nn.BatchNorm1d)
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, hidden),
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
        nn.Linear(hidden, 784),
        nn.Tanh(),
        nn.Unflatten(1, (1, 28, 28)),
    )
    return Autoencoder(
        encoder=encoder, binarizer=binarizer, decoder=decoder, code_shape=(bits,), signed=signed
    )


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
