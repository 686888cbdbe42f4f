"""A step of the layer as one graph: compiled, without a wait for the device, and runs stacked."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import pytest
import torch
from members import BITS, MULTI, ONE_PASS, fresh
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim.adam import adam
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import stelab
from stelab import Binarizer, BinaryConv2d, BinaryLinear, Categorizer, Chain, Philox, Ternarizer
from stelab.annealing import advance
from stelab.categorical import MVE
from stelab.estimators import ClippedInput, Estimator, ReinMax
from stelab.quantizers import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    Quantizer,
)
from stelab.thresholds import FixedThreshold, LearnedThreshold


def losses(values: Tensor) -> Tensor:
    """One an example, smooth and of no finite degree, with slopes that no estimator clamps."""
    rows = values.flatten(1)
    return (rows * rows.cos()).sum(1) / 64


class Step(nn.Module):
    """What training differentiates: the loss of a batch that goes through a layer."""

    def __init__(self, layer: nn.Module, *shape: int):
        super().__init__()
        self.layer = layer
        self.shape = shape

    def forward(self, x: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        generator, layer = Philox(seed, step), cast(Any, self.layer)
        if isinstance(layer, Chain):
            return layer.losses(x, lambda codes: losses(codes[-1]), generator=generator).mean()
        if isinstance(layer, BinaryLinear | BinaryConv2d):
            return losses(layer(x, generator=generator)).mean()
        if isinstance(layer, Ternarizer):
            return losses(layer(x)).mean()
        loss: Tensor = layer.loss(x, losses, generator=generator)
        return loss + layer.penalty(x) if hasattr(layer, "penalty") else loss


def binarizer(estimator: Estimator | None = None, threshold: Any = None) -> Binarizer:
    return Binarizer(
        estimator=estimator or ReinMax(temperature=1.0),
        threshold=threshold or LearnedThreshold(channels=BITS, init=0.1),
    )


def chain() -> Chain:
    first = binarizer(fresh("gumbel_st"), configured("threshold", "running_median"))
    last = binarizer(fresh("slope_annealed"))
    return Chain((nn.Linear(BITS, BITS), first), (nn.Linear(BITS, BITS), last))


def configured(group: str, name: str) -> Any:
    return stelab.build(stelab.compose(f"{group}={name}", f"model.bits={BITS}")[group])


PENALTY: dict[str, Any] = {
    "entropy_weight": 0.1,
    "diversity": 1.0,
    "commitment_weight": 0.25,
    "group_size": 2,
}
LAYERS: dict[str, Callable[[], Step]] = {
    **{f"{name}": lambda name=name: Step(binarizer(fresh(name)), BITS) for name in ONE_PASS},  # type: ignore[misc]
    **{
        f"threshold={name}": lambda name=name: Step(  # type: ignore[misc]
            binarizer(threshold=configured("threshold", name)), BITS
        )
        for name in ("annealed", "batch_median", "fixed", "running_median")
    },
    **{
        f"categorical={name}": lambda name=name: Step(  # type: ignore[misc]
            Categorizer(estimator=configured("categorical", name)), 2, 3
        )
        for name in (
            "gst gumbel_rao gumbel_rao_annealed mve mve_annealed reinmax reinmax_cv reinmax_rao st "
            "st_gumbel zgr"
        ).split()
    },
    "signed": lambda: Step(
        Binarizer(estimator=fresh("ewgs"), threshold=FixedThreshold(value=0.2), signed=True),
        BITS,
    ),
    "chain": lambda: Step(chain(), BITS),
    "ternarizer": lambda: Step(
        Ternarizer(threshold="twn", estimator=ClippedInput(bound=1.0, normalize_mass=True)), BITS
    ),
    "binary weights": lambda: Step(
        BinaryLinear(BITS, 4, estimator=fresh("bernoulli_st"), scale="mean"), BITS
    ),
    "binary kernels": lambda: Step(
        BinaryConv2d(2, 4, kernel_size=3, estimator=fresh("identity"), scale="none"), 2, 4, 4
    ),
    "lfq": lambda: Step(
        LookupFreeQuantizer(
            binarizer=binarizer(), channels=BITS, scale=0.7, temperature=0.1, **PENALTY
        ),
        BITS,
        2,
    ),
    "bsq": lambda: Step(
        BinarySphericalQuantizer(
            binarizer=binarizer(fresh("darn")), channels=BITS, temperature=0.1, **PENALTY
        ),
        BITS,
    ),
    "fsq": lambda: Step(FiniteScalarQuantizer(binarizer=binarizer(), levels=(5, 3, 8, 4, 4)), BITS),
}


@pytest.fixture(params=list(LAYERS))
def step(request: pytest.FixtureRequest) -> Step:
    torch.manual_seed(0)
    return LAYERS[request.param]()


def two_steps(step: Step, train: Callable[..., Sequence[Tensor]]) -> list[Tensor]:
    """Losses and gradients of two steps of training, with a schedule that moves between them."""
    found: list[Tensor] = []
    for number, progress in ((3, 0.25), (4, 0.75)):
        advance(step, progress)
        x = torch.linspace(-2, 3, 8 * torch.Size(step.shape).numel()).sin().reshape(8, *step.shape)
        found += train(step, x.requires_grad_(), torch.tensor(1), torch.tensor(number))
        found += [p.grad for p in step.parameters() if p.grad is not None]
    return [tensor.clone() for tensor in (*found, *step.buffers())]


def whole(step: Step, x: Tensor, *numbers: Tensor) -> Sequence[Tensor]:
    """Return the loss and its gradients, differentiated inside of what is compiled."""
    loss = step(x, *numbers)
    wanted = [x, *(p for p in step.parameters() if p.requires_grad)]
    return loss.detach(), *torch.autograd.grad(loss, wanted)


def with_update(step: Step) -> Callable[..., Sequence[Tensor]]:
    """Return what trains: `whole`, and Adam's update with the gradients of the parameters."""
    parameters: list[Tensor] = list(step.parameters())
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    counts = [torch.zeros(()) for _ in parameters]
    rest: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-8}
    rest |= {"lr": torch.tensor(0.01), "amsgrad": False, "maximize": False}

    def train(step: Step, x: Tensor, *numbers: Tensor) -> Sequence[Tensor]:
        found, on = whole(step, x, *numbers), torch.compiler.is_compiling()
        with torch.no_grad():
            # On a CPU torch has both for compilers only.
            kind: Any = {"foreach": on, "capturable": on}
            adam(parameters, [*found[2:]], first, second, [], counts, **kind, **rest)
        return *found, *(p.detach() for p in parameters)

    return train


