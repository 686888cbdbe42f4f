"""The training step of several runs as one program, traced once."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from stelab.annealing import Scheduled
from stelab.categorical import MVE
from stelab.lab.data.datamodule import Batch
from stelab.lab.tasks.base import binary_layers
from stelab.lab.training.captured import Captured
from stelab.lab.training.module import STREAMS, TaskModule
from stelab.lab.training.monitors import at_bits, at_pre_activations, of_centred
from stelab.lab.training.probes import Zeros, passing
from stelab.lab.training.processes import SharedMeans
from stelab.lab.training.stacked_update import OWN, StackedUpdate
from stelab.philox import Philox
from stelab.quantizers import Quantizer

_DESCRIBES = ("exactness", "randomness")  # attributes that compute nothing
_SHAPES = ("quantile",)  # numbers that choose what is computed
_CLOSE = 1e-2  # of the gradient's norm: rounding may flip a bit
_NOT_TENSORS = (Quantizer, MVE)  # whose numbers must be Python's


Differentiated = tuple[Any, ...]
"""The gradients of the trained parameters, stacked; of each run its loss and its largest
pre-activation, ``(runs, 2)``; what is logged, ``(runs,)`` each; and, where gradients are looked at,
what `GradientMonitor` logs of each layer."""


class StackedStep:
    """Trains modules that differ in numbers as one: a step has as many kernels as that of one.

    Parameters, buffers and the optimizers' state of each run become views of stacked tensors, so
    whatever a run does by itself, such as validating, saving, or a step alone, works on the same.
    What is different between them, of hyperparameters, is a tensor with an entry for each run.

    Args:
        modules: Of the runs, of one `signature`.
        programs: What was traced already, by the shapes that it is for.
        zeros: Where gradients may be looked at, see `looks`.
    """

    def __init__(
        self,
        modules: Sequence[TaskModule],
        programs: dict[Any, Callable[..., Any]],
        zeros: Sequence[Zeros] = (),
    ):
        self.modules = modules
        self.programs = programs
        first = modules[0]
        self.trained = [name for name, p in first.named_parameters() if p.requires_grad]
        self.tensors = {
            name: _stack([dict(_tensors(module))[name] for module in modules])
            for name, _ in _tensors(first)
        }
        device = self.tensors[self.trained[0]].device
        self.values = {
            key: torch.tensor([value(module, key) for module in modules], device=device)
            for key in _numbers(first)
            if len({value(module, key) for module in modules}) > 1
        }
        self.seeds = torch.tensor([module.seed for module in modules], device=device)
        self.progress = [
            f"{path}.progress"
            for path, part in first.named_modules()
            if isinstance(part, Scheduled)
        ]
        self.update: StackedUpdate | None = None
        self.at: list[int] = []  # the steps that the runs are at, and the same as a tensor
        self.steps = torch.zeros_like(self.seeds)
        self.captured: dict[Any, Captured] = {}
        self.logged, self.watched = SharedMeans(), SharedMeans()
        count = len(modules)
        self.zeros = [tuple(z.to(device).expand(count, *z.shape) for z in layer) for layer in zeros]

    def differentiate(
        self, batch: Batch, at: Sequence[int], *, looks: bool = False
    ) -> Differentiated:
        """Pass stacked batches, ``(runs, batch, ...)`` each, at these steps of the runs.

        Args:
            batch: The batches.
            at: The steps.
            looks: Whether gradients are looked at.
        """
        device, zeros = self.seeds.device, self.zeros if looks else []
        if at != self.at:  # the first step, or some took one alone
            self.at = list(at)
            self.steps.copy_(torch.tensor(at))
        shapes = ((name, *part.shape) for name, part in batch.items())
        key = (str(device), *shapes, looks)

        def compute(batch: Batch) -> Any:
            arguments = (self.tensors, self.values, batch, self.seeds, self.steps, zeros)
            if key not in self.programs:
                self.programs[key] = self._trace(arguments)
            return self.programs[key](*arguments)

        if self.modules[0].kind == "graph" and device.type == "cuda":
            if key not in self.captured:
                self.captured[key] = Captured(compute, device)
            compute = self.captured[key]
        with torch.no_grad():
            gradients, *others = compute(batch)
        return [gradients[name] for name in self.trained], *others

    def looks(self, batch: Batch) -> list[Zeros]:
        """Return where `GradientMonitor` looks in a run's batch; nothing where it has to alone."""
        module, buffers = self.modules[0], [tensor.clone() for _, tensor in self._buffers()]
        with passing(module.model) as passed:
            module.take(batch, Philox(module.seed, 0, STREAMS.index("training")))
        self._put_back(buffers)
        return passed.zeros(len(binary_layers(module.model)))

    def require_same(self, batch: Batch) -> None:
        """Raise ValueError, which says why, unless a step's gradients are those of each run."""
        buffers = [tensor.clone() for name, tensor in self._buffers()]
        stacked, *_ = self.differentiate(batch, [0] * len(self.modules))
        self._put_back(buffers)
        for i, module in enumerate(self.modules):
            draws = Philox(module.seed, 0, STREAMS.index("training"))
            loss, _, _ = module.take({name: part[i] for name, part in batch.items()}, draws)
            parameters = [module.get_parameter(name) for name in self.trained]
            alone = torch.autograd.grad(loss, parameters, allow_unused=True)
            if unused := [n for n, g in zip(self.trained, alone, strict=True) if g is None]:
                raise ValueError(f"the loss does not depend on {unused[0]}")
            norm = torch.stack([g.norm() for g in alone if g is not None]).norm()
            pairs = zip(stacked, alone, strict=True)
            off = torch.stack([(gs[i] - g).norm() for gs, g in pairs if g is not None]).norm()
            if not off <= _CLOSE * norm:
                raise ValueError(f"stacked, its gradient differs by {off:.2g} of {norm:.2g}")
        self._put_back(buffers)

    def _buffers(self) -> list[tuple[str, Tensor]]:
        parameters = dict(self.modules[0].named_parameters())
        return [(name, part) for name, part in self.tensors.items() if name not in parameters]

    def _put_back(self, buffers: Sequence[Tensor]) -> None:
        for (_, tensor), before in zip(self._buffers(), buffers, strict=True):
            tensor.copy_(before)

    @contextmanager
    def unmoved(self, runs: Sequence[int]) -> Iterator[None]:
        """Put the weights of these runs back afterwards."""
        before = [(part, part.clone()) for i in runs for part in self._weights(i)]
        yield
        for part, value_ in before:
            part.copy_(value_)

    def _weights(self, run: int) -> list[Tensor]:
        return [self.tensors[name][run] for name in self.trained]

    def move(self, gradients: Sequence[Tensor]) -> None:
        """Move the weights, and every schedule to where its run stands."""
        if self.update is None:
            optimizers = [module.trainer.optimizers[0] for module in self.modules]
            self.update = StackedUpdate(optimizers, [self.tensors[name] for name in self.trained])
        with torch.no_grad():
            self.update(gradients, at=self.at)
        self.steps.add_(1)
        self.at = [step + 1 for step in self.at]
        if self.progress:
            shares = [step / m.steps for step, m in zip(self.at, self.modules, strict=True)]
            for name in self.progress:
                self.tensors[name].copy_(torch.tensor(shares))

    def record(self, logged: dict[str, Tensor], examples: int) -> None:
        """Add what is logged to the runs' epoch means."""
        self.logged.add([module.means["train"] for module in self.modules], examples, logged)

    def record_looks(self, seen: Sequence[dict[str, Tensor]], monitors: Sequence[Any]) -> None:
        """Add what is seen of each layer to the monitors' epoch means."""
        for values in seen:
            self.watched.add([monitor.means for monitor in monitors], 1, values)

    def _trace(self, arguments: Any) -> Callable[..., Any]:
        """Write down what the step of all runs computes, without computing it."""
        template = self.modules[0]
        step, layers = _Step(template), binary_layers(template.model)

        def of_a_run(
            tensors: Any, values: Any, batch: Batch, seed: Tensor, at: Tensor, zeros: Any
        ) -> Any:
            trained = {name: tensors[name] for name in self.trained}
            others = {name: tensors[name] for name in tensors if name not in trained}

            # Buffers are an argument of what is differentiated, as only these may be written to.
            def loss(trained: Any, zeros: Any, others: Any) -> Any:
                named = {f"module.{name}": t for name, t in (trained | others).items()}
                with passing(template.model, zeros) as passed:
                    value, noted = functional_call(step, named, (batch, seed, at))
                return value, (noted, [of_centred(s) for _, s in sorted(passed.centred.items())])

            by = grad(loss, (0, 1), has_aux=True)
            with _assigned(template, values):
                (gradients, looked), (noted, seen) = by(trained, zeros, others)
                for found, (x, *bits), layer in zip(seen, looked, layers, strict=False):
                    found |= at_pre_activations(x)
                    for gradient in bits:
                        found |= at_bits(gradient, layer.estimator)
            return gradients, *noted, seen if zeros else []

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            return make_fx(vmap(of_a_run), tracing_mode="fake")(*arguments)


