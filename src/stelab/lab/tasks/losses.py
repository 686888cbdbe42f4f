"""Losses of images, one value an example, and of variables, one value each."""

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from stelab.arguments import AtLeastOne, checked


class SquaredError(nn.Module):
    r"""Squared error between normalized images, shape ``(batch, 1, 28, 28) -> (batch,)``.

    The mean over the batch of what it returns is

    - ``reduction="mean"``: the mean over pixels and examples, torch's ``mse_loss``;
    - ``reduction="sum"``: the sum over pixels and examples, torch's
      ``mse_loss(reduction="sum")``. Gradients are then ``batch * 784`` times as large, which is
      what decides whether an estimator that clips gradients ever clips one. Validation and test
      take larger batches than training, and this is larger with them: compare by ``mse``.

    Args:
        reduction: ``"mean"`` or ``"sum"``.
    """

    @checked
    def __init__(self, *, reduction: Literal["mean", "sum"]):
        super().__init__()
        self.reduction = reduction

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Return one loss an example."""
        error = mse_loss(reconstruction, images, reduction="none").flatten(1)
        total = error.sum(1)  # whose gradient is one number an image; a mean's is one a pixel
        return total / error.shape[1] if self.reduction == "mean" else total * len(images)


class BernoulliLikelihood(nn.Module):
    r"""Negative log-likelihood of pixels in [0, 1], in nats: cross-entropy, summed over pixels.

    .. math:: -\sum_i x_i \log\sigma(l_i) + (1 - x_i) \log(1 - \sigma(l_i))
    """

    def forward(self, logits: Tensor, images: Tensor) -> Tensor:
        """Return one loss an image, ``(batch,)``, for logits in the shape of the images."""
        losses = binary_cross_entropy_with_logits(logits, images, reduction="none")
        return losses.flatten(1).sum(1)


class Power(nn.Module):
    r"""Power of the distance, :math:`|z - c|^q`, one value an element.

    Args:
        power: q, at least 1.
    """

    @checked
    def __init__(self, *, power: AtLeastOne):
        super().__init__()
        self.power = power

    def forward(self, values: Tensor, centre: Tensor) -> Tensor:
        """Return a loss for each element, in the shape of both."""
        return (values - centre).abs() ** self.power
