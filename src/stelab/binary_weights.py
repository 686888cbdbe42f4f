r"""Layers whose weights are -1 or 1, through any estimator of a single pass.

Latent weights w are trained. What the layer computes with is, for output channel c,

.. math:: \hat w_c = \alpha_c\,(2b_c - 1), \qquad b_c = 1[w_c > 0]

(or drawn, where the estimator draws), so -1 where w is 0. Backward: with
:math:`g = \partial L/\partial\hat w`, the estimator's rule for a gradient of :math:`2\alpha_c g_c`
at the bits. With ``ClippedInput(bound=1.0, normalize_mass=True)`` and :math:`\alpha = 1` that is
BinaryNet's rule: g, where :math:`|w| \le 1`.

References:
    [Courbariaux2015] Courbariaux, Bengio, David (2015), "BinaryConnect: Training Deep Neural
    Networks with Binary Weights during Propagations", arXiv:1511.00363.
    [Hubara2016] Hubara, Courbariaux, Soudry, El-Yaniv, Bengio (2016), "Binarized Neural
    Networks", arXiv:1602.02830.
    [Rastegari2016] Rastegari, Ordonez, Redmon, Farhadi (2016), "XNOR-Net", arXiv:1603.05279.
    [Liu2018] Liu, Wu, Luo, Yang, Liu, Cheng (2018), "Bi-Real Net", arXiv:1808.00278.
"""

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.functional import linear

from stelab.arguments import checked
from stelab.estimators.backward import wide
from stelab.estimators.base import Estimator
from stelab.estimators.multi_evaluation import MultiEvaluation
from stelab.randomness import Source

Scale = Literal["none", "mean"]
r""":math:`\alpha`: 1, or the mean of :math:`|w_c|` over the channel."""


def binary_weight(
    weight: Tensor, *, estimator: Estimator, scale: Scale, generator: Source | None = None
) -> Tensor:
    r"""Return the binary weights :math:`\alpha_c\,(2b_c - 1)` for latent ones, see the module.

    With ``scale="mean"``, :math:`\alpha_c = \frac1n\sum_i |w_{ci}|`, the closest to w in the least
    squares [Rastegari2016], computed in float32 or wider. It carries no gradient, as in [Liu2018]:
    w is told what its sign does at this scale. ([Rastegari2016] adds the gradient of the mean,
    :math:`\frac1n \mathrm{sign}(w_{ci}) \sum_j g_{cj}\,\mathrm{sign}(w_{cj})`.)

    Args:
        weight: Latent weights, output channels first, ``(channels, ...)``.
        estimator: What comes back through the sign, of a single pass.
        scale: What the signs of a channel are multiplied with.
        generator: Source of randomness, where the estimator has some.

    Returns:
        Shape and dtype of `weight`.
    """
    signs = 2 * estimator(weight, generator=generator) - 1
    if scale == "none":
        return signs
    inner = tuple(range(1, weight.dim()))
    return signs * wide(weight.detach()).abs().mean(inner, keepdim=True).to(weight.dtype)


class _BinaryWeights(nn.Module):
    """What both layers share, in front of torch's class in the order of bases."""

    weight: Tensor

    @checked
    def __init__(self, *arguments: Any, estimator: Estimator, scale: Scale, **options: Any):
        super().__init__(*arguments, **options)
        if isinstance(estimator, MultiEvaluation):
            raise ValueError(
                "weights need an estimator of a single pass, which has a rule for the gradient at "
                f"the bits, got {type(estimator).__name__}, which evaluates the loss of each "
                "example itself, while all examples share the weights: take one such as "
                "ClippedInput or ReinMax"
            )
        self.estimator = estimator
        self.scale = scale

    def binary_weight(self, *, generator: Source | None = None) -> Tensor:
        """Return the weights that the layer computes with, from latent ones within [-1, 1]."""
        latent = self.weight
        if self.training:
            # By .data: a second pass clamps nothing more, so what the first one saved still holds.
            latent.data.copy_(latent.data.clamp(-1, 1))
        else:
            latent = latent.clamp(-1, 1)
        return binary_weight(
            latent, estimator=self.estimator, scale=self.scale, generator=generator
        )

    def extra_repr(self) -> str:
        """Return torch's, and the scale."""
        return f"{super().extra_repr()}, scale={self.scale!r}"


class BinaryLinear(_BinaryWeights, nn.Linear):
    r"""A linear layer with binary weights: :math:`y = x\hat w^\top + \beta`.

    Latent weights are kept in [-1, 1], where their sign can still change [Courbariaux2015]: in
    training in place, before they are used, in evaluation without changing them. The bias stays
    real. The state dict is that of `torch.nn.Linear` and the estimator's under ``estimator.``.

    Args:
        arguments: As `torch.nn.Linear`: ``in_features, out_features, bias=True, device=None,
            dtype=None``; they initialize latent weights and bias.
        estimator: What comes back through the sign of the weights, of a single pass. Relaxed ones
            (`Estimator.relaxed`) train with weights between -1 and 1.
        scale: ``"none"``, or ``"mean"`` for :math:`\alpha_c`, the mean of :math:`|w|` over what
            enters output c, without a gradient; see `binary_weight`.
        options: As `torch.nn.Linear`.

    Raises:
        ValueError: The estimator evaluates the loss several times, or `scale` is no such word.

    Example:
        >>> import torch
        >>> from stelab import BinaryLinear
        >>> from stelab.estimators import ClippedInput
        >>> estimator = ClippedInput(bound=1.0, normalize_mass=True)
        >>> layer = BinaryLinear(3, 1, bias=False, estimator=estimator, scale="mean")
        >>> with torch.no_grad():
        ...     _ = layer.weight.copy_(torch.tensor([[0.5, -0.25, 3.0]]))
        >>> layer(torch.tensor([[1.0, 2.0, 4.0]])).tolist()  # 1.75 / 3 times 1 - 2 + 4
        [[1.75]]
    """

    def forward(self, input: Tensor, *, generator: Source | None = None) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``.

        `generator` is the source of an estimator's randomness, by default torch's global one.
        """
        return linear(input, self.binary_weight(generator=generator), self.bias)


class BinaryConv2d(_BinaryWeights, nn.Conv2d):
    r"""A convolution with binary weights; all else as `BinaryLinear`.

    Args:
        arguments: As `torch.nn.Conv2d`: ``in_channels, out_channels, kernel_size, stride=1,
            padding=0, dilation=1, groups=1, bias=True, padding_mode="zeros", device=None,
            dtype=None``.
        estimator: As `BinaryLinear`.
        scale: ``"none"``, or ``"mean"`` over each output channel's kernel.
        options: As `torch.nn.Conv2d`.

    Raises:
        ValueError: The estimator evaluates the loss several times, or `scale` is no such word.
    """

    def forward(self, input: Tensor, *, generator: Source | None = None) -> Tensor:
        """Map ``(batch, in_channels, h, w)`` to ``(batch, out_channels, h', w')``.

        `generator` is the source of an estimator's randomness, by default torch's global one.
        """
        return self._conv_forward(input, self.binary_weight(generator=generator), self.bias)
