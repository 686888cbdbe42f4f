"""Classifiers of binary layers, and of binary weights where they are asked for.

References:
    Courbariaux, Hubara, Soudry, El-Yaniv, Bengio (2016), "Binarized Neural Networks",
    arXiv:1602.02830. Rastegari, Ordonez, Redmon, Farhadi (2016), "XNOR-Net", arXiv:1603.05279.
    Liu, Wu, Luo, Yang, Liu, Cheng (2018), "Bi-Real Net", arXiv:1808.00278.
"""

import copy
from typing import Literal

from torch import Tensor, nn

from stelab.arguments import AtLeastTwo, Count, checked
from stelab.binarizer import Binarizer
from stelab.binary_weights import BinaryConv2d, BinaryLinear
from stelab.chain import Chain
from stelab.estimators import Estimator
from stelab.lab.models.network import Network, Outcome
from stelab.randomness import Source


class Classifier(Network):
    """Binary layers, each behind a block that makes its pre-activations, and what reads the last.

    Args:
        chain: The blocks and the layers.
        readout: Bits of the last layer to logits ``(batch, classes)``.
    """

    def __init__(self, *, chain: Chain, readout: nn.Module):
        super().__init__()
        self.chain = chain
        self.readout = readout

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """Return the first block."""
        return self.chain.layers[0][0]  # type: ignore[index]

    @property
    def binarizer(self) -> Binarizer:  # type: ignore[override]
        """Return the first binary layer."""
        return self.chain.layers[0][1]  # type: ignore[index]

    def decode(self, code: Tensor) -> Tensor:
        """Return logits for what the first layer says."""
        logits: Tensor = self.readout(self.chain(code, given=(code,))[-1])
        return logits

    def losses(self, code: Tensor, outcome: Outcome, *, generator: Source | None) -> Tensor:
        """See `Network.losses`: the estimators of further layers are nested."""
        return self.chain.losses(
            code, lambda codes: outcome(self.readout(codes[-1])), given=(code,), generator=generator
        )


@checked
def binary_mlp(
    *,
    binarizer: Binarizer,
    bits: Count,
    layers: Count,
    pixels: Count,
    classes: AtLeastTwo,
    weights: Estimator | None,
    scale: Literal["none", "mean"],
) -> Classifier:
    """Build linear - batch norm - bits, `layers` times, then linear - batch norm to the classes.

    Args:
        binarizer: The binary layer; each block has its own.
        bits: Width of each layer.
        layers: Binary layers.
        pixels: Numbers an image.
        classes: Classes.
        weights: What comes back through binary weights; None: they are real.
        scale: Of binary weights, see `stelab.BinaryLinear`.
    """

    def linear(inputs: int, outputs: int) -> nn.Module:
        if weights is None:
            return nn.Linear(inputs, outputs, bias=False)
        own = copy.deepcopy(weights)
        return BinaryLinear(inputs, outputs, bias=False, estimator=own, scale=scale)

    widths = [pixels, *[bits] * layers]
    blocks = [
        nn.Sequential(nn.Flatten(), linear(inputs, bits), nn.BatchNorm1d(bits))
        for inputs in widths[:-1]
    ]
    readout = nn.Sequential(linear(bits, classes), nn.BatchNorm1d(classes))
    return Classifier(chain=_chain(blocks, binarizer), readout=readout)


@checked
def binary_conv(
    *,
    binarizer: Binarizer,
    bits: Count,
    layers: Count,
    channels: Count,
    classes: AtLeastTwo,
    weights: Estimator | None,
    scale: Literal["none", "mean"],
) -> Classifier:
    """Build 3x3 convolutions of stride 2, batch norm and bits, then an average and a readout.

    The first convolution, which sees grey values or colours, and the readout have real weights, as
    in XNOR-Net and Bi-Real Net.

    Args:
        binarizer: The binary layer; each block has its own.
        bits: Channels of each layer.
        layers: Binary layers.
        channels: Channels of an image.
        classes: Classes.
        weights: What comes back through binary weights; None: they are real.
        scale: Of binary weights, see `stelab.BinaryConv2d`.
    """
    shape = {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False}

    def convolution() -> nn.Module:
        if weights is None:
            return nn.Conv2d(bits, bits, **shape)  # type: ignore[arg-type]
        own = copy.deepcopy(weights)
        return BinaryConv2d(bits, bits, **shape, estimator=own, scale=scale)

    first = nn.Sequential(nn.Conv2d(channels, bits, **shape), nn.BatchNorm2d(bits))  # type: ignore[arg-type]
    blocks = [first]
    blocks += [nn.Sequential(convolution(), nn.BatchNorm2d(bits)) for _ in range(layers - 1)]
    readout = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(bits), nn.Linear(bits, classes)
    )
    return Classifier(chain=_chain(blocks, binarizer), readout=readout)


def _chain(blocks: list[nn.Sequential], binarizer: Binarizer) -> Chain:
    return Chain(*((block, copy.deepcopy(binarizer)) for block in blocks))
