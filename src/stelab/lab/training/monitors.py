"""Callbacks that log what the bits and the gradients look like, and how fast training is."""

import time
import warnings
from functools import partial
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from stelab.arguments import Count, checked
from stelab.lab.data.datamodule import Batches
from stelab.lab.models.network import Network
from stelab.lab.tasks.base import binary_layers
from stelab.lab.training.processes import EpochMeans
from stelab.quantizers import Quantizer
from stelab.quantizers.usage import perplexity, usage

FLIP_RATIO = "flip_ratio"
_PROBED = 5000  # images at most, see `ImageDataModule.probe`
_LARGE = 2**16  # codewords, beyond which a split of images says little of their use


class CodeMonitor(Callback):
    """Log what the codes of the binary layers look like after every epoch.

    Encodes a fixed set of images in eval mode and logs

    - ``code/mean``: share of ones;
    - ``code/dead_bits``: share of bits that are the same for all images;
    - ``code/entropy``: sum over bits of their binary entropies, in bits; at most the bits a code;
    - ``code/flip_ratio``: share of bits that changed since the epoch before (from the second on);
    - of a quantizer of at most 65,536 codewords ``code/usage``, the share of them that occurs, and
      ``code/perplexity``, 2 to the entropy of their shares, see `stelab.quantizers.usage`.

    Of several layers, these are the first one's; the others' are ``code/layer2/mean`` and so on, in
    the order of their definition, on what the layers before them say.

    The images are the validation split, or the first training images where there is none (at
    most 5,000). Warns where every bit is constant, naming the range of the pre-activations.
    """

    def __init__(self) -> None:
        self.previous: dict[str, Tensor] = {}
        self.warned = False
        self.encoded = _Encoded()

    def on_validation_start(self, trainer: Trainer, module: Any) -> None:
        """Keep what validation encodes, which need not be done twice."""
        self.encoded.begin(module)

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        """Look on no longer."""
        self.encoded.end()

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Encode, log, compare."""
        images = trainer.datamodule.probe()  # type: ignore[attr-defined]
        x, code, others = _probe_codes(trainer, module, images, self.encoded.of(module, images))
        mean, log = self._describe("code/", code > 0)
        for name, bits in others.items():
            log |= self._describe(name, bits)[1]
        layer = module.model.binarizer
        if isinstance(layer, Quantizer) and layer.codebook_size <= _LARGE:
            indices = layer.indices(code)
            used = {"usage": usage(indices, layer.codebook_size), "perplexity": perplexity(indices)}
            # Not of the code's dtype, where 253.6 would be 254.
            log |= {f"code/{name}": mean.new_tensor(value) for name, value in used.items()}
        module.log_dict(log, sync_dist=True)
        if ((mean == 0) | (mean == 1)).all() and not self.warned:
            self.warned = True
            value = "1" if (mean == 1).all() else "0" if (mean == 0).all() else "constant"
            warnings.warn(
                f"every bit is {value}: the pre-activations lie in [{x.min():.4g}, {x.max():.4g}], "
                "and the threshold does not separate them, so the code says nothing about the "
                "image. Move threshold.value into that range (a ReLU before the bits, "
                "model.relu_before_bits=true, leaves nothing below 0).",
                stacklevel=2,
            )

    def _describe(self, prefix: str, bits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return each bit's share of ones, and what is logged; note what comes next."""
        bits = bits.flatten(1)
        mean = bits.to(torch.float32).mean(0)
        entropy = -(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum()
        log = {
            f"{prefix}mean": mean.mean(),
            f"{prefix}dead_bits": ((mean == 0) | (mean == 1)).float().mean(),
            f"{prefix}entropy": entropy / torch.log(torch.tensor(2.0)),
        }
        if (previous := self.previous.get(prefix)) is not None:
            log[f"{prefix}{FLIP_RATIO}"] = (bits != previous.to(bits.device)).float().mean()
        self.previous[prefix] = bits
        return mean, log

    def state_dict(self) -> dict[str, Any]:
        """Return what the next epoch is compared with."""
        previous = {prefix: bits.cpu() for prefix, bits in self.previous.items()}
        return {"previous": previous, "warned": self.warned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        previous = state["previous"]
        if not isinstance(previous, dict):  # an older run's, of the first layer alone
            previous = {} if previous is None else {"code/": previous}
        self.previous, self.warned = previous, state["warned"]


class _Encoded:
    """The pre-activations of the images that a validation saw, as long as the weights stay."""

    def __init__(self) -> None:
        self.parts: list[tuple[Tensor, Tensor]] = []  # of images, and of pre-activations
        self.hooks: list[RemovableHandle] = []
        self.weights = 0

    def begin(self, module: Any) -> None:
        """Look at what goes through the encoder."""
        self.parts, self.weights = [], _version(module)
        self.hooks = [module.model.encoder.register_forward_hook(self._note)]

    def end(self) -> None:
        """Look no longer."""
        while self.hooks:
            self.hooks.pop().remove()

    def _note(self, encoder: Any, inputs: tuple[Tensor, ...], x: Tensor) -> None:
        if sum(len(part) for part, _ in self.parts) < _PROBED:
            self.parts.append((inputs[0].detach(), x.detach()))

    def of(self, module: Any, images: Tensor) -> Tensor | None:
        """Return these of images, if it saw them first and no weight has moved since."""
        parts, self.parts = self.parts, []
        if self.weights != _version(module):
            return None
        left = images
        for part, _ in parts:
            expected, left = left[: len(part)], left[len(part) :]
            part = part[: len(expected)]
            if part.dtype != images.dtype or not torch.equal(part, expected.to(part.device)):
                return None
        return None if len(left) else torch.cat([x for _, x in parts])[: len(images)]


def _version(module: Any) -> int:
    """Return a number that grows where any weight or buffer of a network is written to."""
    return sum(part._version for part in (*module.model.parameters(), *module.model.buffers()))


@torch.no_grad()
def _probe_codes(
    trainer: Trainer, module: Any, images: Tensor, x: Tensor | None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return pre-activations and code of images, in eval mode; others' bits by prefix."""
    precision, training, model = trainer.precision_plugin, module.training, module.model
    module.eval()
    try:
        with precision.val_step_context():
            if x is None:
                parts = [part.to(module.device) for part in images.split(500)]
                x = torch.cat([model.encoder(precision.convert_input(part)) for part in parts])
        code = model.binarizer(x)
        with precision.val_step_context():
            return x, code, _codes_behind(model, code)
    finally:
        module.train(training)


def _codes_behind(model: Network, code: Tensor) -> dict[str, Tensor]:
    """Return the bits of all binary layers but the first, for its code."""
    first = {id(part) for part in model.binarizer.modules()}
    layers = [layer for layer in binary_layers(model) if id(layer) not in first]
    if not layers:
        return {}
    seen: dict[str, list[Tensor]] = {f"code/layer{i}/": [] for i in range(2, 2 + len(layers))}

    def note(parts: list[Tensor], layer: object, inputs: object, values: Tensor) -> None:
        parts.append(values > 0)

    hooks = [
        layer.register_forward_hook(partial(note, parts))
        for layer, parts in zip(layers, seen.values(), strict=True)
    ]
    try:
        for part in code.split(500):
            model.decode(part)
    finally:
        for hook in hooks:
            hook.remove()
    return {prefix: torch.cat(parts) for prefix, parts in seen.items() if parts}


class GradientMonitor(Callback):
    """Watch the gradient on both sides of the binary layers every few steps; log epoch means.

    With g the gradient at the bits and s the centred pre-activation,

    - ``estimator/grad_norm``: Euclidean norm of g over the batch;
    - ``estimator/clip_fraction``: share of entries of g that the estimator clamps;
    - ``estimator/zero_grad_fraction``: share of exact zeros in the gradient at s;
    - ``estimator/saturation``: share of s beyond -1 and 1.

    Multi-evaluation estimators have no gradient at the bits, so neither of the first two. Of
    several binary layers, the mean.

    Args:
        every_n_steps: Steps from one step that is watched to the next, from step 0 on.
    """

    plain = True  # see `EpochLoop`

    @checked
    def __init__(self, *, every_n_steps: Count):
        self.every_n_steps = every_n_steps
        self.means = EpochMeans()
        self.hooks: list[RemovableHandle] = []

    def watches(self, trainer: Trainer, index: int) -> bool:
        """One in so many."""
        return index % self.every_n_steps == 0

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        """Put hooks on threshold and estimator."""
        if self.watches(trainer, index):
            for layer in binary_layers(module.model):
                self.hooks += [
                    layer.threshold.register_forward_hook(self._watch_threshold),
                    layer.estimator.register_forward_hook(self._watch_bits),
                ]
            if module.static is not None:
                module.look(batch)
                self._unhook()

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        """Take the hooks away."""
        self._unhook()

    def _unhook(self) -> None:
        while self.hooks:
            self.hooks.pop().remove()

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Log the epoch's means."""
        means = self.means.reset(trainer.strategy).items()
        module.log_dict({f"estimator/{name}": mean for name, mean in means}, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch's means so far."""
        return self.means.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.means.load_state_dict(state)

    def _watch_threshold(self, threshold: Any, inputs: tuple[Tensor, ...], theta: Tensor) -> None:
        def note_gradient(grad: Tensor) -> None:
            self.means.add(1, **at_pre_activations(grad))

        (x,) = inputs
        self.means.add(1, **of_centred(x.detach() - theta.detach()))
        if x.requires_grad:
            x.register_hook(note_gradient)

    def _watch_bits(self, estimator: Any, inputs: tuple[Tensor, ...], bits: Tensor) -> None:
        def note_gradient(grad: Tensor) -> None:
            self.means.add(1, **at_bits(grad, estimator))

        if bits.requires_grad:
            bits.register_hook(note_gradient)


def of_centred(s: Tensor) -> dict[str, Tensor]:
    """Return what `GradientMonitor` logs of centred pre-activations."""
    return {"saturation": (s.abs() > 1).float().mean()}


def at_pre_activations(grad: Tensor) -> dict[str, Tensor]:
    """Return what `GradientMonitor` logs of the gradient at pre-activations."""
    return {"zero_grad_fraction": (grad == 0).float().mean()}


def at_bits(grad: Tensor, estimator: Any) -> dict[str, Tensor]:
    """Return what `GradientMonitor` logs of the gradient at bits."""
    clipped = estimator.clipped(grad).float().mean()
    return {"grad_norm": grad.float().norm(), "clip_fraction": clipped}


class Throughput(Callback):
    """Log ``time/images_per_s``: images trained on in a second of the epoch's training steps.

    Of an epoch that was continued in its middle, the steps since then.
    """

    def __init__(self) -> None:
        self.first: int | None = None  # batch since when time is taken

    def watches(self, trainer: Trainer, index: int) -> bool:
        """The first: the last one is always watched."""
        return self.first is None

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        """Start the clock at the first batch."""
        if self.first is None:
            self.first, self.start = index, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Stop the clock, as this may be the epoch's last batch."""
        last = trainer.should_stop or index + 1 == trainer.num_training_batches
        if last and module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        self.last, self.end = index, time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        """Note when a validation begins."""
        self.paused = time.perf_counter()

    def on_validation_end(self, *_: Any) -> None:
        """Leave it out, also where it was in the middle of the epoch."""
        took = time.perf_counter() - self.paused
        self.start, self.end = self.start + took, self.end + took

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Log the rate."""
        data = trainer.train_dataloader
        assert isinstance(data, Batches) and self.first is not None
        images = min((self.last + 1) * data.batch_size, data.count) - self.first * data.batch_size
        self.first = None
        module.log("time/images_per_s", images / max(self.end - self.start, 1e-9), sync_dist=True)
