r"""Losses of short codes, and their exact gradients by enumeration of all codes.

All losses are in float64, and all random numbers in them depend on their `seed` only. The logits
are drawn from a normal distribution of standard deviation `spread`, but for a trained network's:
there, they are those of a few bits of its code, short enough to enumerate, and the others are held.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from stelab.arguments import Count, FewBits, NonNegative, Real, Seed, Text, checked
from stelab.binarizer import Binarizer
from stelab.categorizer import Categorizer
from stelab.engine.errors import InputError
from stelab.engine.trust import packages
from stelab.estimators import step
from stelab.estimators.enumeration import MOST_BITS, all_codes
from stelab.lab.data.datamodule import Batch
from stelab.lab.models import Network
from stelab.lab.models.network import Layer
from stelab.lab.tasks import Task

Probability = Callable[[Tensor], Tensor]
"""P(b = 1) given the logits, elementwise."""


class Problem(nn.Module):
    """A loss of codes, and the logits at which its gradient is asked for.

    Attributes:
        logits: Shape ``(examples, bits)``, float64.
        rows: How many rows to evaluate at once: what bounds the memory of an enumeration.
    """

    rows = 2**12

    def __init__(self, logits: Tensor):
        super().__init__()
        if logits.shape[1] > MOST_BITS:
            raise ValueError(
                f"the exact gradient takes all 2**bits codes, so bits must be at most {MOST_BITS}, "
                f"got {logits.shape[1]}"
            )
        self.logits: Tensor = nn.Buffer(logits)

    def codes_at_once(self) -> int:
        """Return how many codes of all examples are `rows` rows, at least one."""
        return max(1, self.rows // len(self.logits))

    def forward(self, bits: Tensor) -> Tensor:
        """Return the loss of every row of `bits`, ``(rows, bits) -> (rows,)``.

        Row i is a code of example ``i % examples``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(bits)")


class NoGradientError(InputError):
    """The exact gradient is 0, or not a number: nothing has a bias or a direction beside it."""


