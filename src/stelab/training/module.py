"""The Lightning module: encoder, binary layer and decoder under one loss."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer

from stelab.config import build
from stelab.models import Autoencoder
from stelab.training.losses import SquaredError
from stelab.training.means import Means


class AutoencoderModule(pl.LightningModule):
    """Trains ``x_hat = decoder(binarizer(encoder(x)))`` through the binarizer's estimator.

    Logged every epoch for each split: ``loss`` (as configured) and ``mse`` (always the mean over
    pixels of normalized images). Training averages over the epoch, so over changing weights and
    in training mode; validation and test are in eval mode.

    Args:
        model: The autoencoder.
        loss: ``(reconstruction, images) -> (batch,)``.
        optimizer: Plain configuration of the optimizer. Checkpoints hold plain values only, so
            they load with ``weights_only=True``.
        scheduler: Plain configuration of the learning-rate schedule, a step an epoch.
    """

    def __init__(
        self,
        *,
        model: Autoencoder,
        loss: nn.Module,
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
    ):
        super().__init__()
        self.model = model
        self.reconstruction_loss = loss
        self.optimizer_config = optimizer
        self.scheduler_config = scheduler
        self.squared_error = SquaredError(reduction="mean")
        self.means = {split: Means() for split in ("train", "val", "test")}

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct `images`."""
        reconstruction: Tensor = self.model(images)
        return reconstruction

    def training_step(self, images: Tensor, batch_index: int) -> Tensor:
        """Return the scalar whose gradient the estimator estimates."""
        reconstructions: list[Tensor] = []

        def per_example_loss(bits: Tensor) -> Tensor:
            reconstruction = self.model.decode(bits)
            reconstructions.append(reconstruction.detach())
            losses: Tensor = self.reconstruction_loss(reconstruction, images)
            return losses

        loss = self.model.binarizer.loss(self.model.encoder(images), per_example_loss)
        self._record("train", loss.detach(), reconstructions[0], images)
        self.log("train/loss_step", loss.detach())
        return loss

    def validation_step(self, images: Tensor, batch_index: int) -> None:
        """Record the loss of the reconstructions."""
        self._evaluate("val", images)

    def test_step(self, images: Tensor, batch_index: int) -> None:
        """Record the loss of the reconstructions."""
        self._evaluate("test", images)

    def _evaluate(self, split: str, images: Tensor) -> None:
        reconstruction = self(images)
        loss = self.reconstruction_loss(reconstruction, images).mean()
        self._record(split, loss, reconstruction, images)

    def _record(self, split: str, loss: Tensor, reconstruction: Tensor, images: Tensor) -> None:
        mse = self.squared_error(reconstruction.float(), images).mean()
        self.means[split].add(len(images), loss=loss, mse=mse)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means."""
        self._log_means("train")

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's means."""
        self._log_means("val")

    def on_test_epoch_end(self) -> None:
        """Log the means."""
        self._log_means("test")

    def _log_means(self, split: str) -> None:
        means = self.means[split].reset(self.trainer.strategy)
        named = {f"{split}/{name}": value for name, value in means.items()}
        self.log_dict(named, sync_dist=True)  # they are equal already; it saves a warning

    def configure_optimizers(self) -> Any:
        """Build the optimizer and the schedule from their plain configurations."""
        optimizer: Optimizer = build(self.optimizer_config, params=list(self.parameters()))
        return [optimizer], [build(self.scheduler_config, optimizer=optimizer)]
