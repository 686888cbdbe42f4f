"""Parts whose author has not defined what they need: which method is missing is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stelab import Binarizer
from stelab.categorical.base import CategoricalEstimator, SoftmaxJacobians
from stelab.estimators import Estimator, Identity
from stelab.estimators.surrogates import Surrogate
from stelab.lab.data import ImageDataModule
from stelab.lab.data.downloaded import Downloaded
from stelab.lab.gradients.problems import Problem
from stelab.lab.models import VAE, Network
from stelab.lab.tasks import Task
from stelab.quantizers import Quantizer
from stelab.thresholds import FixedThreshold

S = torch.zeros(2, 3)
LAYER = Binarizer(threshold=FixedThreshold(value=0), estimator=Identity())
DATA = {"limit": None, "batch_size": 1, "seed": 0, "mean": 0.5, "std": 0.5}
FILES = {**DATA, "root": "nowhere", "val_size": 1, "split_seed": 0}
PARTS: list[tuple[Any, dict[str, Any], Callable[[Any], object], str]] = [
    (Estimator, {}, lambda made: made(S), "forward(s, *, bits, generator)"),
    (Surrogate, {}, lambda made: made(S), "derivative(s)"),
    (CategoricalEstimator, {}, lambda made: made(S), "forward(logits, *, sample, generator)"),
    (SoftmaxJacobians, {}, lambda made: made(S), "mixture(log_pi, sample, *, generator)"),
    *(
        (
            Quantizer,
            {"binarizer": LAYER, "levels": (2, 2, 2)},
            lambda made, method=method: getattr(made, method)(S),
            f"{method}({name})",
        )
        for method, name in (("position", "z"), ("codewords", "digits"), ("digits", "codes"))
    ),
    (Problem, {"logits": S}, lambda made: made(S), "forward(bits)"),
    (Network, {}, lambda made: made.decode(S), "decode(code)"),
    *(
        (VAE, {"encoder": nn.Flatten(), "binarizer": LAYER, "decoder": nn.Flatten()}, use, missing)
        for use, missing in (
            (lambda made: made.posterior(S), "posterior(x)"),
            (lambda made: made.prior(2), "prior(examples)"),
            (lambda made: made.sample(S, generator=None), "sample(x, generator)"),
        )
    ),
    (Task, {"loss": nn.MSELoss()}, lambda made: made.losses(S, {}), "target(batch)"),
    (
        *(Task, {"loss": nn.MSELoss()}),
        *(lambda made: made.metrics(S, {}, S[:, 0]), "metrics(output, batch, losses)"),
    ),
    (ImageDataModule, DATA, lambda made: made.images("train"), "load(split)"),
    (Downloaded, FILES, lambda made: made.prepare_data(), "files"),
    (Downloaded, FILES, lambda made: made.pattern, "pattern"),
    (Downloaded, FILES, lambda made: made.verify(Path("file")), "verify(path)"),
]


@pytest.mark.parametrize(
    ("base", "arguments", "use", "missing"), PARTS, ids=lambda v: getattr(v, "__name__", None)
)
def test_what_is_missing_is_named(
    base: type, arguments: dict[str, Any], use: Callable[[Any], object], missing: str
) -> None:
    mine = type("Mine", (base,), {})(**arguments)
    with pytest.raises(NotImplementedError) as error:
        use(mine)
    assert str(error.value) == f"Mine must define {missing}"
