"""The variance of several estimators' gradients along one training.

References:
    [Dong2020] Dong, Mnih, Tucker (2020), "DisARM: An Antithetic Gradient Estimator for Binary
    Latent Variables", arXiv:2006.10680.
"""

import copy
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn

from stelab.annealing import advance
from stelab.arguments import AtLeastTwo, Portion, checked
from stelab.engine.errors import InputError
from stelab.estimators import Estimator
from stelab.lab.data.datamodule import Batch
from stelab.lab.tasks.base import binary_layers
from stelab.lab.training.module import TaskModule
from stelab.lab.training.processes import EpochMeans, step_together
from stelab.philox import Philox

_LAST_STREAM = 2**32 - 1  # training's count from 0, see `TaskModule.random_numbers`


class GradientVariance(Callback):
    r"""Follow the variance of several estimators' gradients, all at the training's own weights.

    Before every step, each passes the batch in place of the estimator that trains, from the same
    random numbers, which are not the training's. With :math:`g_i` the gradient of one of the
    encoder's n parameters, and averages over the steps by `Moments`, logged is

    - ``gradients/<name>/variance``: :math:`\frac1n\sum_i \mathbb{E}g_i^2 - (\mathbb{E}g_i)^2`,

    that of the choice of images included. [Dong2020] None of them moves a weight; what an
    estimator learns to lower its variance, it learns all the while, from its own gradients.
    TensorBoard gets a value every few steps (``_step``), metrics.csv the epoch's mean of these.

    Args:
        estimators: The basket, by name. They take the place of the first binary layer's.
        decay: Of the averages, what stays at every step.
        every_n_steps: Steps from one value that is logged to the next; the first is of so many.
    """

    @checked
    def __init__(self, *, estimators: dict[str, Any], decay: Portion, every_n_steps: AtLeastTwo):
        self.estimators = estimators
        self.decay = decay
        self.every_n_steps = every_n_steps
        self.means = EpochMeans()
        self.shadows: dict[str, Shadow] = {}
        self.restored: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Set the estimators beside the one that trains, where they were."""
        for name, estimator in self.estimators.items():
            self.shadows[name] = Shadow(module, estimator, decay=self.decay)
        for name, state in self.restored.items():
            self.shadows[name].load_state_dict(state)

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        """Pass the batch with each, unless its gradient is added to that of one before."""
        if index % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        for shadow in self.shadows.values():
            advance(shadow.estimator, step / module.steps)
            draws = Philox(module.seed, step, _LAST_STREAM - trainer.global_rank)
            with trainer.precision_plugin.train_step_context():
                gradient = shadow.gradient(batch, draws)
            shadow.moments.add(trainer.strategy.reduce(gradient, reduce_op="mean"))
            if shadow.optimizer is not None:
                step_together(shadow.optimizer, trainer.strategy)
        if (step + 1) % self.every_n_steps == 0:
            self._log(trainer)

    def _log(self, trainer: Trainer) -> None:
        values = {
            f"gradients/{name}/variance": shadow.moments.variance()
            for name, shadow in self.shadows.items()
        }
        self.means.add(1, **values)
        steps = {f"{name}_step": value.item() for name, value in values.items()}
        for logger in trainer.loggers:
            logger.log_metrics(steps, step=trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Log the epoch's means."""
        module.log_dict(self.means.reset(trainer.strategy), sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch's means so far, all averages, and what the estimators have learned."""
        shadows = {name: shadow.state_dict() for name, shadow in self.shadows.items()}
        return {"means": self.means.state_dict(), "shadows": shadows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the means; the rest when training starts, on the device that it is on."""
        self.means.load_state_dict(state["means"])
        self.restored = state["shadows"]


class Shadow:
    """A network that shares the weights of one that trains, but has another estimator.

    Args:
        module: What trains. Its buffers are copied before every pass, which may change them.
        estimator: Of the first binary layer.
        decay: See `Moments`.

    Raises:
        InputError: There is no binary layer.
    """

    def __init__(self, module: TaskModule, estimator: Estimator, *, decay: float):
        shared: dict[int, Any] = {id(p): p for p in module.model.parameters()}
        model = copy.deepcopy(module.model, shared)
        self.buffers = list(zip(model.buffers(), module.model.buffers(), strict=True))
        if not (layers := binary_layers(model.binarizer)):
            raise InputError("what is measured is a gradient at bits, but the layer has one-hots")
        self.estimator = layers[0].estimator = estimator.to(module.device)
        self.optimizer = estimator.variance_optimizer()
        plain: dict[str, Any] = {"optimizer": {}, "scheduler": {}}
        self.module = TaskModule(model=model, task=module.task, seed=module.seed, **plain)
        self.parameters = [p for p in model.encoder.parameters() if p.requires_grad]
        size = sum(p.numel() for p in self.parameters)
        self.moments = Moments(size, decay=decay).to(module.device)

    def gradient(self, batch: Batch, draws: Philox) -> Tensor:
        """Return the encoder's gradient of a batch by this estimator, in one vector."""
        for own, of_training in self.buffers:
            own.copy_(of_training)
        loss, _, _ = self.module.take(batch, draws)
        gradients = torch.autograd.grad(
            loss, self.parameters, allow_unused=True, materialize_grads=True
        )
        return torch.cat([gradient.flatten() for gradient in gradients])

    def state_dict(self) -> dict[str, Any]:
        """Return what a step changes."""
        optimizer = {} if self.optimizer is None else self.optimizer.state_dict()
        parts = {"estimator": self.estimator, "moments": self.moments}
        return {name: part.state_dict() for name, part in parts.items()} | {"optimizer": optimizer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.estimator.load_state_dict(state["estimator"])
        self.moments.load_state_dict(state["moments"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])


class Moments(nn.Module):
    r"""Exponential moving averages of vectors and of their squares, both 0 at first.

    After t vectors the weight of the i-th is :math:`w_i = (1-d)\,d^{t-i}/(1-d^t)`, so that all are
    1 together. `variance` is without bias where the vectors are independent and of one law.

    Args:
        size: Of the vectors.
        decay: d.
    """

    def __init__(self, size: int, *, decay: float):
        super().__init__()
        self.decay = decay
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.mean: Tensor = nn.Buffer(torch.zeros(size))
        self.square: Tensor = nn.Buffer(torch.zeros(size))

    def add(self, x: Tensor) -> None:
        """Average in another vector."""
        x = x.to(self.mean.dtype)
        self.count += 1
        self.mean.lerp_(x, 1 - self.decay)
        self.square.lerp_(x.square(), 1 - self.decay)

    def variance(self) -> Tensor:
        r"""Return the mean of the entries' variances, 0-dimensional; of two vectors at least.

        :math:`(\sum_i w_i x_i^2 - (\sum_i w_i x_i)^2) / (1 - \sum_i w_i^2)`.
        """
        d, left = self.decay, self.decay ** self.count.item()
        variances = self.square / (1 - left) - (self.mean / (1 - left)).square()
        return variances.mean() * ((1 + d) * (1 - left) / (2 * (d - left)))