class _Step(nn.Module):
    """`TaskModule.take` as a module, with what training checks and logs of it."""

    def __init__(self, module: TaskModule):
        super().__init__()
        self.module = module

    def forward(self, batch: Batch, seed: Tensor, step: Tensor) -> Any:
        draws = Philox(seed, step, STREAMS.index("training"))
        loss, x, logged = self.module.take(batch, draws)
        checked = torch.stack([loss.detach().float(), x.detach().abs().amax().float()])
        return loss, (checked, logged)


def signature(module: TaskModule, *parts: object) -> str:
    """Return what runs of a stack have in common: these parts, and all but numbers in tensors."""
    optimizer = {k: v for k, v in module.optimizer_config.items() if k not in OWN}
    lines = [*map(str, parts), str(optimizer)]
    for path, part in module.named_modules():
        kind = type(part)
        own = {
            name: "a number" if _is_number(part, name) else plain
            for name, plain in vars(part).items()
            if isinstance(plain, int | float | str | tuple | list | None)
            and not name.startswith("_")
            and name not in _DESCRIBES
            and path  # of the module itself: its seed
        }
        lines.append(f"{path}: {kind.__module__}.{kind.__qualname__} {own}")
    lines += [
        f"{name}: {tuple(tensor.shape)} {tensor.dtype} {tensor.requires_grad}"
        for name, tensor in _tensors(module)
    ]
    return "\n".join(lines)


