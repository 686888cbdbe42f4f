"""Runs that train as one: each goes its own way, but for the steps, which they take together.

Every run is an ordinary one, in a thread of its own, with its own trainer, folder and lock. Only
one of them goes on at a time, and hands over to the next where it wants a step of training: when
all want one, `StackedStep` takes it for all. So what is the process's own, such as the state of
random generators, is one run's at a time, and is handed over with it.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from stelab.engine.errors import first_line
from stelab.lab.data import ImageDataModule
from stelab.lab.data.datamodule import Batch, Batches
from stelab.lab.training.finite import NonFiniteError, locate
from stelab.lab.training.interrupts import Interrupts
from stelab.lab.training.isolation import begin, isolated
from stelab.lab.training.module import TaskModule
from stelab.lab.training.monitors import GradientMonitor
from stelab.lab.training.probes import Zeros
from stelab.lab.training.stackable import why_alone
from stelab.lab.training.stacked_step import StackedStep, signature
from stelab.lab.training.steps import SECONDS, EpochLoop
from stelab.lab.training.threads import threads_of

log = logging.getLogger(__name__)


class Beside(BaseException):
    """A run cannot be in a stack, and says why; nothing was written yet."""


@dataclass
class _Wish:
    """The steps that a run waits for: up to one that is watched, or one whose batch it has."""

    loop: EpochLoop
    fetcher: Any = None
    batch: Batch | None = None


class Seat:
    """A run's place among those that train together."""

    def __init__(self, run: Callable[["Seat"], Any], signals: Interrupts):
        self.run = run
        self.signals = signals  # of the process: they are for all of its runs
        self.result: Any = None  # None of a run that has found no place
        self.error: BaseException | None = None  # that is no result
        self.signature = ""
        self.module: TaskModule | None = None
        self.data: ImageDataModule | None = None
        self.executor: str | None = None  # once it has others to train with
        self.reason = "no other run differs from it in numbers only"  # why it has none
        self.example: Batch = {}
        self.is_over = False
        self.is_alone = False  # the others have left
        self.has_stepped = False  # with the others, the last time
        self.steps_alone = False  # right now
        self.wish: _Wish | None = None
        self.loss: Tensor | None = None  # of the step; None where it is to be taken alone
        self.failure: Exception | None = None
        self._generators: Any = None
        self._own_turn, self._others_turn = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, daemon=True)

    def _live(self) -> None:
        self._own_turn.acquire()
        try:
            self.result = self.run(self)
        except Beside as reason:
            log.info("%s", reason)
        except BaseException as error:
            self.error = error
        finally:
            self.is_over, self.module, self.data, self.wish = True, None, None, None
            self._others_turn.release()

    def resume(self) -> None:
        """Let the run go on until it waits, or is over."""
        if self._generators is None:
            self._thread.start()
        else:
            _set_generators(self._generators)
        self._own_turn.release()
        self._others_turn.acquire()
        self._generators = _generators()

    def _wait(self) -> None:
        """Let the others go on."""
        self._others_turn.release()
        self._own_turn.acquire()

    @contextmanager
    def isolated(self, seed: int, *, threads: int, tf32: bool) -> Iterator[None]:
        """Seed the run; what it may not leave behind is restored when all are over."""
        begin(seed, threads=threads, tf32=tf32)
        yield

    def refuse_to_wait(self, name: str) -> None:
        """Let no other process keep a whole stack waiting, and each other for ever."""
        raise Beside(f"{name} is not stacked: another process trains it right now")

    def join(self, name: str, module: TaskModule, data: ImageDataModule, settings: Any) -> str:
        """Wait for all runs to be where this one is; return what will execute it.

        Args:
            name: Of the run.
            module: What it trains.
            data: What it is trained on.
            settings: What made the data, but its seed.

        Raises:
            Beside: It cannot be stacked with any other.
        """
        if reason := why_alone(module, data):
            raise Beside(f"{name} is not stacked: {reason}")
        self.module, self.data, self.signature = module, data, signature(module, settings)
        self.example = data.first_batch()
        self._wait()
        if self.executor is None:
            raise Beside(f"{name} is not stacked: {self.reason}")
        module.seat = self
        return self.executor

    def take(self, loop: EpochLoop, fetcher: Any) -> bool:
        """Take steps up to the next that is watched; False where there is nobody to take them."""
        if self.is_alone:
            return False
        self._wish_for(_Wish(loop, fetcher))
        return True

    def step(self, loop: EpochLoop, batch: Batch) -> Tensor | None:
        """Take a step with the others; return its loss, or None where it is to be taken alone."""
        self.has_stepped = False
        if (
            self.is_alone
            or self.steps_alone
            or loop.watching(loop.batch_progress.current.ready - 1)
        ):
            return None
        self._wish_for(_Wish(loop, batch=batch))
        self.has_stepped = self.loss is not None
        return self.loss

    def _wish_for(self, wish: _Wish) -> None:
        self.wish = wish
        self._wait()
        if failure := self.failure:
            raise failure


