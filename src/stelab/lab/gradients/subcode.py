"""A few bits of a trained network's code, the others held: short enough to enumerate."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from stelab.arguments import Count, FewBits, Seed, Text, checked
from stelab.engine.errors import InputError
from stelab.engine.trust import packages
from stelab.estimators import step
from stelab.lab.gradients.problems import Problem
from stelab.lab.models import Autoencoder


class Subcode(Problem):
    """The loss of `bits` bits of every example's code, the others thresholded.

    Which bits is drawn from the seed, the same for all examples.

    Args:
        s: Centred pre-activations, ``(examples, *code_shape)``.
        loss: Loss of every row of whole codes, ``(rows, *code_shape) -> (rows,)``; row i is a
            code of example ``i % examples``.
        bits: Length of the sub-code, at most 16.
        seed: Of the choice.

    Raises:
        InputError: The code has fewer bits.
    """

    rows = 2**9  # a convolutional decoder keeps half a megabyte a row

    def __init__(self, s: Tensor, loss: Callable[[Tensor], Tensor], *, bits: int, seed: int):
        flat = s.detach().flatten(1)
        if bits > flat.shape[1]:
            raise InputError(f"bits must be at most the code's {flat.shape[1]}, got {bits}")
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(flat.shape[1], generator=generator)[:bits].sort().values
        super().__init__(flat[:, chosen.to(flat.device)])
        self.chosen = nn.Buffer(chosen.to(flat.device))
        self.others = nn.Buffer(step(flat))
        self.code_shape = s.shape[1:]
        self.loss = loss

    def forward(self, bits: Tensor) -> Tensor:
        """See `Problem.forward`."""
        whole = self.others.repeat(len(bits) // len(self.others), 1)
        whole = whole.index_copy(1, self.chosen, bits)
        return self.loss(whole.reshape(-1, *self.code_shape))


def reconstruction(model: Autoencoder, images: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the centred pre-activations of `images` and the loss of codes, for a `Subcode`.

    The loss of a code is the squared error of its image, averaged over pixels, in eval mode and
    float64: batch norm with running statistics keeps the examples apart.
    """
    device = "cpu" if images.device.type == "mps" else images.device  # MPS has no float64
    model = copy.deepcopy(model).to(device).double().eval()
    images = images.to(device).double()

    def loss(codes: Tensor) -> Tensor:
        targets = images.repeat(len(codes) // len(images), 1, 1, 1)
        return (model.decode(codes) - targets).square().flatten(1).mean(1)

    with torch.no_grad():
        return model.binarizer.centre(model.encoder(images)), loss


class AutoencoderLoss(Subcode):
    """The reconstruction error of a trained run, as a function of a few of its bits.

    Args:
        run: Folder of a finished run.
        checkpoint: ``"last"`` or ``"best"``.
        bits: Length of the sub-code, at most 16.
        examples: Images, the first ones of the test split.
        seed: Of the choice of bits.
        trust: Packages whose components are built, besides stelab's and torch's; with commas.

    Raises:
        InputError: The run cannot be read.
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
        from stelab.lab.training.evaluate import load_data
        from stelab.lab.training.restore import restore

        finished, trusted = read_finished(run), packages(trust)
        model = restore(finished, checkpoint=checkpoint, trust=trusted).model
        images = load_data(finished, trust=trusted).images("test")[:examples]
        super().__init__(*reconstruction(model, images), bits=bits, seed=seed)
