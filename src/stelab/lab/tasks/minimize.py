"""To find the law of free variables under which a loss is least in the mean."""

import torch
from torch import Tensor, nn

from stelab.arguments import Real, checked
from stelab.lab.data.datamodule import Batch
from stelab.lab.models.logits import Logits
from stelab.lab.models.network import Network
from stelab.lab.tasks.base import Split, Task
from stelab.randomness import Source


class Minimize(Task):
    r"""Minimize the expected loss of independent variables, without any data.

    .. math:: \mathbb{E}_{z \sim p_\theta}\Bigl[\frac1N \sum_i \ell(z_i, c)\Bigr]
       = \frac1N \sum_i \sum_k p_\theta(z_i = k)\,\ell(k, c)

    Training sees the losses of drawn codes, as one number each; so its loss is of draws, and those
    of validation and test are the right-hand side: exact.

    Args:
        loss: ``(values, centre)``, one value an element.
        centre: c.
    """

    metric = "loss"
    network = Logits

    @checked
    def __init__(self, loss: nn.Module, *, centre: Real):
        super().__init__(loss)
        self.centre = centre

    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean over the variables of each code, ``(batch,)``."""
        return self._of_each(output).mean(1)

    def metrics(self, output: Tensor, batch: Batch, losses: Tensor) -> dict[str, Tensor]:
        """Return nothing more."""
        return {}

    def evaluate(
        self, model: Network, batch: Batch, split: Split, *, generator: Source
    ) -> dict[str, Tensor]:
        """Return the expected ``loss``, exactly."""
        assert isinstance(model, Logits)
        law = model.law(model.encoder(batch["images"]))
        return {"loss": (law * self._of_each(model.values())).sum(-1).mean(1)}

    def _of_each(self, values: Tensor) -> Tensor:
        losses: Tensor = self.loss(values, torch.zeros_like(values) + self.centre)
        if losses.shape != values.shape:
            raise ValueError(
                f"loss must return one value a variable, shape {tuple(values.shape)}, but returns "
                f"{tuple(losses.shape)}: take loss=power, or one of torch's with "
                "loss.reduction=none"
            )
        return losses
