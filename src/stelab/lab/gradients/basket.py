"""A basket of estimators, measured while another one trains."""

import warnings
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from torch import nn

from stelab.annealing import advance
from stelab.arguments import AtLeastTwo, Count, FewBits, Seed, Size, checked
from stelab.estimators import Estimator, Exact
from stelab.estimators.variance import VarianceNet
from stelab.lab.gradients.measure import Measurement, adapt, measure, references
from stelab.lab.gradients.problems import Enumeration, NoGradientError, Subcode, code_loss
from stelab.lab.training.processes import EpochMeans


class GradientBasket(Callback):
    """Measure estimators against the exact gradient every few steps, on the training's own weights.

    All see the same weights, the same images and the same sub-code; none of them moves a weight,
    and what they draw is their own. Logged for every estimator of the basket, against logistic
    noise or, where its surrogate is the density of another noise, against that one:

    - ``gradients/<name>/cosine``: between exact gradient and mean estimate;
    - ``gradients/<name>/relative_bias`` and ``.../variance``: see `stelab.lab.gradients.measure`.

    TensorBoard gets every measurement (``_step``), metrics.csv the epoch's means. The loss is the
    task's, in eval mode. Where an exact gradient is 0, as where all logits are out of the reach of
    a bounded noise, nothing is measured against it, and a warning says so, once.

    Args:
        estimators: The basket, by name; its own, as networks for longer codes than `bits` are
            made anew.
        every_n_steps: Optimizer steps between two measurements, the first at step 0.
        bits: Length of the sub-code, at most 16, or the whole code where that is shorter; the
            other bits are held.
        examples: The first of the batch.
        samples: Estimates of those whose mean and variance cannot be enumerated.
        adapt: Steps, before a measurement, in which estimators learn what lowers their variance.
        seed: Of the choice of bits and of the draws.
    """

    @checked
    def __init__(
        self,
        *,
        estimators: dict[str, Any],
        every_n_steps: Count,
        bits: FewBits,
        examples: Count,
        samples: AtLeastTwo,
        adapt: Size,
        seed: Seed,
    ):
        # Made for codes of the whole length, of which they see a part.
        for part in nn.ModuleList(estimators.values()).modules():
            if isinstance(part, VarianceNet | Exact) and part.bits > bits:
                part.shorten(bits)
        self.estimators = estimators
        self.every_n_steps = every_n_steps
        self.bits = bits
        self.examples = examples
        self.samples = samples
        self.adapt = adapt
        self.seed = seed
        self.means = EpochMeans()
        self.warned: set[str] = set()

    def watches(self, trainer: Trainer, index: int) -> bool:
        """One in so many."""
        accumulating = index % trainer.accumulate_grad_batches > 0
        return trainer.global_step % self.every_n_steps == 0 and not accumulating

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        """Measure, every few steps."""
        if not self.watches(trainer, index):
            return
        first = {name: part[: self.examples] for name, part in batch.items()}
        s, loss = code_loss(module.task, module.model, first)
        bits = min(self.bits, s[0].numel())
        enumeration = Enumeration(Subcode(s, loss, bits=bits, seed=self.seed))
        progress = trainer.global_step / trainer.estimated_stepping_batches
        values: dict[str, float] = {}
        with torch.enable_grad(), torch.autocast(s.device.type, enabled=False):
            for name, estimator in self.estimators.items():
                advance(estimator.to(s.device), progress)
                try:
                    m = self._measure(estimator, enumeration)
                except NoGradientError:
                    self._warn(name, trainer.global_step)
                    continue
                means = {"cosine": m.cosine, "relative_bias": m.bias, "variance": m.variance}
                values |= {f"gradients/{name}/{key}": mean for key, mean in means.items()}
        if values:
            self.means.add(1, **{name: s.new_tensor(value) for name, value in values.items()})
        steps = {f"{name}_step": value for name, value in values.items()}
        for logger in trainer.loggers:
            logger.log_metrics(steps, step=trainer.global_step)

    def _measure(self, estimator: Estimator, enumeration: Enumeration) -> Measurement:
        *_, law = references(estimator).values()  # its own, where it has one
        exact = {"": enumeration.gradient(law)}
        generator = torch.Generator(enumeration.codes.device).manual_seed(self.seed)
        adapt(estimator, enumeration, steps=self.adapt, generator=generator)
        (measurement,) = measure(
            estimator, enumeration, exact, samples=self.samples, generator=generator
        ).values()
        return measurement

    def _warn(self, name: str, step: int) -> None:
        if name not in self.warned:
            self.warned.add(name)
            warnings.warn(
                f"{name} is not measured at step {step}: the exact gradient of its problem is 0 "
                "(or not a number) there, so that no estimate has a bias or a direction beside it",
                stacklevel=2,
            )

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Log the epoch's means."""
        module.log_dict(self.means.reset(trainer.strategy), sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch's means so far, and what the estimators have learned."""
        return {
            "means": self.means.state_dict(),
            "estimators": {name: e.state_dict() for name, e in self.estimators.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.means.load_state_dict(state["means"])
        for name, estimator in self.estimators.items():
            estimator.load_state_dict(state["estimators"][name])
