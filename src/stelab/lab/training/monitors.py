"""Callbacks that log what the bits and the gradients look like, and how fast training is."""

from __future__ import annotations

import time
import warnings
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from stelab.arguments import Count, checked
from stelab.estimators import Estimator
from stelab.lab.models import Autoencoder
from stelab.lab.training.processes import EpochMeans

SATURATION = 1.0
FLIP_RATIO = "code/flip_ratio"


class CodeMonitor(Callback):
    """Log what the code looks like after every epoch.

    Encodes a fixed set of images in eval mode and logs

    - ``code/mean``: share of ones;
    - ``code/dead_bits``: share of bits that are the same for all images;
    - ``code/entropy``: sum over bits of their binary entropies, in bits; at most the bits a code;
    - ``code/flip_ratio``: share of bits that changed since the epoch before (from the second on).

    The images are the validation split, or the first training images where there is none (at
    most 5,000). Warns where every bit is constant, naming the range of the pre-activations.
    """

    def __init__(self) -> None:
        self.previous: Tensor | None = None
        self.warned = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode, log, compare."""
        x, bits = probe_code(trainer, pl_module)
        bits = bits.flatten(1)
        mean = bits.mean(0, dtype=torch.float32)
        constant = (mean == 0) | (mean == 1)
        entropy = -(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum()
        log = {
            "code/mean": mean.mean(),
            "code/dead_bits": constant.float().mean(),
            "code/entropy": entropy / torch.log(torch.tensor(2.0)),
        }
        bits = bits.bool()
        if self.previous is not None:
            log[FLIP_RATIO] = (bits != self.previous.to(bits.device)).float().mean()
        self.previous = bits
        pl_module.log_dict(log, sync_dist=True)
        if constant.all() and not self.warned:
            self.warned = True
            value = "1" if (mean == 1).all() else "0" if (mean == 0).all() else "constant"
            warnings.warn(
                f"every bit is {value}: the pre-activations lie in [{x.min():.4g}, {x.max():.4g}], "
                "and the threshold does not separate them, so the code says nothing about the "
                "image. Move threshold.value into that range (a ReLU before the bits, "
                "model.relu_before_bits=true, leaves nothing below 0).",
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what the next epoch is compared with."""
        previous = None if self.previous is None else self.previous.cpu()
        return {"previous": previous, "warned": self.warned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.previous, self.warned = state["previous"], state["warned"]


def model_of(pl_module: LightningModule) -> Autoencoder:
    """Return the network inside an `AutoencoderModule`."""
    return cast(Autoencoder, pl_module.model)


@torch.no_grad()
def probe_code(trainer: Trainer, pl_module: LightningModule) -> tuple[Tensor, Tensor]:
    """Return pre-activations and bits of the probe images, in eval mode."""
    images = trainer.datamodule.probe()  # type: ignore[attr-defined]
    precision, training, model = trainer.precision_plugin, pl_module.training, model_of(pl_module)
    pl_module.eval()
    try:
        with precision.val_step_context():
            parts = [part.to(pl_module.device) for part in images.split(500)]
            x = torch.cat([model.encoder(precision.convert_input(part)) for part in parts])
        return x, model.binarizer(x)
    finally:
        pl_module.train(training)


def effect_of(pl_module: LightningModule) -> str | None:
    """Return the metric that is 0 while a clamping estimator has no effect; None for others."""
    clipped = type(model_of(pl_module).binarizer.estimator).clipped
    return "estimator/clip_fraction" if clipped is not Estimator.clipped else None


class GradientMonitor(Callback):
    """Look at the gradient on both sides of the binary layer every few steps; log epoch means.

    With g the gradient at the bits and s the centred pre-activation,

    - ``estimator/grad_norm``: Euclidean norm of g over the batch;
    - ``estimator/clip_fraction``: share of entries of g that the estimator clamps;
    - ``estimator/zero_grad_fraction``: share of exact zeros in the gradient at s;
    - ``estimator/saturation``: share of s beyond -1 and 1.

    Multi-evaluation estimators have no gradient at the bits, so neither of the first two.

    Args:
        every_n_steps: Steps between two looks, the first at step 0.
    """

    @checked
    def __init__(self, *, every_n_steps: Count):
        self.every_n_steps = every_n_steps
        self.means = EpochMeans()
        self.hooks: list[RemovableHandle] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Put hooks on threshold and estimator."""
        if batch_idx % self.every_n_steps == 0:
            binarizer = model_of(pl_module).binarizer
            self.hooks = [
                binarizer.threshold.register_forward_hook(self._see_threshold),
                binarizer.estimator.register_forward_hook(self._see_bits),
            ]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Take the hooks away."""
        while self.hooks:
            self.hooks.pop().remove()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's means."""
        means = self.means.reset(trainer.strategy)
        named = {f"estimator/{name}": value for name, value in means.items()}
        pl_module.log_dict(named, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch's means so far."""
        return self.means.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.means.load_state_dict(state)

    def _see_threshold(self, threshold: Any, inputs: tuple[Tensor, ...], theta: Tensor) -> None:
        def see_gradient(grad: Tensor) -> None:
            self.means.add(1, zero_grad_fraction=(grad == 0).float().mean())

        (x,) = inputs
        s = x.detach() - theta.detach()
        self.means.add(1, saturation=(s.abs() > SATURATION).float().mean())
        if x.requires_grad:
            x.register_hook(see_gradient)

    def _see_bits(self, estimator: Any, inputs: tuple[Tensor, ...], bits: Tensor) -> None:
        def see_gradient(grad: Tensor) -> None:
            clipped = estimator.clipped(grad).float().mean()
            self.means.add(1, grad_norm=grad.float().norm(), clip_fraction=clipped)

        if bits.requires_grad:
            bits.register_hook(see_gradient)


class Throughput(Callback):
    """Log ``time/images_per_s``: images trained on in a second of the epoch's training steps.

    Of an epoch that was continued in its middle, the steps since then.
    """

    def __init__(self) -> None:
        self.images = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Start the clock at the first batch."""
        if not self.images:
            self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock, as this may be the epoch's last batch."""
        self.images += len(batch) * trainer.world_size
        last = trainer.should_stop or batch_idx + 1 == trainer.num_training_batches
        if last and pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        self.end = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note when a validation begins."""
        self.paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave it out, also where it was in the middle of the epoch."""
        took = time.perf_counter() - self.paused
        self.start, self.end = self.start + took, self.end + took

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the rate."""
        rate = self.images / max(self.end - self.start, 1e-9)
        self.images = 0
        pl_module.log("time/images_per_s", rate, sync_dist=True)
