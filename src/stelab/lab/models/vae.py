r"""Discrete variational autoencoders: Bernoulli codes in one or two layers, and one-hots.

A recognition network gives :math:`q(b \mid x)`, a generative one :math:`p(b)\,p(x \mid b)`. Of

.. math:: -\mathrm{ELBO} = \mathbb{E}_q[-\log p(x \mid b)] + \mathrm{KL}(q(b \mid x)\,\|\,p(b))

the estimator of the layer differentiates the first term, the second is known. Of two layers,
:math:`q(b_1 \mid x)\,q(b_2 \mid b_1)` and :math:`p(b_2)\,p(b_1 \mid b_2)\,p(x \mid b_1)`, what is
known is :math:`-H(q(b_1 \mid x))`, and given :math:`b_1` the divergence of :math:`b_2`.

References:
    Mnih, Gregor (2014), "Neural Variational Inference and Learning in Belief Networks",
    arXiv:1402.0030. Tucker et al. (2017), "REBAR", arXiv:1703.07370. Dong, Mnih, Tucker (2020),
    "DisARM", arXiv:2006.10680. Liu et al. (2023), "Bridging Discrete and Backpropagation",
    arXiv:2304.08612.
"""

import copy
import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
)
from torch.nn.functional import binary_cross_entropy_with_logits

from stelab.arguments import AtLeastTwo, Count, NonNegative, checked
from stelab.binarizer import Binarizer
from stelab.categorical.base import one_hot
from stelab.categorizer import Categorizer
from stelab.estimators.backward import wide
from stelab.lab.models.network import Layer, Network, Outcome
from stelab.randomness import Source, bernoulli, exponential


class Decoded(NamedTuple):
    """What comes out for a code: logits of pixels, and nats that the layers behind it cost."""

    logits: Tensor  # (batch, channels, height, width)
    cost: Tensor  # (batch,)


class Draw(NamedTuple):
    """One draw of all codes of each image, with everything that bounds are made of."""

    decoded: Decoded
    log_ratio: Tensor  # (batch,), log p(b) - log q(b | x)


