"""What training, measuring and encoding need of a network, whatever it is for."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from stelab.binarizer import Binarizer
from stelab.categorical import CategoricalEstimator
from stelab.categorizer import Categorizer
from stelab.estimators import Estimator
from stelab.quantizers import Quantizer
from stelab.randomness import Source

Layer = Binarizer | Categorizer | Quantizer
"""Draws or computes discrete codes, and trains what is before it by its estimator."""

ESTIMATORS = (Estimator, CategoricalEstimator)  # what a layer may have

Outcome = Callable[[Any], Tensor]
"""Maps what a network puts out to one loss an example, shape ``(batch,)``."""


class Network(nn.Module):
    """``output = decode(binarizer(encoder(images)))``: what is before a discrete layer, and behind.

    A subclass sets `encoder` and `binarizer`, and writes `decode`. One with further binary layers
    behind the first overrides `losses` as well.

    Attributes:
        encoder: Images to pre-activations ``(batch, *code_shape)``.
        binarizer: The discrete layer: the first, if there are several.
    """

    encoder: nn.Module
    binarizer: Layer

    def begin(self, images: Tensor) -> None:
        """Set what starts at a value of the training images, such as their mean; else nothing.

        Called once, before any weights are loaded.

        Args:
            images: All that there are to train on.
        """

    def forward(self, images: Tensor) -> Any:
        """Return what the network makes of `images`."""
        return self.decode(self.encode(images))

    def encode(self, images: Tensor) -> Tensor:
        """Return the code of `images`, shape ``(batch, *code_shape)``: 0 or 1, exactly."""
        return self.binarizer(self.encoder(images))

    def decode(self, code: Tensor) -> Any:
        """Return what the network puts out for `code`, shape ``(batch, *code_shape)``."""
        raise NotImplementedError(f"{type(self).__name__} must define decode(code)")

    def losses(self, code: Tensor, outcome: Outcome, *, generator: Source | None) -> Tensor:
        """Return the loss of every code, ``(batch,)``, as the binary layer's estimator asks for it.

        Args:
            code: Of the binary layer.
            outcome: Loss of every example as a function of the output.
            generator: Source of randomness of binary layers behind the first.
        """
        return outcome(self.decode(code))
