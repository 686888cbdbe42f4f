"""To model images by discrete codes: the evidence lower bound."""

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from stelab.arguments import checked
from stelab.lab.data.datamodule import Batch
from stelab.lab.models.network import Network
from stelab.lab.models.vae import VAE, Decoded
from stelab.lab.tasks.base import Split, Task, binary_layers
from stelab.lab.tasks.reconstruct import require_image


class Elbo(Task):
    r"""Train a discrete VAE: its loss is the negative evidence lower bound, in nats an image.

    .. math:: -\mathrm{ELBO} = \mathbb{E}_{q(b \mid x)}[-\log p(x \mid b)]
       + \mathrm{KL}(q(b \mid x)\,\|\,p(b))

    The configured loss is the first term, given the logits of pixels; ``nll`` is its value alone.
    Validation and test draw codes too, from the seed and the batch. The test adds ``bound_K`` for
    each K: the negative bound of K draws [Burda2016],

    .. math:: -\log\frac1K\sum_k \frac{p(x \mid b_k)\,p(b_k)}{q(b_k \mid x)} .

    Args:
        loss: ``(logits, images) -> (batch,)``, of images in [0, 1].
        bounds: The Ks.

    References:
        [Burda2016] Burda, Grosse, Salakhutdinov (2016), "Importance Weighted Autoencoders",
        arXiv:1509.00519.
    """

    metric = "loss"
    network = VAE

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

    def metrics(self, output: Decoded, batch: Batch) -> dict[str, Tensor]:
        """Return ``nll``."""
        return {"nll": super().losses(output.logits, batch)}

    def evaluate(
        self, model: Network, batch: Batch, split: Split, *, generator: Generator
    ) -> dict[str, Tensor]:
        """Return ``loss`` and ``nll`` of one draw; of the test split the bounds of many as well."""
        assert isinstance(model, VAE)
        draw = model.draw(batch["images"], generator=generator)
        values = {"loss": self.losses(draw.decoded, batch) + draw.rate}
        values |= self.metrics(draw.decoded, batch)
        for count in self.bounds if split == "test" else ():
            values[f"bound_{count}"] = self._bound(model, batch, count, generator)
        return values

    def _bound(self, model: VAE, batch: Batch, count: int, generator: Generator) -> Tensor:
        total = torch.full_like(batch["images"][:, 0, 0, 0], -torch.inf)
        for _ in range(count):
            draw = model.draw(batch["images"], generator=generator)
            nll = super().losses(draw.decoded.logits, batch)
            total = torch.logaddexp(total, draw.log_ratio - nll)
        return math.log(count) - total

    def pictures(self, model: Network, batch: Batch) -> dict[str, Tensor]:
        """Return the images, and what is expected of their pixels given the likeliest codes."""
        return {
            "original": batch["images"],
            "reconstruction": torch.sigmoid(model(batch["images"]).logits),
        }