def value(module: nn.Module, key: str) -> float:
    """Return a hyperparameter by its path."""
    path, _, name = key.rpartition(".")
    number: float = getattr(module.get_submodule(path), name)
    return number


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors, and make each a view of its part."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, part in zip(tensors, stacked, strict=True):
        tensor.data = part
    return stacked


def _numbers(module: nn.Module) -> list[str]:
    """Return the paths of the hyperparameters that may be tensors."""
    return [
        f"{path}.{name}"
        for path, part in module.named_modules()
        for name in vars(part)
        if _is_number(part, name)
    ]


def _is_number(part: nn.Module, name: str) -> bool:
    """Whether an attribute is a hyperparameter of the layer that may be a tensor as well."""
    if type(vars(part)[name]) is not float or isinstance(part, _NOT_TENSORS) or name in _SHAPES:
        return False
    return name in inspect.signature(type(part)).parameters


@contextmanager
def _assigned(module: nn.Module, values: dict[str, Tensor]) -> Iterator[None]:
    before = {key: value(module, key) for key in values}
    try:
        _assign(module, values)
        yield
    finally:
        _assign(module, before)


def _assign(module: nn.Module, values: Any) -> None:
    for key, number in values.items():
        path, _, name = key.rpartition(".")
        setattr(module.get_submodule(path), name, number)
