"""To model images by discrete codes: the evidence lower bound."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from stelab.arguments import checked
from stelab.lab.data.datamodule import Batch
from stelab.lab.models.network import Network
from stelab.lab.models.vae import VAE, Decoded
from stelab.lab.tasks.base import Split, Task, binary_layers
from stelab.lab.tasks.reconstruct import require_image
from stelab.randomness import Source

_MOST_PIXELS = 2**18  # of what is drawn together, so that memory does not grow with the draws


class Elbo(Task):
    r"""Train a discrete VAE: its loss is the negative evidence lower bound, in nats an image.

    .. math:: -\mathrm{ELBO} = \mathbb{E}_{q(b \mid x)}[-\log p(x \mid b)]
       + \mathrm{KL}(q(b \mid x)\,\|\,p(b))

    The configured loss is the first term, given the logits of pixels; ``nll`` is its value alone.
    Validation and test draw codes too, from the seed and the batch. The test adds ``bound_K`` for
    each K: the negative bound of K draws [Burda2016],

    .. math:: -\log\frac1K\sum_k \frac{p(x \mid b_k)\,p(b_k)}{q(b_k \mid x)} ,

    which falls with K, in the mean, to :math:`-\log p(x)`. Time grows with K, memory does not.

    Args:
        loss: ``(logits, images) -> (batch,)``, of images in [0, 1].
        bounds: The Ks.

    References:
        [Burda2016] Burda, Grosse, Salakhutdinov (2016), "Importance Weighted Autoencoders",
        arXiv:1509.00519.
    """

    metric = "loss"
    network = VAE
    encodes = True

    @checked
    def __init__(self, loss: nn.Module, *, bounds: list[Any]):
        super().__init__(loss)
        if wrong := [k for k in bounds if type(k) is not int or k < 1]:
            raise ValueError(f"bounds must be numbers of draws, integers above 0, got {wrong[0]!r}")
        self.bounds = tuple(bounds)

    def require_batch(self, batch: Batch) -> None:
        """Raise ValueError unless pixels are shares of white."""
        low, high = batch["images"].aminmax()
        if low < 0 or high > 1:
            raise ValueError(
                f"pixels must lie in [0, 1], got [{low:g}, {high:g}]: set data.mean=0 data.std=1, "
                "or take data=binarized_mnist"
            )

    def require_fit(self, model: Network, batch: Batch, code: Tensor, output: Any) -> None:
        """Raise ValueError unless the estimators draw, and the output is an image's."""
        for layer in binary_layers(model):
            if not layer.estimator.draws:
                raise ValueError(
                    "an ELBO needs codes that are drawn, but estimator "
                    f"{type(layer.estimator).__name__} thresholds: take one such as bernoulli_st"
                )
        require_image(output.logits, batch)

    def target(self, batch: Batch) -> Tensor:
        """Return the images."""
        return batch["images"]

    def losses(self, output: Decoded, batch: Batch) -> Tensor:
        """Return the loss of each image, and what the layers behind the first cost it."""
        return super().losses(output.logits, batch) + output.cost

    def penalty(self, model: Network, x: Tensor) -> Tensor:
        """Return what is known of the divergence, ``(batch,)``."""
        assert isinstance(model, VAE)
        return model.rate(x)

    def metrics(self, output: Decoded, batch: Batch, losses: Tensor) -> dict[str, Tensor]:
        """Return ``nll``."""
        return {"nll": losses - output.cost}

    def evaluate(
        self, model: Network, batch: Batch, split: Split, *, generator: Source
    ) -> dict[str, Tensor]:
        """Return ``loss`` and ``nll`` of one draw; of the test split the bounds of many as well."""
        assert isinstance(model, VAE)
        x = model.encoder(batch["images"])
        decoded = model.draw(x, generator=generator).decoded
        losses = self.losses(decoded, batch)
        values = {"loss": losses + self.penalty(model, x)}
        values |= self.metrics(decoded, batch, losses)
        for count in self.bounds if split == "test" else ():
            values[f"bound_{count}"] = self._bound(model, x, batch, count, generator)
        return values

    def _bound(self, model: VAE, x: Tensor, batch: Batch, count: int, generator: Source) -> Tensor:
        """Return the bound of `count` draws, a few of them at a time."""
        together = max(1, _MOST_PIXELS // batch["images"].numel())
        parts = []
        for first in range(0, count, together):
            draws = min(together, count - first)
            repeated = {name: _repeated(part, draws) for name, part in batch.items()}
            draw = model.draw(_repeated(x, draws), generator=generator)
            log_weight = draw.log_ratio - super().losses(draw.decoded.logits, repeated)
            parts.append(log_weight.reshape(draws, -1).logsumexp(0))
        return math.log(count) - torch.stack(parts).logsumexp(0)

    def image(self, output: Decoded) -> Tensor:
        """Return what is expected of pixels."""
        return torch.sigmoid(output.logits)

    def pictures(self, model: Network, batch: Batch) -> dict[str, Tensor]:
        """Return the images, and what is expected of their pixels given the likeliest codes."""
        images = batch["images"]
        return {"original": images, "reconstruction": self.image(model(images))}


def _repeated(tensor: Tensor, repeats: int) -> Tensor:
    return tensor.expand(repeats, *tensor.shape).flatten(0, 1)
