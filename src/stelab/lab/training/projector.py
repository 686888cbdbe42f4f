"""The projector: codes of test images, with the images and their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from stelab.engine.studies import Run
from stelab.lab.data import denormalize
from stelab.lab.data.batches import Batches
from stelab.lab.training.evaluate import load_data
from stelab.lab.training.restore import restore

MOST = 1000
_BATCH = 100


@dataclass(frozen=True)
class Codes:
    """Bits ``(n, bits)``, pixels ``(n, 28, 28)``, both uint8, and, where there are any, classes."""

    bits: Tensor
    pixels: Tensor
    labels: Tensor | None


@torch.no_grad()
def read_codes(run: Run, *, trust: Sequence[str] = ()) -> Codes:
    """Encode the first test images, at most `MOST`, with a finished run.

    Raises:
        InputError: The checkpoint or the dataset cannot be read.
    """
    module = restore(run, checkpoint="last", trust=trust)
    data = load_data(run, trust=trust)
    images, labels = data.images("test")[:MOST], data.test_labels()
    batches = Batches(images, batch_size=_BATCH, seed=None)
    bits = torch.cat([module.model.encode(batch).flatten(1).byte() for batch in batches])
    return Codes(bits, denormalize(images), None if labels is None else labels[:MOST])


def write_codes(folder: Path, codes: Codes) -> None:
    """Write them beside a run's event files."""
    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(
            codes.bits,
            metadata=None if codes.labels is None else codes.labels.tolist(),
            label_img=codes.pixels.unsqueeze(1) / 255,
            tag="codes",
        )
