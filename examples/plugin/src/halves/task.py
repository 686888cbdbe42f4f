"""To predict the lower half of an image from its upper half."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from stelab import Binarizer
from stelab.arguments import Count, checked
from stelab.lab.data.datamodule import Batch
from stelab.lab.models import Network
from stelab.lab.tasks import Task
from stelab.lab.tasks.base import Split
from stelab.lab.tasks.reconstruct import require_image
from stelab.randomness import Source, bernoulli


class PredictLower(Task):
    r"""Predict lower halves y of images from upper halves x, through bits b that are drawn.

    The loss of an example is :math:`-\log p(y \mid b)` in nats, whose mean over
    :math:`b \sim q(b \mid x)` bounds :math:`-\log p(y \mid x)` from above [Raiko2015]. The metric
    ``nll`` estimates that itself with K draws, of one alone while training:

    .. math:: -\log\frac1K\sum_k p(y \mid b_k)

    Args:
        loss: ``(logits, lower halves) -> (batch,)``, in nats.
        draws: K.

    References:
        [Raiko2015] Raiko, Berglund, Alain, Dinh (2015), "Techniques for Learning Binary Stochastic
        Feedforward Neural Networks", arXiv:1406.2989. Gu, Levine, Sutskever, Mnih (2016),
        "MuProp", arXiv:1511.05176. Jang, Gu, Poole (2017), arXiv:1611.01144.
    """

    metric = "nll"

    @checked
    def __init__(self, loss: nn.Module, *, draws: Count):
        super().__init__(loss)
        self.draws = draws

    def require_batch(self, batch: Batch) -> None:
        """Raise ValueError unless there are lower halves."""
        if "lower" not in batch:
            raise ValueError("data must have lower halves: take one such as data=mnist5k_halves")

    def require_fit(self, model: Network, batch: Batch, code: Tensor, output: Any) -> None:
        """Raise ValueError unless bits are drawn, and the output is as large as the other half."""
        layer = model.binarizer
        if not isinstance(layer, Binarizer) or not layer.estimator.draws:
            raise ValueError(
                "halves are predicted by bits that are drawn, but estimator "
                f"{type(layer.estimator).__name__} draws none: take one such as bernoulli_st"
            )
        require_image(output, batch)

    def target(self, batch: Batch) -> Tensor:
        """Return the lower halves."""
        return batch["lower"]

    def metrics(self, output: Tensor, batch: Batch, losses: Tensor) -> dict[str, Tensor]:
        """Return ``nll`` of one draw."""
        return {"nll": losses}

    def evaluate(
        self, model: Network, batch: Batch, split: Split, *, generator: Source
    ) -> dict[str, Tensor]:
        """Return the mean ``loss`` of K draws, and ``nll``."""
        layer = model.binarizer
        assert isinstance(layer, Binarizer)
        p = layer.estimator.probability(layer.centre(model.encoder(batch["images"])))
        codes = (layer.values(bernoulli(p, generator=generator)) for _ in range(self.draws))
        losses = torch.stack([self.losses(model.decode(code), batch) for code in codes])
        return {
            "loss": losses.mean(0),
            "nll": math.log(self.draws) - torch.logsumexp(-losses, dim=0),
        }

    def pictures(self, model: Network, batch: Batch) -> dict[str, Tensor]:
        """Return the upper halves, and what is expected of the lower ones given the likeliest bits.

        The second row is what the figures of a study show of each group.
        """
        lower = torch.sigmoid(model(batch["images"]))
        return {"upper half": batch["images"], "reconstruction": lower}
