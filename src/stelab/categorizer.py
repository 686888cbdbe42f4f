"""The one-hot layer that people put in networks."""

from torch import Tensor, nn

from stelab.arguments import checked
from stelab.categorical.base import CategoricalEstimator, PerExampleLoss
from stelab.randomness import Source


class Categorizer(nn.Module):
    """A categorical estimator as a layer: what `stelab.Binarizer` is to bits, for one-hots.

    Logits have shape ``(batch, ..., K)``, such as ``(batch, L, K)`` for L one-hots of K classes.
    There is no threshold: a constant added to all K logits changes nothing.

    Args:
        estimator: How one-hots are drawn, and what comes back through them.

    Raises:
        ValueError: The argument is of another type.

    Example:
        >>> import torch
        >>> from stelab import Categorizer
        >>> from stelab.categorical import StraightThrough
        >>> layer = Categorizer(estimator=StraightThrough(temperature=1.0))
        >>> logits = torch.tensor([[[1.0, 0.0, 2.0], [9.0, 0.0, 0.0]]])
        >>> layer.eval()(logits).tolist()  # in training mode they are drawn
        [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]
    """

    @checked
    def __init__(self, *, estimator: CategoricalEstimator):
        super().__init__()
        self.estimator = estimator

    def centre(self, logits: Tensor) -> Tensor:
        """Return what the estimator sees: the logits themselves, as `Binarizer.centre` does s."""
        return logits

    def forward(self, logits: Tensor, *, generator: Source | None = None) -> Tensor:
        """Draw one-hots, shape and dtype of `logits`; see `CategoricalEstimator.forward`."""
        return self.estimator(logits, generator=generator)

    def loss(self, logits: Tensor, f: PerExampleLoss, *, generator: Source | None = None) -> Tensor:
        """Evaluate the scalar that is differentiated; see `CategoricalEstimator.loss`."""
        return self.estimator.loss(logits, f, generator=generator)

    def losses(
        self, logits: Tensor, f: PerExampleLoss, *, generator: Source | None = None
    ) -> Tensor:
        """Evaluate one loss an example, ``(batch,)``; see `CategoricalEstimator.losses`."""
        return self.estimator.losses(logits, f, generator=generator)
