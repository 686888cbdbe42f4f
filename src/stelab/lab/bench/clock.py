"""A run of ``stelab train``, measured from within by a callback."""

import json
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer

from stelab.arguments import Positive, Text, checked
from stelab.lab.bench.counting import Counter, memory, now
from stelab.lab.bench.steps import COUNTED, WARM_UP
from stelab.lab.data.datamodule import Batches


class Clock(Callback):
    """Writes when the first step was over, then how fast steps follow each other, and ends the run.

    Time goes on between the steps, also where an epoch ends and another begins.

    Args:
        path: A JSON file: ``first_step``, seconds since 1970, and from the end on what plain loops
            are measured by too (`stelab.lab.bench.loops`).
        seconds: Of training, after the steps that are counted.
    """

    @checked
    def __init__(self, *, path: Text, seconds: Positive):
        self.path, self.seconds = Path(path), seconds
        self.values: dict[str, float] = {}
        self.counter: Counter | None = None
        self.begun: float | None = None

    def watches(self, trainer: Trainer, index: int) -> bool:
        """The first step, those around the counted ones, and the last."""
        if self.begun is not None:
            return self._is_over()  # asked at every step that is measured: it must be quick
        return trainer.global_step in (0, WARM_UP, WARM_UP + COUNTED)

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        """Begin to count; or end it, and begin to measure time."""
        images = _images_before(trainer, index)
        if trainer.global_step == WARM_UP and self.counter is None:
            self.counter, self.first = Counter(), images
            self.counter.__enter__()
        elif trainer.global_step == WARM_UP + COUNTED and self.counter and self.begun is None:
            self.counter.__exit__(None, None, None)
            self.values |= self.counter.of_a_step(images - self.first)
            self.first, self.begun = images, now(module.device)

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Write what is known, and end training when time is over."""
        if trainer.global_step == 1:
            self.values["first_step"] = time.time()
        elif not self._is_over():
            return
        else:
            assert self.begun is not None
            images = _images_before(trainer, index) + len(batch["images"]) - self.first
            self.values["images_per_s"] = images / (now(module.device) - self.begun)
            self.values |= memory(module.device)
            trainer.should_stop = True
        self.path.write_text(json.dumps(self.values), encoding="utf-8")

    def _is_over(self) -> bool:
        return self.begun is not None and time.perf_counter() >= self.begun + self.seconds


def _images_before(trainer: Trainer, index: int) -> int:
    """Return the images of all batches before this one of the epoch."""
    data = trainer.train_dataloader
    assert isinstance(data, Batches)
    return trainer.current_epoch * data.count + index * data.batch_size