class Enumeration:
    r"""All codes of a problem with their losses, evaluated once.

    .. math:: L(s) = \sum_b q_s(b)\,f(b), \qquad
       q_s(b) = \prod_i p(s_i)^{b_i} (1 - p(s_i))^{1 - b_i}
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        examples, bits = problem.logits.shape
        self.codes = all_codes(bits, like=problem.logits)  # (2**bits, bits)
        with torch.no_grad():
            parts = [
                problem(codes.repeat_interleave(examples, dim=0)).reshape(-1, examples)
                for codes in self.codes.split(problem.codes_at_once())
            ]
        self.losses = torch.cat(parts)  # (2**bits, examples)

    def weights(self, p: Tensor, codes: Tensor) -> Tensor:
        """Compute q(b) for every code and example, ``(codes, examples)``."""
        return torch.where(codes[:, None, :] > 0, p, 1 - p).prod(-1)

    def gradient(self, probability: Probability) -> Tensor:
        r"""Compute :math:`\partial L/\partial s` of every example, in the shape of the logits.

        Raises:
            NoGradientError: It is 0, or not a number.
        """
        s = self.problem.logits.detach().clone().requires_grad_()
        size = self.problem.codes_at_once()
        for codes, losses in zip(self.codes.split(size), self.losses.split(size), strict=True):
            p = probability(s)
            (self.weights(p, codes) * losses).sum().backward()
        assert s.grad is not None
        if not s.grad.abs().sum() > 0:
            raise NoGradientError(
                "the exact gradient is 0 (or not a number), so nothing can be compared with it: "
                "every logit is out of the noise's reach, or the loss does not depend on the bits; "
                "change problem.spread or seed"
            )
        return s.grad


def normal(*shape: int, generator: Generator) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


class Linear(Problem):
    r""":math:`f(b) = w^\top b`, w standard normal.

    Args:
        bits: Bits of a code, at most 16.
        spread: Standard deviation of the logits.
        seed: Of w and the logits.
    """

    @checked
    def __init__(self, *, bits: FewBits, spread: NonNegative, seed: Seed):
        generator = torch.Generator().manual_seed(seed)
        super().__init__(spread * normal(1, bits, generator=generator))
        self.w = nn.Buffer(normal(bits, generator=generator))

    def forward(self, bits: Tensor) -> Tensor:
        """See `Problem.forward`."""
        return bits @ self.w


class Quadratic(Linear):
    r""":math:`f(b) = w^\top b + b^\top A b/\sqrt N`, A symmetric, w and A standard normal.

    Arguments: see `Linear`.
    """

    @checked
    def __init__(self, *, bits: FewBits, spread: NonNegative, seed: Seed):
        super().__init__(bits=bits, spread=spread, seed=seed)
        a = normal(bits, bits, generator=torch.Generator().manual_seed(seed + 1))
        self.a = nn.Buffer((a + a.T) / 2 / bits**0.5)

    def forward(self, bits: Tensor) -> Tensor:
        """See `Problem.forward`."""
        return super().forward(bits) + ((bits @ self.a) * bits).sum(1)


class Cubic(Quadratic):
    r""":math:`f(b)` of `Quadratic` plus :math:`\sum_k (v_k^\top b)^3/N^2`, v standard normal.

    Arguments: see `Linear`.
    """

    @checked
    def __init__(self, *, bits: FewBits, spread: NonNegative, seed: Seed):
        super().__init__(bits=bits, spread=spread, seed=seed)
        self.v = nn.Buffer(normal(bits, bits, generator=torch.Generator().manual_seed(seed + 2)))

    def forward(self, bits: Tensor) -> Tensor:
        """See `Problem.forward`."""
        return super().forward(bits) + (bits @ self.v).pow(3).sum(1) / bits.shape[1] ** 2


class Toy(Problem):
    r""":math:`f(b) = \frac1N\sum_i (b_i - p_0)^2`, the toy of the REBAR and ARM papers.

    Args:
        bits: Bits of a code, at most 16.
        spread: Standard deviation of the logits.
        target: :math:`p_0`.
        seed: Of the logits.
    """

    @checked
    def __init__(self, *, bits: FewBits, spread: NonNegative, target: Real, seed: Seed):
        super().__init__(spread * normal(1, bits, generator=torch.Generator().manual_seed(seed)))
        self.target = target

    def forward(self, bits: Tensor) -> Tensor:
        """See `Problem.forward`."""
        return (bits - self.target).square().mean(1)


class MLPLoss(Problem):
    r""":math:`f(b) = v^\top\tanh(W b + c)`, a random network of one hidden layer.

    W, c and v are normal, of variance :math:`4/N`, 1 and :math:`1/H`.

    Args:
        bits: Bits of a code, at most 16.
        hidden: H, width of the hidden layer.
        spread: Standard deviation of the logits.
        seed: Of the network and the logits.
    """

    @checked
    def __init__(self, *, bits: FewBits, hidden: Count, spread: NonNegative, seed: Seed):
        generator = torch.Generator().manual_seed(seed)
        super().__init__(spread * normal(1, bits, generator=generator))
        self.w = nn.Buffer(2 * normal(bits, hidden, generator=generator) / bits**0.5)
        self.c = nn.Buffer(normal(hidden, generator=generator))
        self.v = nn.Buffer(normal(hidden, generator=generator) / hidden**0.5)

    def forward(self, bits: Tensor) -> Tensor:
        """See `Problem.forward`."""
        return torch.tanh(bits @ self.w + self.c) @ self.v


class Subcode(Problem):
    """The loss of `bits` bits of every example's code, the others thresholded.

    Which bits is drawn from the seed, the same for all examples.

    Args:
        s: Centred pre-activations, ``(examples, *code_shape)``.
        loss: Loss of every row of whole codes, ``(rows, *code_shape) -> (rows,)``; row i is a
            code of example ``i % examples``.
        bits: Length of the sub-code, at most 16, and at most that of the code.
        seed: Of the choice.
    """

    rows = 2**9  # a convolutional decoder keeps half a megabyte a row

    def __init__(self, s: Tensor, loss: Callable[[Tensor], Tensor], *, bits: int, seed: int):
        flat = s.detach().flatten(1)
        if bits > flat.shape[1]:
            raise InputError(f"bits must be at most the code's {flat.shape[1]}, got {bits}")
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(flat.shape[1], generator=generator)[:bits].sort().values
        chosen = chosen.to(flat.device)
        super().__init__(flat[:, chosen])
        self.chosen = nn.Buffer(chosen)
        self.others = nn.Buffer(step(flat))
        self.code_shape = s.shape[1:]
        self.loss = loss

    def forward(self, bits: Tensor) -> Tensor:
        """See `Problem.forward`."""
        others = self.others.repeat(len(bits) // len(self.others), 1)
        return self.loss(others.index_copy(1, self.chosen, bits).reshape(-1, *self.code_shape))


def code_loss(
    task: Task, model: Network, batch: Batch
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the centred pre-activations of a batch and the loss of codes, for a `Subcode`.

    The loss is the task's, in eval mode and float64: batch norm with running statistics keeps the
    examples apart.
    """
    images = batch["images"]
    device = "cpu" if images.device.type == "mps" else images.device  # MPS has no float64
    model = copy.deepcopy(model).to(device).double().eval()
    task = copy.deepcopy(task).to(device).double().eval()
    batch = {name: part.to(device) for name, part in batch.items()}
    batch["images"] = batch["images"].double()

    def loss(bits: Tensor) -> Tensor:
        codes = values(bits)
        times = len(codes) // len(images)
        repeated = {name: torch.cat([part] * times) for name, part in batch.items()}
        outcome = partial(task.example_losses, batch=repeated)
        return model.losses(codes, outcome, generator=None)

    with torch.no_grad():
        x = model.encoder(batch["images"])
        s, values = model.binarizer.centre(x), _values(model.binarizer, x)
    return s, loss


def _values(layer: Layer, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what bits are to the network behind a layer, a row for each of `x` again and again."""
    if isinstance(layer, Categorizer):
        raise InputError("what is measured is a gradient at bits, but the layer has one-hots")
    if isinstance(layer, Binarizer):
        return layer.values
    return lambda bits: layer.values(bits, torch.cat([x] * (len(bits) // len(x))))


class TrainedLoss(Subcode):
    """The loss of a trained run's task, as a function of a few of its bits.

    Args:
        run: Folder of a finished run.
        checkpoint: ``"last"`` or ``"best"``.
        bits: Length of the sub-code, at most 16.
        examples: The first ones of the test split.
        seed: Of the choice of bits.
        trust: Packages whose components are built, besides stelab's and torch's; with commas.
    """

    @checked
    def __init__(
        self,
        *,
        run: Text,
        checkpoint: Literal["last", "best"],
        bits: FewBits,
        examples: Count,
        seed: Seed,
        trust: Text | None = None,
    ):
        from stelab.engine.studies import read_finished
        from stelab.lab.training.restore import load_data, restore

        finished, trusted = read_finished(run), packages(trust)
        module = restore(finished, checkpoint=checkpoint, trust=trusted, loss=True)
        batch = next(iter(load_data(finished, trust=trusted).batches("test")))
        first = {name: part[:examples] for name, part in batch.items()}
        s, loss = code_loss(module.task, module.model, first)
        super().__init__(s, loss, bits=bits, seed=seed)
