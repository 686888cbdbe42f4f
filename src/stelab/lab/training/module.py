"""The Lightning module: encoder, binary layer and decoder under one loss."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stelab.annealing import advance
from stelab.engine.config import build
from stelab.engine.errors import RunError
from stelab.estimators import Estimator, MultiEvaluation
from stelab.lab.data.datamodule import Batch, seeded
from stelab.lab.models import Autoencoder
from stelab.lab.training.losses import SquaredError
from stelab.lab.training.processes import EpochMeans
from stelab.lab.training.schedules import build_schedule


class AutoencoderModule(pl.LightningModule):
    """Trains ``x_hat = decoder(binarizer(encoder(x)))`` through the binarizer's estimator.

    Logged every epoch for each split: ``loss`` (as configured) and ``mse`` (always the mean over
    pixels of normalized images). Training averages over the epoch, so over changing weights and
    in training mode; validation and test are in eval mode.

    Random bits depend on the seed, the step and the process only. Parameters that only lower an
    estimator's variance have its own optimizer; a checkpoint holds them under ``"variance"``.

    The loss is ``(reconstruction, images) -> (batch,)``, or one a pixel, such as torch's with
    ``reduction="none"``: an example's is their mean. Optimizer and schedule are plain
    configurations (see `build_schedule`).
    """

    # What `on_load_checkpoint` and `load_state_dict` read of a checkpoint.
    WEIGHTS: ClassVar[tuple[str, ...]] = ("state_dict", "means", "variance")

    def __init__(
        self,
        *,
        model: Autoencoder,
        loss: nn.Module,
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        seed: int,
    ):
        super().__init__()
        self.model = model
        self.reconstruction_loss = loss
        self.optimizer_config = optimizer
        self.scheduler_config = scheduler
        self.seed = seed
        self.variance_optimizer = self.estimator.variance_optimizer()
        self.squared_error = SquaredError(reduction="mean")
        self.means = {split: EpochMeans() for split in ("train", "val", "test")}

    @property
    def estimator(self) -> Estimator:
        """Return the estimator that trains the encoder."""
        return self.model.binarizer.estimator

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct `images`."""
        return self.model(images)

    def losses(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Return one loss an example, shape ``(batch,)``."""
        losses: Tensor = self.reconstruction_loss(reconstruction, images)
        return losses.flatten(1).mean(1) if losses.dim() > 1 else losses

    def on_train_start(self) -> None:
        """Warn where the decoder breaks what the estimator assumes."""
        batch_norm = any(isinstance(m, _BatchNorm) for m in self.model.decoder.modules())
        if batch_norm and isinstance(self.estimator, MultiEvaluation):
            warnings.warn(
                f"{type(self.estimator).__name__} assumes that an example's loss depends on its "
                "own bits only, but the decoder has batch norm, which biases its gradient: set "
                "model.norm=group (or none)",
                stacklevel=2,
            )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move every schedule to where training stands: at 1 after the last step."""
        if self.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True  # so that it is validated, in the middle of an epoch
        advance(self, self.global_step / self.trainer.estimated_stepping_batches)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the scalar whose gradient the estimator estimates."""
        images = batch["images"]
        first: list[Tensor] = []  # an enumerating estimator evaluates the loss a thousand times

        def per_example_loss(bits: Tensor) -> Tensor:
            reconstruction = self.model.decode(bits)
            if not first:
                first.append(reconstruction.detach())
            return self.losses(reconstruction, images)

        x = self.model.encoder(images)
        generator = seeded(self.seed, self.global_step, self.global_rank, device=x.device)
        loss = self.model.binarizer.loss(x, per_example_loss, generator=generator)
        require_finite(
            loss, x, step=self.global_step, model=self.model, forward=lambda: self.model(images)
        )
        if self.variance_optimizer is not None:  # the same step in every process
            for group in self.variance_optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = self.trainer.strategy.reduce(parameter.grad, reduce_op="mean")
            self.variance_optimizer.step()
        self._record("train", loss.detach(), first[0], images)
        self.log("train/loss_step", loss.detach())
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Record the loss of the reconstructions."""
        self._evaluate("val", batch["images"])

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Record the loss of the reconstructions."""
        self._evaluate("test", batch["images"])

    def _evaluate(self, split: str, images: Tensor) -> None:
        reconstruction = self(images)
        loss = self.losses(reconstruction, images).mean()
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
        for name, value in self.means[split].reset(self.trainer.strategy).items():
            if not value.isfinite():
                raise NonFiniteError(f"step {self.global_step}: {split}/{name} is {value.item()}")
            # The processes' means are equal already; it saves a warning.
            self.log(f"{split}/{name}", value, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Build the optimizer and the schedule from their plain configurations."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = build(self.optimizer_config, params=parameters)
        schedule = build_schedule(self.scheduler_config, optimizer=optimizer, count=self._count)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _count(self, interval: str) -> int:
        """Return the run's steps, or its epochs."""
        trainer, data = self.trainer, self.trainer.datamodule  # type: ignore[attr-defined]
        # Lightning's own count would set up the data before it knows where to continue in it.
        batches = data.batches_per_epoch(trainer.limit_train_batches)
        an_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
        epochs, steps = trainer.max_epochs or -1, trainer.max_steps
        total = min(end for end in (epochs * an_epoch, steps) if end > 0)
        return total if interval == "step" else math.ceil(total / an_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the epoch's means; store what only lowers the variance apart from the network."""
        checkpoint["means"] = self.means["train"].state_dict()
        if self.variance_optimizer is not None:
            state, parameters = checkpoint["state_dict"], self.estimator.named_parameters()
            names = sorted(name for name, p in parameters if not p.requires_grad)
            keys = [f"model.binarizer.estimator.{name}" for name in names]
            checkpoint["variance"] = {
                "parameters": {key: state.pop(key) for key in keys},
                "optimizer": self.variance_optimizer.state_dict(),
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put both back."""
        self.means["train"].load_state_dict(checkpoint["means"])
        if self.variance_optimizer is not None:
            checkpoint["state_dict"].update(checkpoint["variance"]["parameters"])
            self.variance_optimizer.load_state_dict(checkpoint["variance"]["optimizer"])


class NonFiniteError(RunError):
    """A loss or a pre-activation is NaN or infinite; the message names the step and the layer."""


def require_finite(
    loss: Tensor, x: Tensor, *, step: int, model: nn.Module, forward: Callable[[], object]
) -> None:
    """Raise NonFiniteError where training went wrong, before the wrong numbers spread.

    The pre-activations `x` are checked as well as the loss: the step turns NaN into a 0 or a 1, so
    a loss can be finite while the encoder is not. `forward`, the pass again, finds the layer.
    """
    if loss.isfinite() & x.isfinite().all():
        return
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and not value.isfinite().all():
            layer = name.rpartition(".")[0]
            raise NonFiniteError(
                f"step {step}: the weights of {layer} are not finite since the update of step "
                f"{step - 1}"
            )
    layers: list[str] = []

    def note(name: str, layer: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            layers.append(name)

    hooks = [
        layer.register_forward_hook(partial(note, name))
        for name, layer in model.named_modules()
        if not next(layer.children(), None)
    ]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    where = f"the output of {layers[0]}" if layers else "the loss"
    raise NonFiniteError(f"step {step}: {where} is not finite, all weights are")