def assert_compiles(step: Step, backend: str, prepare: Any = lambda step: whole) -> None:
    counter, twin = CompileCounterWithBackend(backend), copy.deepcopy(step)
    compiled = torch.compile(prepare(step), backend=counter, fullgraph=True)
    try:
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            mine = two_steps(step, compiled)
    finally:
        torch._dynamo.reset()
    theirs = two_steps(twin, prepare(twin))
    assert torch.equal(mine[0], theirs[0]) or backend == "inductor"
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)
    assert counter.frame_count == 1  # neither the steps nor the schedules are built in


def test_a_step_compiles_once_and_gives_the_eager_numbers(step: Step) -> None:
    assert_compiles(step, "aot_eager")


@pytest.mark.parametrize("name", MULTI)
def test_a_step_of_several_evaluations_compiles_once(name: str) -> None:
    assert_compiles(Step(binarizer(fresh(name)), BITS), "aot_eager")


def test_as_kernels_too() -> None:
    assert_compiles(LAYERS["chain"](), "inductor")


def test_with_the_update_too() -> None:
    assert_compiles(LAYERS["chain"](), "aot_eager", with_update)


# Where the loss alone is compiled, and differentiated by whoever calls it.
ONLY_WHOLE = {
    "double_cv": "differentiates f",
    "muprop": "differentiates f",
    "rebar": "differentiates f, and its gradient",
    "relax": "differentiates f, and its gradient",
    "reinforce_learned": "differentiates its baseline",
    # In the backward pass torch may read anew what the forward pass read of a buffer before it
    # changed it, here the average (pytorch#197039): wrong gradients, and no error to expect.
    "reinforce_moving_average": "",
}


@pytest.mark.parametrize("name", [name for name in MULTI if ONLY_WHOLE.get(name) != ""])
def test_the_loss_alone_compiles_where_nothing_is_differentiated_inside(name: str) -> None:
    step = Step(binarizer(fresh(name)), BITS)
    twin, x = copy.deepcopy(step), torch.linspace(-2, 3, 8 * BITS).sin().reshape(8, BITS)
    numbers = torch.tensor(1), torch.tensor(2)
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    try:
        if name in ONLY_WHOLE:
            with pytest.raises(Unsupported, match=r"torch\.autograd\.grad"):
                compiled(x.requires_grad_(), *numbers)
            return
        gradients = []
        for function in (compiled, twin):
            leaf = x.clone().requires_grad_()
            function(leaf, *numbers).backward()
            gradients.append(leaf.grad)
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)
    finally:
        torch._dynamo.reset()


