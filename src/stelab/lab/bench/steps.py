"""How fast steps of training follow each other: plain PyTorch and stelab, side by side."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stelab.engine.launchers.processes import jobs_at_once
from stelab.engine.studies import Run
from stelab.lab.bench.commands import clock, quoted, train, words_of
from stelab.lab.bench.turns import Case, Sample, Values, ratios, run_python, spread, values_of

TITLE = "Steps of training"
WARM_UP, COUNTED = 10, 10  # steps before those that are counted, and these
PEAK, TUTORIAL, PLAIN = "peak", "tutorial's loop", "plain loop"
OURS, FAST = "stelab", "stelab, fast"

_LONG = ("trainer.max_epochs=1000000", "++trainer.max_steps=-1")  # `Clock` ends it
_SHORT = ("++trainer.limit_val_batches=1", "++trainer.limit_test_batches=1")


def about(cfg: Any) -> str:
    """Say what the tables show."""
    return f"""\
*tutorial's loop*: the tutorial's code for its own network, whatever the setting: its `DataLoader`,
its Adam. *plain loop*: the least that PyTorch needs for the work of *stelab*: its network, batch
size, optimizer and precision, all images in memory. *stelab*: `stelab train` with TensorBoard,
`metrics.csv`, monitors and checkpoints; what it does between epochs counts, with a batch of
validation. *stelab, fast*: with `{cfg.fast}` too. Time is taken between steps, after the first
{WARM_UP + COUNTED}, for {cfg.seconds:g} seconds. *tax*: how much longer an image takes than in the
plain loop. *of peak*: of the fastest product of float32 matrices with as many threads. *kernels*:
operations of ATen a step, without views and allocations; *waits*: those that make the host wait for
what a device has computed; means of {COUNTED} steps, of a compiled one as it was before. (The
tutorial's loop makes its images one by one: these are operations too.) *MiB*: the most memory that
the process had; all of them import Lightning."""


def cases(cfg: Any, run: Run) -> Iterator[Case]:
    """Yield what is measured of each setting at each number of threads."""
    for setting in cfg.settings:
        words, fast = words_of(setting), words_of(setting, cfg.fast)
        for threads in cfg.threads or sorted({1, jobs_at_once(1)}):
            case = partial(Case, "steps", f"{setting} threads={threads}")
            for loop, name in (("peak", PEAK), ("tutorial", TUTORIAL), ("plain", PLAIN)):
                yield case(name, partial(_loop, cfg, loop, threads, words))
            yield case(OURS, partial(_run, cfg, threads, words))
            yield case(FAST, partial(_run, cfg, threads, fast))


def _loop(cfg: Any, loop: str, threads: int, words: Sequence[str], folder: Path) -> Values:
    datasets = f"paths.datasets={quoted(str(cfg.paths.datasets))}"
    arguments = (loop, str(threads), str(cfg.seconds), *words, datasets)
    _, out = run_python("-m", "stelab.lab.bench.loops", *arguments)
    values: Values = json.loads(out)
    return values


def _run(cfg: Any, threads: int, words: Sequence[str], folder: Path) -> Values:
    file = folder / "clock.json"
    measured = (f"threads={threads}", *_LONG, *_SHORT, *clock(file, seconds=cfg.seconds))
    run_python(*train(cfg, folder, *words, *measured))
    values: Values = json.loads(file.read_text(encoding="utf-8"))
    del values["first_step"]
    return values


def tables(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield a table for each setting and number of threads."""
    for group in dict.fromkeys(sample.group for sample in samples):
        of = partial(values_of, samples, group)
        yield f"### `{group}`\n\nPeak: {spread(of(PEAK, 'gflops'))} GFLOP/s.\n"
        yield (
            "| | images/s | beside the tutorial's loop | tax "
            "| GFLOP/s | of peak | kernels | waits | MiB |"
        )
        yield "| --- " * 9 + "|"
        for name in (TUTORIAL, PLAIN, OURS, FAST):
            yield f"| {name} | {' | '.join(_cells(of, name))} |"
        yield ""


def _cells(of: Callable[[str, str], list[float]], name: str) -> Iterator[str]:
    speed = of(name, "images_per_s")
    work = of(name, "mflop_an_image")
    gflops = [images * each / 1e3 for images, each in zip(speed, work, strict=True)]
    tax = [ratio - 1 for ratio in ratios(of(PLAIN, "images_per_s"), speed)]
    yield spread(speed)
    yield spread(ratios(speed, of(TUTORIAL, "images_per_s")), 2, unit="×")
    yield spread(tax, 1, times=100, unit=" %") if name == OURS else ""
    yield spread(gflops, 1)
    yield spread(ratios(gflops, of(PEAK, "gflops")), times=100, unit=" %")
    for key in ("kernels", "waits"):
        yield spread(of(name, key)[:1], 1)
    peak, on_gpu = of(name, "peak_mib"), of(name, "peak_gpu_mib")
    yield spread(peak) + (f", on the GPU {spread(on_gpu)}" if on_gpu else "")
