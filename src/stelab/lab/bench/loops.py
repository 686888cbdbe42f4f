"""Training loops in plain PyTorch: the tutorial's, and the best one for the work of a run.

``python -m stelab.lab.bench.loops LOOP THREADS SECONDS OVERRIDES...`` measures one of them, and
prints JSON: of `peak`, ``gflops``; of the others what `stelab.lab.bench.clock` writes of a run too.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, ToTensor
from torchvision.transforms.functional import to_pil_image

from stelab.engine.config import build, compose
from stelab.lab.bench.counting import Counter, memory, now
from stelab.lab.bench.steps import COUNTED, WARM_UP
from stelab.lab.data import ImageDataModule
from stelab.lab.models import Autoencoder
from stelab.lab.training.building import build_data, to_plain

Steps = Iterator[int]  # one optimizer step at a time: the images of its batch


class Bits(torch.autograd.Function):
    """Straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return the bits."""
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        """Return the gradient as it came."""
        return g


class TutorialBits(Bits):
    """The tutorial's straight-through function."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        """Return the gradient, clamped."""
        return F.hardtanh(g)


class Plain(nn.Module):
    """The layers of an autoencoder of stelab's around a straight-through function."""

    def __init__(self, model: Autoencoder, bits: type[Bits]):
        super().__init__()
        self.encoder, self.decoder, self.signed = model.encoder, model.decoder, model.signed
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstructions."""
        bits = self.bits.apply(self.encoder(x))
        return self.decoder(2 * bits - 1 if self.signed else bits)


class Digits(Dataset[Tensor]):
    """Images as torchvision's datasets hand them out, one by one: PIL's, then transformed."""

    def __init__(self, data: ImageDataModule):
        parts = data.images("train").split(1000)  # little by little, as memory is measured
        self.pixels = torch.cat([data.format.denormalize(part) for part in parts])
        self.transform = Compose([ToTensor(), Normalize([0.5], [0.5])])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(to_pil_image(self.pixels[index]))
        return image


def tutorial(model: Autoencoder, cfg: Any, data: ImageDataModule, device: torch.device) -> Steps:
    """Train as the tutorial does: batches of 64 from a `DataLoader`, Adam as it comes."""
    network = Plain(model, TutorialBits).to(device)
    optimizer = Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999))
    loss_function = nn.MSELoss()
    loader = DataLoader(Digits(data), batch_size=64, shuffle=True)
    while True:
        for batch in loader:
            optimizer.zero_grad()
            images = batch.to(device)
            loss = loss_function(network(images), images)
            loss.backward()
            optimizer.step()
            yield len(images)


def plain(model: Autoencoder, cfg: Any, data: ImageDataModule, device: torch.device) -> Steps:
    """Do a run's work, its batch size, optimizer and precision, with nothing around it."""
    network = Plain(model, Bits).to(device)
    optimizer = build(to_plain(cfg.optimizer), params=[*network.parameters()])
    half = cfg.trainer.precision == "bf16-mixed"
    all_images = data.images("train").to(device)
    while True:
        for chosen in torch.randperm(len(all_images), device=device).split(cfg.data.batch_size):
            images = all_images[chosen]
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = F.mse_loss(network(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(images)


def measure(steps: Steps, device: torch.device, *, seconds: float) -> dict[str, float]:
    """Return the rate of steps that follow each other for so long, what they start and take."""
    for _ in range(WARM_UP):
        next(steps)
    with Counter() as counter:
        values = counter.of_a_step(sum(next(steps) for _ in range(COUNTED)))
    begun, images = now(device), 0
    while time.perf_counter() < begun + seconds:
        images += next(steps)
    return values | {"images_per_s": images / (now(device) - begun)} | memory(device)


def peak(device: torch.device, *, seconds: float) -> dict[str, float]:
    """Return the most that products of float32 matrices reach, in 1e9 operations a second."""
    size = 8192 if device.type == "cuda" else 2048
    a, best, end = torch.rand(size, size, device=device), 0.0, time.perf_counter() + seconds
    while not best or time.perf_counter() < end:
        begun = now(device)
        a @ a
        best = max(best, 2 * size**3 / (now(device) - begun) / 1e9)
    return {"gflops": best}


def main(loop: str, threads: str, seconds: str, *overrides: str) -> None:
    """Measure a loop on the device that the run of such overrides would choose."""
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    cfg = compose(*overrides)
    on_gpu = torch.cuda.is_available() and cfg.trainer.accelerator != "cpu"
    device = torch.device("cuda" if on_gpu else "cpu")
    if loop == "peak":
        values = peak(device, seconds=float(seconds))
    else:
        make = {"tutorial": tutorial, "plain": plain}[loop]
        of = compose("experiment=tutorial") if loop == "tutorial" else cfg
        steps = make(build(of.model), cfg, build_data(cfg), device)
        values = measure(steps, device, seconds=float(seconds))
    print(json.dumps(values))


if __name__ == "__main__":
    main(*sys.argv[1:])
