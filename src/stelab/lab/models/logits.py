r"""No network: independent variables, whose logits are all that is trained.

.. math:: \min_\theta\, \mathbb{E}_{z \sim p_\theta}[f(z)]

On such problems estimators are compared in their papers: toys of one bit, polynomial programming.

References:
    Tucker et al. (2017), "REBAR", arXiv:1703.07370. Grathwohl et al. (2018), "Backpropagation
    through the Void", arXiv:1711.00123. Liu et al. (2023), "Bridging Discrete and
    Backpropagation", arXiv:2304.08612.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stelab.arguments import AtLeastTwo, Count, NonNegative, Reals, checked
from stelab.binarizer import Binarizer
from stelab.categorizer import Categorizer
from stelab.estimators.backward import wide
from stelab.estimators.base import step
from stelab.lab.models.network import Layer, Network


class Logits(Network):
    """Independent variables of known laws; a subclass says which. Images are counted, not seen.

    Args:
        binarizer: The layer that draws codes.
        shape: Of the logits of one code.
        classes: The number of each value that a variable can take.
        spread: The logits begin uniform in [-spread, spread].
    """

    def __init__(
        self, *, binarizer: Layer, shape: tuple[int, ...], classes: Sequence[float], spread: float
    ):
        super().__init__()
        self.encoder = _Free(shape, spread)
        self.binarizer = binarizer
        self.classes: Tensor = nn.Buffer(torch.tensor(classes).float(), persistent=False)

    def values(self) -> Tensor:
        """Return what a variable can be in the output, ``(classes,)``."""
        return self.classes

    def law(self, x: Tensor) -> Tensor:
        """Return the probability of each value, given the logits, ``(batch, bits, classes)``."""
        raise NotImplementedError(f"{type(self).__name__} must define law(x)")


class BernoulliLogits(Logits):
    """Bits; the output is the code."""

    def values(self) -> Tensor:
        """See `Logits.values`."""
        assert isinstance(self.binarizer, Binarizer)
        return self.binarizer.values(self.classes)

    def law(self, x: Tensor) -> Tensor:
        """See `Logits.law`; of an estimator that thresholds, all is at its bit."""
        assert isinstance(self.binarizer, Binarizer)
        s, estimator = self.binarizer.centre(x), self.binarizer.estimator
        p = estimator.probability(wide(s)) if estimator.draws else step(s)
        return torch.stack([1 - p, p], dim=-1)

    def decode(self, code: Tensor) -> Tensor:
        """Return the code, ``(batch, bits)``."""
        return code


class CategoricalLogits(Logits):
    """One-hots; the output is the number of each one's class."""

    def law(self, x: Tensor) -> Tensor:
        """See `Logits.law`."""
        return wide(x).softmax(-1)

    def decode(self, code: Tensor) -> Tensor:
        """Return numbers ``(batch, bits)`` of one-hots ``(batch, bits, classes)``."""
        return (code * self.classes).sum(-1)


@checked
def logits_bernoulli(*, binarizer: Binarizer, bits: Count, spread: NonNegative) -> Logits:
    """Build one logit a bit.

    Args:
        binarizer: The binary layer.
        bits: Variables.
        spread: The logits begin uniform in [-spread, spread].
    """
    return BernoulliLogits(binarizer=binarizer, shape=(bits,), classes=(0, 1), spread=spread)


@checked
def logits_categorical(
    *,
    binarizer: Categorizer,
    bits: Count,
    classes: AtLeastTwo,
    values: Reals | None = None,  # of older runs, which do not say it
    spread: NonNegative,
) -> Logits:
    """Build one logit a class of each variable.

    Of two classes, a step of Adam moves the two logits apart by twice the learning rate.

    Args:
        binarizer: The layer of one-hots.
        bits: Variables.
        classes: Classes of each.
        values: The number of each class, which the output has for it; None: 0, 1, 2 and so on.
        spread: The logits begin uniform in [-spread, spread].

    Raises:
        ValueError: `values` has not one number a class.
    """
    if values is not None and len(values) != classes:
        raise ValueError(
            f"values must have one number for each of {classes} classes, got {len(values)}: "
            f"{values}"
        )
    numbers = range(classes) if values is None else values
    shape = (bits, classes)
    return CategoricalLogits(binarizer=binarizer, shape=shape, classes=numbers, spread=spread)


class _Free(nn.Module):
    """The same logits for every image, whatever it shows."""

    def __init__(self, shape: tuple[int, ...], spread: float):
        super().__init__()
        self.theta = nn.Parameter(torch.empty(shape).uniform_(-spread, spread))

    def forward(self, images: Tensor) -> Tensor:
        return self.theta.expand(len(images), *self.theta.shape)
