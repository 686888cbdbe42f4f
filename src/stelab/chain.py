r"""Several binary layers, one behind the other: the nested rule.

With :math:`s_l = h_l(b_{l-1}) - \theta_l` and :math:`b_0 = x`, the loss of an example is

.. math:: L_l(b_{<l}) = t_l(s_l, b_{<l}) + \mathbb{E}_{b_l \mid s_l}\, L_{l+1}(b_{\le l}), \qquad
   L_{n+1} = f(b_1, \dots, b_n),

and each layer's estimator takes the `losses` of the layers behind it for its own f. One-pass
estimators chain as backpropagation does. One that evaluates f several times draws the layers behind
it anew each time: n such layers of k evaluations evaluate f :math:`k^n` times a step.

What a layer's pre-activations get is as exact as its own estimator, where this only evaluates f:
the values that it sees are drawn by the law of the layers behind, whatever their estimates. Those
that differentiate f, or evaluate it between bits (`Estimator.differentiates`), would differentiate
estimates in place of f, and may only stand last. As always where a loss is evaluated several times,
batch norm behind bits makes examples depend on each other.
"""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from stelab.binarizer import Binarizer
from stelab.estimators.base import evaluate
from stelab.randomness import Source

Codes = tuple[Tensor, ...]
"""The bits of the layers so far, as the network behind each sees them (`Binarizer.values`)."""


class Chain(nn.Module):
    r"""Binary layers, each behind a module that makes its pre-activations.

    Args:
        layers: For each layer h, from the bits of the layer before (the first: from the input) to
            pre-activations ``(batch, *code_shape)``, and its `Binarizer`.

    Raises:
        ValueError: There is no layer, or an estimator that is not the last differentiates f.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from stelab import Binarizer, Chain
        >>> from stelab.estimators import DisARM, Rebar
        >>> from stelab.thresholds import FixedThreshold
        >>> rebar = Rebar(strength=1.0, temperature=0.5, learning_rate=1e-3)
        >>> first, last = (
        ...     Binarizer(threshold=FixedThreshold(value=0.0), estimator=estimator)
        ...     for estimator in (DisARM(), rebar)
        ... )
        >>> chain = Chain((nn.Linear(4, 8), first), (nn.Linear(8, 3), last))
        >>> losses = chain.losses(torch.randn(5, 4), lambda bits: bits[0].sum(1) - bits[1].sum(1))
        >>> losses.mean().backward()  # both linear layers have their gradient
    """

    def __init__(self, *layers: tuple[nn.Module, Binarizer]):
        super().__init__()
        _require_last(layers)
        self.layers = nn.ModuleList(nn.ModuleList(layer) for layer in layers)

    def forward(self, x: Tensor, *, given: Codes = (), generator: Source | None = None) -> Codes:
        """Return the bits of all layers, first to last, with one-pass estimators' gradients.

        Those of the first layers may be `given`, as in `losses`.
        """
        codes = given
        for make, binarizer in self._pairs()[len(given) :]:
            codes = *codes, binarizer(make(codes[-1] if codes else x), generator=generator)
        return codes

    def losses(
        self,
        x: Tensor,
        f: Callable[[Codes], Tensor],
        *,
        given: Codes = (),
        term: Callable[[int, Tensor, Codes], Tensor] | None = None,
        generator: Source | None = None,
    ) -> Tensor:
        r"""Evaluate one loss an example, ``(batch,)``, as `Estimator.losses` does for one layer.

        Args:
            x: Input of the first module, ``(batch, ...)``.
            f: Loss of every example as a function of all layers' bits.
            given: Bits of the first layers, which come from elsewhere: only those behind them are
                drawn, and `x` is not looked at.
            term: :math:`t_l`, what is known of each layer without a draw of its bits, such as a KL
                divergence: a function of the layer's index (0 the first), its centred
                pre-activation, differentiated as it is, and the bits before it, that returns
                ``(batch,)``. The layer's own estimator does not see it, those before it do.
            generator: Source of randomness, of one layer after the other.

        Raises:
            ValueError: f or `term` returns anything but ``(batch,)``.
        """
        pairs = self._pairs()

        def from_layer(index: int, codes: Codes) -> Tensor:
            if index == len(pairs):
                return f(codes)
            make, binarizer = pairs[index]
            s = binarizer.centre(make(codes[-1] if codes else x))
            losses = binarizer.estimator.losses(
                s,
                lambda bits: from_layer(index + 1, (*codes, binarizer.values(bits))),
                generator=generator,
            )
            if term is None:
                return losses
            return losses + evaluate(lambda s: term(index, s, codes), s, "term")

        return from_layer(len(given), given)

    def _pairs(self) -> list[tuple[nn.Module, Binarizer]]:
        return [(make, binarizer) for make, binarizer in cast(Any, self.layers)]


def _require_last(layers: tuple[tuple[nn.Module, Binarizer], ...]) -> None:
    if not layers:
        raise ValueError("a chain needs a layer or more: pairs of a module and its Binarizer")
    early = [
        f"{type(binarizer.estimator).__name__} (layer {i} of {len(layers)})"
        for i, (_, binarizer) in enumerate(layers[:-1], start=1)
        if binarizer.estimator.differentiates
    ]
    if early:
        raise ValueError(
            "of several binary layers only the last may have an estimator that differentiates the "
            f"loss or evaluates it between bits, got {', '.join(early)}: take one that only "
            "evaluates it, such as DisARM, or one of a single pass"
        )