def train_stacked(runs: Sequence[tuple[DictConfig, Callable[[Seat], Any]]]) -> list[Any]:
    """Train runs in one process, those together that differ in numbers only.

    Args:
        runs: Their configurations, and what trains each, given its seat.

    Returns:
        What they return; None for those that were not begun, as they have nobody to train with, or
        as another process trains them right now.
    """
    cfg, _ = runs[0]
    tf32 = cfg.trainer.get("tf32", False)
    with Interrupts() as signals, isolated(cfg.seed, threads=threads_of(cfg), tf32=tf32):
        seats = [Seat(run, signals) for _, run in runs]
        for seat in seats:
            seat.resume()
        groups: dict[str, list[Seat]] = {}
        for seat in seats:
            if not seat.is_over:
                groups.setdefault(seat.signature, []).append(seat)
        for group in groups.values():
            _Stack(group).train()
        for seat in seats:
            if seat.error is not None:
                raise seat.error
    return [seat.result for seat in seats]


class _Stack:
    """Takes the steps of runs of one signature."""

    def __init__(self, seats: Sequence[Seat]):
        self.seats = list(seats)  # of those that are not over
        self.members: list[Seat] = []  # of the program
        self.program: StackedStep | None = None
        self.traced: dict[Any, Callable[..., Any]] = {}
        self.zeros: list[Zeros] = []  # where gradients are looked at

    def train(self) -> None:
        """Train all to their end; the last by itself, which needs no stack."""
        if len(self.seats) > 1:
            self._try()
        self._resume(self.seats)
        self.end = time.monotonic() + self._seconds
        while len(self.seats) > 1:
            unseen = [seat for seat in self.seats if _wish(seat).batch is None]
            watched = [seat for seat in self.seats if seat not in unseen]
            if due := [s for s in self.seats if s.failure or (s in unseen and _is_watched(s))]:
                self._resume(due)
            elif looking := [seat for seat in unseen if _monitors(seat)]:
                if looking == self.seats and self._looks_together():
                    self._step(looks=True)
                else:
                    for seat in looking:
                        self._step_alone(seat)
            elif odd := self._odd(watched):
                for seat in odd:
                    seat.loss = None
                self._resume(odd)
            elif watched:
                self._step()
                self._resume(watched)
            elif time.monotonic() < self.end:
                self._step()
            else:
                self._resume(self.seats)
                self.end = time.monotonic() + self._seconds
        for seat in self.seats:
            seat.is_alone, seat.loss = True, None
            seat.resume()

    def _try(self) -> None:
        """Let them train together if a step of theirs can be stacked, and is the same then."""
        examples = [seat.example for seat in self.seats]
        batch = {name: torch.stack([e[name] for e in examples]) for name in examples[0]}
        try:
            program = StackedStep(self._modules(), self.traced)
            program.require_same(batch)
            self.zeros = program.looks(examples[0])
            executor, reason = f"stacked of {len(self.seats)}", ""
        except Exception as error:  # whatever a layer makes of tensors where it had numbers
            executor, reason = None, f"its step is no program for many: {first_line(error)}"
        for seat in self.seats:
            seat.executor, seat.reason, seat.example = executor, reason, {}
            assert seat.data is not None and self.seats[0].data is not None
            seat.data.share(self.seats[0].data)

    def _modules(self) -> list[TaskModule]:
        return [seat.module for seat in self.seats if seat.module is not None]

    def _resume(self, seats: Sequence[Seat]) -> None:
        for seat in seats:
            seat.wish = None
            seat.resume()
        self.seats = [seat for seat in self.seats if not seat.is_over]

    @property
    def _seconds(self) -> float:
        """Return how long steps go on unseen: the runs are looked after in turn, so the longer."""
        return SECONDS * len(self.seats)

    def _step_alone(self, seat: Seat) -> None:
        seat.steps_alone = True
        try:
            _wish(seat).loop.step(_wish(seat).fetcher)
        except NonFiniteError as error:
            seat.failure = error
        finally:
            seat.steps_alone = False

    def _odd(self, watched: Sequence[Seat]) -> list[Seat]:
        """Return who has another number of images: at an epoch's end, where not all are there."""
        sizes = [len(_wish(seat).batch["images"]) for seat in watched]  # type: ignore[index]
        whole = max(_batches(seat).batch_size for seat in self.seats)
        if len(watched) == len(self.seats) and len({*sizes}) == 1:
            return []
        return [seat for seat, size in zip(watched, sizes, strict=True) if size != whole]

    def _step(self, *, looks: bool = False) -> None:
        """Take one step of all; what goes wrong with it as a whole is a failure of each run."""
        try:
            self._step_all(looks=looks)
        except Exception as error:
            for seat in self.seats:
                seat.failure = error

    def _looks_together(self) -> bool:
        """Whether all look into the coming step by a monitor whose means a stack can make."""
        watching = [_monitors(seat) for seat in self.seats]
        return bool(self.zeros) and all(
            [type(monitor) for monitor in monitors] == [GradientMonitor] for monitors in watching
        )

    def _step_all(self, *, looks: bool) -> None:
        """Take it, and count it where nobody watches; the loss of a run is read on the host."""
        if self.members != self.seats:
            self.program = StackedStep(self._modules(), self.traced, self.zeros)
            self.members = list(self.seats)
        assert self.program is not None
        monitors = [_monitors(seat)[0] for seat in self.seats] if looks else []
        batch, at = self._batch(), [m.global_step for m in self._modules()]
        gradients, checked, logged, seen = self.program.differentiate(batch, at, looks=looks)
        self.program.record(logged, len(batch["images"][0]))
        self.program.record_looks(seen, monitors)
        failed = (~checked.isfinite().all(1)).nonzero().flatten().tolist()
        with self.program.unmoved(failed):
            self.program.move(gradients)
        for i, (seat, loss) in enumerate(zip(self.seats, checked[:, 0].unbind(), strict=True)):
            seat.loss = loss
            if i in failed:
                self._fail(seat, {name: part[i] for name, part in batch.items()})
            if _wish(seat).batch is None:
                _wish(seat).loop.count(loss)

    def _fail(self, seat: Seat, batch: Batch) -> None:
        module, step = seat.module, _wish(seat).loop.global_step
        assert module is not None
        where = locate(module.model, lambda: module.model(batch["images"]), step=step)
        seat.failure = NonFiniteError(f"step {step}: {where}")

    def _batch(self) -> Batch:
        """Return the coming batches of all runs, chosen at once where they have the same images."""
        sources = [_batches(seat) for seat in self.seats]
        first = sources[0]
        images = first.tensors["images"]
        shared = (
            first.draw is None
            and all(source.tensors["images"] is images for source in sources)
            and all(_wish(seat).batch is None for seat in self.seats)
        )
        pairs = zip(self.seats, sources, strict=True)
        batches = [self._next(seat, source, shared) for seat, source in pairs]
        stacked = {name: torch.stack([b[name] for b in batches]) for name in batches[0]}
        return first.at(stacked["chosen"]) if shared else stacked

    def _next(self, seat: Seat, source: Batches, shared: bool) -> Batch:
        wish = _wish(seat)
        if wish.batch is not None:
            return wish.batch
        source.gives_choice = shared
        try:
            batch: Batch = wish.loop.fetch(wish.fetcher)
            return batch
        finally:
            source.gives_choice = False


def _wish(seat: Seat) -> _Wish:
    assert seat.wish is not None
    return seat.wish


def _is_watched(seat: Seat) -> bool:
    return _wish(seat).loop.is_watched()


def _monitors(seat: Seat) -> list[Any]:
    """Return who looks into the coming step of a run."""
    loop = _wish(seat).loop
    return loop.watching(loop.batch_progress.current.ready)


def _batches(seat: Seat) -> Batches:
    batches = _wish(seat).loop.trainer.train_dataloader
    assert isinstance(batches, Batches)
    return batches


def _generators() -> Any:
    return torch.get_rng_state(), random.getstate(), np.random.get_state()


def _set_generators(states: Any) -> None:
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])