class OnDevice(TorchDispatchMode):
    """Refuses what makes the host wait for the device, or sends it a number."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        assert func is not torch.ops.aten._local_scalar_dense.default
        for tensor in tree_leaves(made):
            assert not isinstance(tensor, Tensor) or tensor.device.type == "meta", func
        return made


def test_a_step_stays_on_its_device(step: Step) -> None:
    step.to("meta")
    x = torch.randn(8, *step.shape, device="meta", requires_grad=True)
    seed, number = (torch.zeros((), dtype=torch.long, device="meta") for _ in range(2))
    with OnDevice():
        step(x, seed, number).backward()
    assert x.grad is not None


RUNS = 3


def numbers(step: Step) -> dict[str, float]:
    """Hyperparameters that decide no shapes and branches, under the names of their attributes."""
    found = {}
    for path, part in step.named_modules():
        if isinstance(part, Quantizer | MVE):
            continue
        for name in set(inspect.signature(type(part)).parameters) - {"quantile"}:
            if isinstance(value := getattr(part, name, None), float):
                found[f"{path}.{name}"] = value
    return found


class Stack:
    """Runs of a step, each with its own of everything, and the function that trains them all."""

    def __init__(self, step: Step):
        self.step = step
        values = {key: (1 + 0.125 * torch.arange(RUNS)) * v for key, v in numbers(step).items()}
        self.runs = [copy.deepcopy(step) for _ in range(RUNS)]
        for i, run in enumerate(self.runs):
            advance(run, i / RUNS)
            assign(run, {key: value[i].item() for key, value in values.items()})
            for parameter in run.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
        parameters, buffers = stack_module_state(self.runs)
        self.parameters = {name: parameter.detach() for name, parameter in parameters.items()}
        x, seeds = torch.randn(RUNS, 8, *step.shape), torch.tensor([5, 5, 2**33])
        self.inputs = self.parameters, buffers, values, x, seeds, torch.tensor([0, 1, 1])
        self.train = vmap(self._train)

    def _train(self, parameters: Any, buffers: Any, values: Any, x: Tensor, *draws: Tensor) -> Any:
        def loss(parameters: Any, x: Tensor, buffers: Any) -> tuple[Tensor, Any]:
            assign(self.step, values)
            return functional_call(self.step, (parameters, buffers), (x, *draws)), buffers

        return grad_and_value(loss, argnums=(0, 1), has_aux=True)(parameters, x, buffers)

    def assert_trained(self, trained: Any) -> None:
        (slopes, slope), (loss, after) = trained
        for i, run in enumerate(self.runs):
            x, *draws = (of_runs[i] for of_runs in self.inputs[3:])
            alone = run(x.requires_grad_(), *draws)
            alone.backward()
            parameters = dict(run.named_parameters())
            assert_near(loss[i], alone)
            assert_near(slope[i], x.grad)
            assert_near(of_run(i, slopes), {name: p.grad for name, p in parameters.items()})
            assert_near(of_run(i, self.parameters), parameters)  # some are clamped
            assert_near(of_run(i, after), dict(run.named_buffers()))


def test_stacked_runs_are_the_runs(step: Step) -> None:
    """Each with its own weights, seed, step, schedule, batch and hyperparameters, as tensors."""
    stack = Stack(step)
    stack.assert_trained(stack.train(*stack.inputs))


@pytest.mark.parametrize("name", ["dsq", "chain", "binary weights"])
def test_stacked_runs_are_one_graph(name: str) -> None:
    """As make_fx traces it: torch.compile itself does not go through vmap and a Function."""
    traced, stack = Stack(LAYERS[name]()), Stack(LAYERS[name]())
    graph = make_fx(traced.train)(*traced.inputs)
    stack.assert_trained(graph(*stack.inputs))


def assign(step: Step, values: dict[str, Any]) -> None:
    for key, value in values.items():
        path, _, name = key.rpartition(".")
        setattr(step.get_submodule(path), name, value)


def of_run(i: int, stacked: Any) -> Any:
    return {name: tensor[i] for name, tensor in stacked.items()}


def assert_near(mine: Any, theirs: Any) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
