"""A fully connected autoencoder: the fastest network to ablate on."""

from __future__ import annotations

from typing import Literal

from torch import nn

from stelab.arguments import Count, Flag, checked
from stelab.binarizer import Binarizer
from stelab.lab.models.autoencoder import Autoencoder
from stelab.lab.models.layers import norm_layers, relu


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
    """Build 784 - hidden - bits - hidden - 784; codes have shape ``(bits,)``.

    Args:
        binarizer: The binary layer.
        bits: Bits a code.
        hidden: Width of the hidden layer on each side.
        relu_before_bits: Whether a ReLU precedes the binary layer.
        norm: Norm after every layer but the last.
        signed: Feed the decoder {-1, 1} instead of {0, 1}.
    """
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, hidden),
        *norm_layers(norm, hidden, nn.BatchNorm1d),
        nn.ReLU(),
        nn.Linear(hidden, bits),
        *norm_layers(norm, bits, nn.BatchNorm1d),
        *relu(relu_before_bits),
    )
    decoder = nn.Sequential(
        nn.Linear(bits, hidden),
        *norm_layers(norm, hidden, nn.BatchNorm1d),
        nn.ReLU(),
        nn.Linear(hidden, 784),
        nn.Tanh(),
        nn.Unflatten(1, (1, 28, 28)),
    )
    return Autoencoder(
        encoder=encoder, binarizer=binarizer, decoder=decoder, code_shape=(bits,), signed=signed
    )
