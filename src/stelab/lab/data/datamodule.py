"""What all image datasets share: splits, normalization, and which images make which batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Generator, Tensor

from stelab.engine.errors import InputError

Batch = dict[str, Tensor]
"""Named tensors of one length: ``"images"``, and ``"labels"`` where a dataset has classes."""

Draw = Callable[[Batch, int, int], Batch]
"""What is seen of a batch, given its epoch and its number; see `Batches`."""

PerChannel = float | Sequence[float]
"""A number, or one for each channel."""

SPLITS = ("train", "val", "test")

_TOGETHER = 2**20  # values of images in one batch of an evaluation


def normalize(pixels: Tensor, *, mean: PerChannel, std: PerChannel) -> Tensor:
    r"""Map uint8 pixels to float32 images :math:`(p/255 - \mathrm{mean})/\mathrm{std}`.

    Both are of shape ``(n, channels, height, width)``.

    Raises:
        InputError: `mean` or `std` has neither one number nor one a channel.
    """
    images = pixels.to(torch.float32, copy=True)  # in place from here: a dataset is large
    means, stds = _broadcast(images, mean=mean, std=std)
    return images.div_(255).sub_(means).div_(stds)


def denormalize(images: Tensor, *, mean: PerChannel, std: PerChannel) -> Tensor:
    """Undo `normalize`, rounding; what lies beyond black and white becomes these."""
    images = images.float()
    means, stds = _broadcast(images, mean=mean, std=std)
    return ((images * stds + means) * 255).round().clamp(0, 255).to(torch.uint8)


def per_channel(value: PerChannel) -> float | tuple[float, ...]:
    """Return a mean or a std as what can be compared and hashed."""
    return tuple(value) if isinstance(value, Sequence) else value


def _broadcast(images: Tensor, **values: PerChannel) -> list[Tensor]:
    """Return each as a tensor that broadcasts to the images."""
    for name, value in values.items():
        if isinstance(value, Sequence) and len(value) != images.shape[1]:
            raise InputError(
                f"data.{name} must be a number, or one for each of {images.shape[1]} channels, "
                f"got {len(value)}"
            )
    return [images.new_tensor(value).reshape(-1, 1, 1) for value in values.values()]


@dataclass(frozen=True)
class ImageFormat:
    """What a network is trained on, whatever the images show.

    Attributes:
        shape: Of an image: ``(channels, height, width)``; 1 channel is grey, 3 are RGB.
        mean: See `normalize`.
        std: See `normalize`.
    """

    shape: tuple[int, int, int]
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    @property
    def range(self) -> tuple[float, float]:
        """Return the least and the largest value that `normalize` gives a pixel."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return float((-mean / std).min()), float(((1 - mean) / std).max())

    def normalize(self, pixels: Tensor) -> Tensor:
        """Call `normalize` with this mean and std."""
        return normalize(pixels, mean=self.mean, std=self.std)

    def denormalize(self, images: Tensor) -> Tensor:
        """Call `denormalize` with this mean and std."""
        return denormalize(images, mean=self.mean, std=self.std)


@dataclass(eq=False, repr=False)
class Batches:
    """Iterate over named tensors in batches, all in one order; the last, smaller batch is kept.

    The order depends on `seed` and epoch; without a seed it stays as it is. `batch_size` counts
    the images of all processes together, so that a run takes the same optimizer steps on one device
    and on several: process `rank` takes every `world_size`-th image of each batch. `draw` makes
    what is seen of a whole batch, given that, the epoch and the batch's number.
    """

    tensors: Batch
    _: KW_ONLY
    batch_size: int
    seed: int | None
    draw: Draw | None = None
    rank: int = 0
    world_size: int = 1
    epoch: int = 0
    resume: tuple[int, int] = field(default=(0, 0), init=False)  # epoch and batch
    gives_choice: bool = field(default=False, init=False)  # of images, ``"chosen"``, for `at`

    def __post_init__(self) -> None:
        last = self.count % self.batch_size or self.batch_size
        if last < self.world_size:
            raise ValueError(
                f"every process needs an image of every batch, but {self.count} images in "
                f"batches of {self.batch_size} leave {last} for {self.world_size} processes in the "
                "last; change data.batch_size"
            )

    @property
    def count(self) -> int:
        """Return the number of images."""
        return len(self.tensors["images"])

    # Lightning reads these two names of a torch DataLoader, to call `set_epoch` on the sampler.
    batch_sampler = None

    @property
    def sampler(self) -> Batches:
        """Return what decides the order: these batches themselves."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def state_dict(self) -> dict[str, tuple[int, int]]:
        """Return where to resume."""
        return {"resume": self.resume}

    def load_state_dict(self, state: dict[str, tuple[int, int]]) -> None:
        """Skip the batches before that batch in that epoch."""
        self.resume = state["resume"]

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self.resume
        order = torch.arange(self.count)
        if self.seed is not None:
            order = torch.randperm(len(order), generator=seeded(self.seed, self.epoch))
        batches = order.to(self.tensors["images"].device).split(self.batch_size)
        for index in range(start if self.epoch == epoch else 0, len(batches)):
            chosen = batches[index]
            yield {"chosen": chosen} if self.gives_choice else self._batch(chosen, index)

    def at(self, chosen: Tensor) -> Batch:
        """Return chosen images with what is known of them, in the shape of the choice."""
        return _at(chosen, self.tensors)

    def _batch(self, chosen: Tensor, index: int) -> Batch:
        own = slice(self.rank, None, self.world_size)
        if self.draw is None:
            return _at(chosen[own], self.tensors)
        # For all processes, so that they see together what one would see alone.
        drawn = self.draw(_at(chosen, self.tensors), self.epoch, index)
        return {name: tensor[own].contiguous() for name, tensor in drawn.items()}


def _at(chosen: Tensor | slice, tensors: Batch) -> Batch:
    return {name: tensor[chosen] for name, tensor in tensors.items()}


def seeded(*numbers: int, device: torch.device | str = "cpu") -> Generator:
    """Return a generator, seeded with a hash: (0, 1) is another seed than (1, 0) or (1,)."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]) >> 1)