class VAE(Network):
    """A discrete VAE of one layer; a subclass says what law the codes have.

    Args:
        encoder: Images to logits ``(batch, *code_shape)``.
        binarizer: The layer that draws codes.
        decoder: Codes, as the layer emits them, to logits of pixels.
    """

    def __init__(self, *, encoder: nn.Module, binarizer: Layer, decoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.binarizer = binarizer
        self.decoder = decoder

    def posterior(self, x: Tensor) -> Distribution:
        """Return q(b | x), given the logits."""
        raise NotImplementedError(f"{type(self).__name__} must define posterior(x)")

    def prior(self, examples: int) -> Distribution:
        """Return p(b), once for each example."""
        raise NotImplementedError(f"{type(self).__name__} must define prior(examples)")

    def sample(self, x: Tensor, *, generator: Source | None) -> Tensor:
        """Draw codes, whatever the mode."""
        raise NotImplementedError(f"{type(self).__name__} must define sample(x, generator)")

    def decode(self, code: Tensor) -> Decoded:
        """See `Network.decode`."""
        logits: Tensor = self.decoder(code)
        return Decoded(logits, logits.new_zeros(len(logits)))

    def rate(self, x: Tensor) -> Tensor:
        """Return what is known of the divergence of the first layer's codes, ``(batch,)``."""
        return _divergence(self.posterior(x), self.prior(len(x)))

    def draw(self, x: Tensor, *, generator: Source | None) -> Draw:
        """Draw codes given the logits of images, whatever the mode."""
        code = self.sample(x, generator=generator)
        return Draw(self.decode(code), self.log_ratio(x, code))

    def log_ratio(self, x: Tensor, code: Tensor) -> Tensor:
        """Return log p(b) - log q(b | x), ``(batch,)``."""
        return self.prior(len(x)).log_prob(code) - self.posterior(x).log_prob(code)


class BernoulliVAE(VAE):
    """Bernoulli codes with a learned prior; the decoder is fed ``2b - 1``.

    Args:
        encoder: Images to logits ``(batch, bits)``.
        binarizer: The binary layer, of an estimator that draws.
        decoder: ``2b - 1`` to logits of pixels.
        bits: Bits a code.
    """

    def __init__(self, *, encoder: nn.Module, binarizer: Binarizer, decoder: nn.Module, bits: int):
        super().__init__(encoder=encoder, binarizer=binarizer, decoder=decoder)
        self.prior_logits = nn.Parameter(torch.zeros(bits))

    @torch.no_grad()
    def begin(self, images: Tensor) -> None:
        """See `Network.begin`."""
        mean = images.mean(0).flatten()
        for part in self.modules():
            if isinstance(part, _LessMean | _MeanLogits):
                part.begin(mean)

    def posterior(self, x: Tensor) -> Distribution:
        """See `VAE.posterior`."""
        return _bernoulli(self.binarizer, x)

    def prior(self, examples: int) -> Distribution:
        """See `VAE.prior`."""
        return _bits(logits=self.prior_logits.expand(examples, -1))

    def sample(self, x: Tensor, *, generator: Source | None) -> Tensor:
        """See `VAE.sample`."""
        return _draw_bits(self.binarizer, x, generator)

    def decode(self, code: Tensor) -> Decoded:
        """See `Network.decode`."""
        return super().decode(2 * code - 1)


class HierarchicalVAE(BernoulliVAE):
    """Two layers of Bernoulli codes, the upper with the learned prior.

    Args:
        encoder: Images to logits of the lower layer.
        binarizer: The lower binary layer.
        top_encoder: ``2b - 1`` of the lower layer to logits of the upper.
        top_binarizer: The upper binary layer.
        top_decoder: ``2b - 1`` of the upper layer to the logits of the lower layer's law.
        decoder: ``2b - 1`` of the lower layer to logits of pixels.
        bits: Bits of the upper layer.
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        binarizer: Binarizer,
        top_encoder: nn.Module,
        top_binarizer: Binarizer,
        top_decoder: nn.Module,
        decoder: nn.Module,
        bits: int,
    ):
        super().__init__(encoder=encoder, binarizer=binarizer, decoder=decoder, bits=bits)
        self.top_encoder = top_encoder
        self.top_binarizer = top_binarizer
        self.top_decoder = top_decoder

    def decode(self, code: Tensor) -> Decoded:
        """Return the output for codes of the lower layer; the upper one's are its own."""
        x = self.top_encoder(2 * code - 1)
        return self._decode(code, self.top_binarizer(x), x)

    def losses(self, code: Tensor, outcome: Outcome, *, generator: Source | None) -> Tensor:
        """See `Network.losses`: the upper layer's estimator is nested in the lower one's."""
        x = self.top_encoder(2 * code - 1)
        return self.top_binarizer.losses(
            x, lambda top: outcome(self._decode(code, top, x)), generator=generator
        )

    def rate(self, x: Tensor) -> Tensor:
        """Return minus the entropy of the lower layer's codes; the rest is in the output's cost."""
        return -self.posterior(x).entropy()

    def draw(self, x: Tensor, *, generator: Source | None) -> Draw:
        """See `VAE.draw`."""
        code = self.sample(x, generator=generator)
        top_x = self.top_encoder(2 * code - 1)
        top = _draw_bits(self.top_binarizer, top_x, generator)
        decoded = self._decode(code, top, top_x)
        log_p = self.prior(len(top)).log_prob(top) + self._lower(top).log_prob(code)
        log_q = self.posterior(x).log_prob(code)
        log_q = log_q + _bernoulli(self.top_binarizer, top_x).log_prob(top)
        return Draw(decoded, log_p - log_q)

    def _lower(self, top: Tensor) -> Distribution:
        return _bits(logits=self.top_decoder(2 * top - 1))

    def _decode(self, code: Tensor, top: Tensor, x: Tensor) -> Decoded:
        divergence = _divergence(_bernoulli(self.top_binarizer, x), self.prior(len(x)))
        cost = divergence - self._lower(top).log_prob(code)
        return Decoded(self.decoder(2 * code - 1), cost)


class CategoricalVAE(VAE):
    """One-hot codes with a uniform prior.

    Args:
        encoder: Images to logits ``(batch, latents, classes)``.
        binarizer: The layer of one-hots.
        decoder: One-hots to logits of pixels.
        code_shape: ``(latents, classes)``.
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        binarizer: Categorizer,
        decoder: nn.Module,
        code_shape: tuple[int, int],
    ):
        super().__init__(encoder=encoder, binarizer=binarizer, decoder=decoder)
        self.uniform: Tensor = nn.Buffer(torch.zeros(code_shape), persistent=False)

    def posterior(self, x: Tensor) -> Distribution:
        """See `VAE.posterior`; it is the law of the classes."""
        return _classes(x)

    def prior(self, examples: int) -> Distribution:
        """See `VAE.prior`; it is the law of the classes."""
        return _classes(self.uniform.expand(examples, -1, -1))

    def log_ratio(self, x: Tensor, code: Tensor) -> Tensor:
        """See `VAE.log_ratio`."""
        return super().log_ratio(x, code.argmax(-1))

    def sample(self, x: Tensor, *, generator: Source | None) -> Tensor:
        """See `VAE.sample`."""
        race = x - exponential(x, generator=generator).log()
        return one_hot(race.argmax(-1), x)


def _bernoulli(binarizer: Layer, x: Tensor) -> Distribution:
    """Return the law by which a layer's estimator draws, given pre-activations."""
    assert isinstance(binarizer, Binarizer)
    probability = binarizer.estimator.probability(binarizer.centre(x))
    return _bits(probs=probability)


# Whether all numbers are valid the host would have to wait for, each time; a loss of NaN says it.
def _bits(**parameter: Tensor) -> Distribution:
    return Independent(Bernoulli(**parameter, validate_args=False), 1, validate_args=False)


def _classes(logits: Tensor) -> Distribution:
    law = Categorical(logits=logits, validate_args=False)
    return Independent(law, 1, validate_args=False)


def _divergence(q: Any, p: Any) -> Tensor:
    """Return KL(q || p) of bits, or of classes, ``(batch,)``.

    torch's `kl_divergence` looks for probabilities of 0 by a mask, for which the host waits.
    """
    a, b = q.base_dist, p.base_dist
    if isinstance(a, Bernoulli):
        cross, own = (
            binary_cross_entropy_with_logits(law.logits, a.probs, reduction="none")
            for law in (b, a)
        )
        return (cross - own).sum(-1)
    return (a.probs * (a.logits - b.logits)).sum((-2, -1))


def _draw_bits(binarizer: Layer, x: Tensor, generator: Source | None) -> Tensor:
    assert isinstance(binarizer, Binarizer)
    s = binarizer.centre(x)
    p = binarizer.estimator.probability(wide(s))
    return bernoulli(p, generator=generator).to(s.dtype)


@checked
def vae_bernoulli(
    *,
    binarizer: Binarizer,
    bits: Count,
    layers: Literal[1, 2],
    hidden: list[Any],
    slope: NonNegative,
    image_shape: Sequence[int],
    centre: Literal["mean", "half"] = "half",  # of older runs, which do not say it
    output_bias: Literal["mean", "random"] = "random",
) -> VAE:
    """Build a Bernoulli VAE of images in [0, 1].

    Linear, pixels - bits - pixels, or with hidden layers of LeakyReLUs on both sides, and between
    the two layers of codes where there are two, of as many bits each.

    What takes a mean is as in the code of Dong, Mnih, Tucker (2020), which follows Yin, Zhou
    (2019), arXiv:1807.11143, and Tucker et al. (2017): of the training images, see
    `Network.begin`, before which it is 0. The prior begins at probabilities of one half.

    Args:
        binarizer: The binary layer; of two, each has its own.
        bits: Bits of each layer.
        layers: Layers of bits.
        hidden: Widths of hidden layers, none for a linear one.
        slope: Of the LeakyReLUs below 0.
        image_shape: ``(channels, height, width)``; all of its numbers are pixels.
        centre: The encoder sees pixels less their ``"mean"``, or ``2x - 1``.
        output_bias: Of logits of pixels, begins at the logits of their ``"mean"``, taken to be
            within 0.001 and 0.999, or at torch's ``"random"`` numbers.
    """
    widths, pixels = [*hidden], math.prod(image_shape)
    through = partial(_mlp, slope=slope)
    centred = _LessMean(pixels) if centre == "mean" else _Centre()
    encoder = nn.Sequential(nn.Flatten(), centred, through([pixels, *widths, bits]))
    last = _MeanLogits if output_bias == "mean" else nn.Linear
    decoder = nn.Sequential(
        through([bits, *reversed(widths), pixels], last=last), nn.Unflatten(1, tuple(image_shape))
    )
    if layers == 1:
        return BernoulliVAE(encoder=encoder, binarizer=binarizer, decoder=decoder, bits=bits)
    return HierarchicalVAE(
        encoder=encoder,
        binarizer=binarizer,
        top_encoder=through([bits, *widths, bits]),
        top_binarizer=copy.deepcopy(binarizer),
        top_decoder=through([bits, *reversed(widths), bits]),
        decoder=decoder,
        bits=bits,
    )


@checked
def vae_categorical(
    *,
    binarizer: Categorizer,
    bits: Count,
    classes: AtLeastTwo,
    slope: NonNegative = 0.0,  # of older runs, which do not say it
    image_shape: Sequence[int],
) -> VAE:
    """Build pixels - 512 - 256 - bits x classes and back, with LeakyReLUs, of images in [0, 1].

    The network of Jang, Gu, Poole (2017), arXiv:1611.01144, as Liu et al. (2023) train it.

    Args:
        binarizer: The layer of one-hots.
        bits: One-hots a code.
        classes: Classes of each.
        slope: Of the LeakyReLUs below 0; with 0 they are ReLUs.
        image_shape: ``(channels, height, width)``; all of its numbers are pixels.
    """
    pixels = math.prod(image_shape)
    size, through = bits * classes, partial(_mlp, slope=slope)
    encoder = nn.Sequential(
        nn.Flatten(), through([pixels, 512, 256, size]), nn.Unflatten(1, (bits, classes))
    )
    decoder = nn.Sequential(
        nn.Flatten(), through([size, 256, 512, pixels]), nn.Unflatten(1, tuple(image_shape))
    )
    return CategoricalVAE(
        encoder=encoder, binarizer=binarizer, decoder=decoder, code_shape=(bits, classes)
    )


class _Centre(nn.Module):
    """Map pixels in [0, 1] to [-1, 1]."""

    def forward(self, pixels: Tensor) -> Tensor:
        return 2 * pixels - 1


class _LessMean(nn.Module):
    """Subtract a mean image."""

    def __init__(self, pixels: int):
        super().__init__()
        self.mean: Tensor = nn.Buffer(torch.zeros(pixels))

    def begin(self, mean: Tensor) -> None:
        self.mean.copy_(mean)

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels - self.mean


class _MeanLogits(nn.Linear):
    """Emit logits that begin around those of a mean image."""

    def begin(self, mean: Tensor) -> None:
        self.bias.copy_(mean.logit(eps=1e-3))


def _mlp(
    widths: Sequence[int], *, slope: float, last: type[nn.Linear] = nn.Linear
) -> nn.Sequential:
    """Chain linear layers, with a LeakyReLU between each two."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers, last(widths[-2], widths[-1]))
