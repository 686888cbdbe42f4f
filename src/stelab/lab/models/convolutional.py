"""Convolutional autoencoders: the tutorial's, and the same function without its dead weights.

References:
    Askary (2020), "Intuitive Explanation of Straight-Through Estimators with PyTorch
    Implementation".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

from stelab.arguments import Count, Flag, checked
from stelab.binarizer import Binarizer
from stelab.lab.models.autoencoder import Autoencoder
from stelab.lab.models.layers import Norm, norm_layers, relu


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
    return _autoencoder(binarizer, bits, relu_before_bits, norm, signed, to_code, from_code)


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
    return _autoencoder(binarizer, bits, relu_before_bits, norm, signed, to_code, from_code)


def _autoencoder(
    binarizer: Binarizer,
    bits: int,
    relu_before_bits: bool,
    norm: Norm,
    signed: bool,
    to_code: Callable[[int, int], nn.Module],
    from_code: Callable[[int, int], nn.Module],
) -> Autoencoder:
    encoder = nn.Sequential(
        nn.Conv2d(1, 64, kernel_size=4, stride=2, padding=1),  # 14x14
        nn.ReLU(),
        nn.Conv2d(64, 128, kernel_size=4, stride=2, padding=1),  # 7x7
        *norm_layers(norm, 128),
        nn.ReLU(),
        nn.Conv2d(128, 256, kernel_size=4, stride=2, padding=1),  # 3x3
        *norm_layers(norm, 256),
        nn.ReLU(),
        to_code(256, bits),  # 1x1
        *norm_layers(norm, bits),
        *relu(relu_before_bits),
    )
    decoder = nn.Sequential(
        from_code(bits, 256),  # 3x3
        *norm_layers(norm, 256),
        nn.ReLU(),
        nn.ConvTranspose2d(256, 128, kernel_size=5, stride=2, padding=1),  # 7x7
        *norm_layers(norm, 128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, kernel_size=4, stride=2, padding=1),  # 14x14
        *norm_layers(norm, 64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, kernel_size=4, stride=2, padding=1),  # 28x28
        nn.Tanh(),
    )
    code_shape = (bits, 1, 1)
    return Autoencoder(
        encoder=encoder, binarizer=binarizer, decoder=decoder, code_shape=code_shape, signed=signed
    )