class ImageDataModule(pl.LightningDataModule):
    """Splits of a dataset, in batches whose order depends on (seed, epoch) only.

    A dataset defines `load`. A split is loaded when it is first asked for, and its tensors move to
    the training device once.

    Args:
        limit: Keep the first `limit` images of each split; None keeps all.
        batch_size: Images a training batch, over all processes. Evaluation takes batches of about
            a million values, unless these are larger or ``trainer.limit_*_batches`` counts them.
        seed: With the epoch, decides the order of the batches.
        mean: See `normalize`, which `load` calls with it.
        std: See `normalize`.

    Attributes:
        may_download: Whether absent files may be downloaded: not where a run's own record names
            their folder.
    """

    may_download = True

    def __init__(
        self,
        *,
        limit: int | None,
        batch_size: int,
        seed: int,
        mean: PerChannel,
        std: PerChannel,
    ):
        super().__init__()
        self.limit = limit
        self.batch_size = batch_size
        self.seed = seed
        self.mean = per_channel(mean)
        self.std = per_channel(std)
        self._splits: dict[str, Batch] = {}
        self._moved: dict[tuple[str, torch.device], Batch] = {}

    def load(self, split: str) -> Batch:
        """Return all of a split, in a fixed order.

        ``"images"`` are float32, ``(n, channels, height, width)``, normalized; ``"labels"``, where
        there are classes, int64, ``(n,)``. `prepare_data` has made sure that they are on this
        machine.
        """
        raise NotImplementedError(f"{type(self).__name__} must define load(split)")

    def tensors(self, split: str) -> Batch:
        """Return the first `limit` of a split, perhaps none; see `load`."""
        if split not in self._splits:
            self._splits[split] = _at(slice(self.limit), self.load(split))
        return self._splits[split]

    def images(self, split: str) -> Tensor:
        """Return the first `limit` images of ``"train"``, ``"val"`` or ``"test"``.

        Raises:
            InputError: There are none.
        """
        if not self.has(split):
            raise InputError(f"the {split} split is empty: data.{split}_size is 0")
        return self.tensors(split)["images"]

    def labels(self, split: str) -> Tensor | None:
        """Return the classes of these images, int64, ``(n,)``; None where there are none."""
        return self.tensors(split).get("labels")

    def has(self, split: str) -> bool:
        """Return whether a split has any images."""
        return len(self.tensors(split)["images"]) > 0

    @property
    def classes(self) -> int | None:
        """Return the number of classes, of which labels are 0 to the last; None without labels."""
        return None

    @property
    def format(self) -> ImageFormat:
        """Return the images' shape and normalization."""
        loaded = next(iter(self._splits), "train")
        _, channels, height, width = self.tensors(loaded)["images"].shape
        return ImageFormat(shape=(channels, height, width), mean=self.mean, std=self.std)

    @property
    def draw(self) -> Draw | None:
        """Return what draws a training batch anew each time; None where images are what they are.

        See `Batches`. What it draws depends on the run's seed, the epoch and the batch only.
        """
        return None

    def batches_per_epoch(self, limit: int | float) -> int:
        """Return the training batches of an epoch: at most `limit`, or that share of all."""
        batches = -(-len(self.images("train")) // self.batch_size)
        return min(limit, batches) if isinstance(limit, int) else int(limit * batches)

    def probe(self, at_most: int = 5000) -> Tensor:
        """Return the images that monitors encode: the validation split, else training images."""
        return self.images("val" if self.has("val") else "train")[:at_most]

    def train_dataloader(self) -> Batches:
        """Return the training batches, reshuffled every epoch but for trainer.overfit_batches."""
        overfits = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        seed = None if overfits else self.seed
        return self._batches("train", batch_size=self.batch_size, seed=seed, draw=self.draw)

    def val_dataloader(self) -> Batches:
        """Return the validation batches in order."""
        return self._evaluation_batches("val")

    def test_dataloader(self) -> Batches:
        """Return the test batches in order."""
        return self._evaluation_batches("test")

    def example(self) -> Batch:
        """Return a batch of two: the first training example, twice."""
        self.images("train")  # there are some
        twice = {name: torch.cat([part[:1]] * 2) for name, part in self.tensors("train").items()}
        return twice if self.draw is None else self.draw(twice, 0, 0)

    def first_batch(self) -> Batch:
        """Return a batch of the first training examples."""
        self.images("train")  # there are some
        first = _at(slice(self.batch_size), self.tensors("train"))
        return first if self.draw is None else self.draw(first, 0, 0)

    def batches(self, split: str) -> Batches:
        """Return the batches in which a split is evaluated, in order, for one process."""
        return Batches(self.tensors(split), batch_size=self._evaluated_at_once(split), seed=None)

    def _evaluated_at_once(self, split: str) -> int:
        """Return the size of batches, near equal, that keep a device busy, whatever trains."""
        images = self.images(split)
        at_most = max(self.batch_size, _TOGETHER // images[0].numel())
        return -(-len(images) // -(-len(images) // at_most))

    def _evaluation_batches(self, split: str) -> Batches:
        # Who limits their number means batches of the size that is configured.
        limit = getattr(self.trainer, f"limit_{split}_batches", 1.0)
        is_all = isinstance(limit, float) and limit == 1.0  # 1 is one batch, 1.0 are all
        at_once = self._evaluated_at_once(split) if is_all else self.batch_size
        return self._batches(split, batch_size=at_once, seed=None)

    def _batches(
        self, split: str, *, batch_size: int, seed: int | None, draw: Draw | None = None
    ) -> Batches:
        self.images(split)  # there are some
        tensors, shares = self.tensors(split), dict[str, int]()
        if self.trainer is not None:
            tensors = self._on(self.trainer.strategy.root_device, split)
            shares = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return Batches(tensors, batch_size=batch_size, seed=seed, draw=draw, **shares)

    def _on(self, device: torch.device, split: str) -> Batch:
        if (split, device) not in self._moved:
            tensors = self.tensors(split).items()
            self._moved[split, device] = {name: tensor.to(device) for name, tensor in tensors}
        return self._moved[split, device]

    def share(self, other: ImageDataModule) -> None:
        """Use what another has on a device, so that it is there once, if all of it is the same."""
        if all(_same(self.tensors(split), other.tensors(split)) for split in SPLITS):
            self._moved = other._moved


def _same(ours: Batch, theirs: Batch) -> bool:
    pairs = [(ours[name], theirs[name]) for name in ours.keys() & theirs.keys()]
    # Mostly the same memory, which `divide` keeps.
    return ours.keys() == theirs.keys() and all(
        (a.data_ptr() == b.data_ptr() and a.shape == b.shape) or torch.equal(a, b) for a, b in pairs
    )


def hold_out(labels: Tensor, size: int, *, seed: int, key: str, of: str) -> tuple[Tensor, Tensor]:
    """Split indices, stratified by label: ``(kept, held out)``, each in a shuffled order."""
    if size >= len(labels):
        raise InputError(f"{key} must leave images to train on: got {size} of {len(labels)} {of}")
    if size == 0:
        return torch.arange(len(labels)), torch.arange(0)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    # Rank images within their class, then cut at equal fractions of every class.
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = order[labels[order] == label]
        position[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    by_position = order[position[order].argsort(stable=True)]
    held = torch.isin(order, by_position[:size])
    return order[~held], order[held]


@lru_cache(maxsize=4)
def divide(
    pixels: Tensor,
    labels: Tensor | None,
    *,
    test_size: int | None,
    val_size: int | None,
    seed: int,
    mean: PerChannel,
    std: PerChannel,
) -> dict[str, Batch]:
    """Hold out a test and a validation split, stratified where there are labels, and normalize.

    Once a process: the jobs of a sweep share the images, where they give the same tensors. A size
    that is None leaves that split out.
    """
    classes = torch.zeros(len(pixels)) if labels is None else labels
    rest, test = hold_out(classes, test_size or 0, seed=seed, key="data.test_size", of="images")
    others = "images beside the test's" if test_size else "images"
    kept, val = hold_out(classes[rest], val_size or 0, seed=seed, key="data.val_size", of=others)
    sizes = {"train": 0, "val": val_size, "test": test_size}
    chosen = {"train": rest[kept], "val": rest[val], "test": test}
    return {
        split: {"images": normalize(pixels[i], mean=mean, std=std)}
        | ({} if labels is None else {"labels": labels[i]})
        for split, i in chosen.items()
        if sizes[split] is not None
    }
