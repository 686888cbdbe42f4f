"""The layer in somebody's network: torch is all that it needs."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

IMPORTS = """
import stelab.estimators, stelab.categorical, stelab.quantizers.usage, stelab.thresholds
from stelab import Binarizer, BinaryConv2d, BinaryLinear, Categorizer, Chain, Ternarizer
"""


def python(code: str, *, interpreter: Path | str = sys.executable) -> str:
    ended = subprocess.run([str(interpreter), "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_importing_it_imports_nothing_else() -> None:
    print_own = "import sys; print(sorted({n.partition('.')[0] for n in sys.modules} - before))"
    before = "import sys, torch; before = {n.partition('.')[0] for n in sys.modules}\n"
    assert python(before + IMPORTS + print_own) == "['stelab']\n"


def test_resolvers_of_the_host_stay() -> None:
    code = (
        "from omegaconf import OmegaConf\n"
        "for name in ('bits', 'run_id'):\n"
        "    OmegaConf.register_new_resolver(name, lambda name=name: f'my {name}')\n"
        f"{IMPORTS}"
        "import stelab\n"
        "cfg = stelab.compose('estimator=exact', 'model.bits=8', 'data=mnist5k')\n"
        "print(cfg.estimator.bits, OmegaConf.create({'a': '${bits:} ${run_id:}'}).a)"
    )
    assert python(code) == "8 my bits my run_id\n"


def needed_by(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """Gather a distribution and all that it requires on this machine, by their names."""
    name = re.split(r"[^\w.-]", name)[0].lower()
    if name in found:
        return found
    try:
        found[name] = distribution(name)
    except PackageNotFoundError:  # required elsewhere: on another system, by an extra
        return found
    for requirement in found[name].requires or []:
        if "extra ==" not in requirement:
            needed_by(requirement, found)
    return found


@pytest.fixture(scope="module")
def torch_alone(tmp_path_factory: pytest.TempPathFactory, installed_wheel: Path) -> Path:
    """Make an environment of torch, what torch requires and the wheel of stelab; its Python."""
    folder = tmp_path_factory.mktemp("torch_alone")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for each in needed_by("torch", {}).values():
        for file in each.files or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(Path(str(each.locate_file(top))))
    for part in installed_wheel.iterdir():
        (site / part.name).symlink_to(part)
    return folder / "bin" / "python"


TRAINS = """
import torch
from torch import nn
from stelab import Binarizer, BinaryConv2d, BinaryLinear, Chain, Ternarizer
from stelab.categorical import ReinMax
from stelab.estimators import DisARM
from stelab.thresholds import FixedThreshold

torch.manual_seed(0)
x = torch.randn(256, 8)
encoder, decoder = nn.Linear(8, 16), nn.Linear(16, 8)
layer = Binarizer(threshold=FixedThreshold(value=0.0), estimator=DisARM())
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.02)
losses = []
for _ in range(300):
    optimizer.zero_grad()
    loss = layer.loss(encoder(x), lambda bits: (decoder(bits) - x).square().mean(1))
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(sum(losses[-20:]) < 0.5 * sum(losses[:20]))
try:
    FixedThreshold(value=float("nan"))
except ValueError as error:
    print(error)
try:
    import hydra
except ImportError:
    print("no hydra")
"""


def test_the_wheel_trains_a_plain_network_where_torch_is_alone(torch_alone: Path) -> None:
    told = python(TRAINS, interpreter=torch_alone)
    assert told == "True\nvalue must be a finite number, got nan\nno hydra\n"
