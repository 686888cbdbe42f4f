r"""Lookup-free quantization: the sign of every channel, so that codewords need no table.

References:
    [Yu2023] Yu, Lezama, Gundavarapu, Versari, Sohn, Minnen, Cheng, Birodkar, Gupta, Gu,
    Hauptmann, Gong, Yang, Essa, Ross, Jiang (2023), "Language Model Beats Diffusion: Tokenizer is
    Key to Visual Generation", arXiv:2310.05737.
    [Zhao2024] Zhao, Xiong, Krähenbühl (2024), "Image and Video Tokenization with Binary Spherical
    Quantization", arXiv:2406.07548.
"""

from torch import Tensor

from stelab.arguments import Count, FewBits, NonNegative, Positive, checked
from stelab.binarizer import Binarizer
from stelab.estimators.backward import known, wide
from stelab.estimators.base import step
from stelab.quantizers.base import Quantizer
from stelab.quantizers.entropy import codebook_entropy, sample_entropy


class LookupFreeQuantizer(Quantizer):
    r"""Lookup-free quantization (LFQ): a bit a channel, codewords :math:`\{-v, v\}^d`.

    Forward: :math:`x = z/(2v)`, :math:`\mathrm{code} = v\,(2b - 1)`. Backward: the estimator's
    rule; `Identity` gives the gradient of the code to z. [Yu2023]

    `penalty` is

    .. math:: w_e\,\bigl(\mathbb{E}\,H(q(c|z)) - \gamma\,H(\mathbb{E}\,q(c|z))\bigr)
       + w_c\,\mathbb{E}\,(z - \hat z)^2, \qquad q(c|z) \propto \exp(-\|z - c\|^2/\tau),

    with entropies H in nats, the means over all positions of the batch (of a process, under DDP),
    for the last term over channels too, and :math:`\hat z` the codeword nearest to z, without a
    gradient. Estimator and threshold have no part in it.

    q is a product over channels, :math:`q_i = \sigma(4vz_i/\tau)`. So the first entropy is exact,
    :math:`\sum_i H(q_i)`, for any d. The second sums over all codewords of a group of channels,
    and adds up groups as if they were independent, which is an upper bound [Zhao2024]: exact
    where ``group_size >= d``, a channel at a time at 1.

    Args:
        binarizer: Threshold and estimator of each decision.
        channels: d.
        scale: v, above 0.
        temperature: :math:`\tau`, above 0.
        entropy_weight: :math:`w_e`, not below 0.
        diversity: :math:`\gamma`, not below 0.
        commitment_weight: :math:`w_c`, not below 0.
        group_size: Channels whose codewords are enumerated together, at most 16; memory for
            2**group_size numbers a position. Where it does not divide d, the last group is smaller.

    Example:
        >>> import torch
        >>> from stelab import Binarizer
        >>> from stelab.estimators import Identity
        >>> from stelab.thresholds import FixedThreshold
        >>> quantizer = LookupFreeQuantizer(
        ...     binarizer=Binarizer(threshold=FixedThreshold(value=0.0), estimator=Identity()),
        ...     channels=3, scale=1.0, temperature=0.01, entropy_weight=0.1, diversity=1.0,
        ...     commitment_weight=0.25, group_size=3,
        ... )
        >>> codes = quantizer(torch.tensor([[0.2, -3.0, 0.1]]))
        >>> codes.tolist(), quantizer.indices(codes).tolist()
        ([[1.0, -1.0, 1.0]], [5])
    """

    @checked
    def __init__(
        self,
        *,
        binarizer: Binarizer,
        channels: Count,
        scale: Positive,
        temperature: Positive,
        entropy_weight: NonNegative,
        diversity: NonNegative,
        commitment_weight: NonNegative,
        group_size: FewBits,
    ):
        super().__init__(binarizer=binarizer, levels=[2] * channels)
        self.channels = channels
        self.scale = scale
        self.temperature = temperature
        self.entropy_weight = entropy_weight
        self.diversity = diversity
        self.commitment_weight = commitment_weight
        self.group_size = group_size

    def position(self, z: Tensor) -> Tensor:
        """See `Quantizer.position`."""
        return wide(z) / (2 * self.scale)

    def codewords(self, digits: Tensor) -> Tensor:
        """See `Quantizer.codewords`."""
        return self.scale * (2 * digits - 1)

    def digits(self, codes: Tensor) -> Tensor:
        """See `Quantizer.digits`: the bits."""
        return (codes > 0).long()

    def penalty(self, z: Tensor) -> Tensor:
        """Compute the entropy and commitment terms, a scalar; see the class."""
        of_a_sample, of_the_codebook = self.entropies(z)
        entropy = of_a_sample - self.diversity * of_the_codebook
        return self.entropy_weight * entropy + self.commitment_weight * self.commitment(z)

    def entropies(self, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Compute :math:`\mathbb{E}\,H(q)` and :math:`H(\mathbb{E}\,q)` in nats, two scalars."""
        self._require_channels(z)
        logits = known(8 * self.scale**2 / self.temperature * self.position(z))
        logits = logits.movedim(1, -1).flatten(0, -2)
        return sample_entropy(logits), codebook_entropy(logits, self.group_size)

    def commitment(self, z: Tensor) -> Tensor:
        r"""Compute the mean of :math:`(z - \hat z)^2` over batch, channels and positions."""
        self._require_channels(z)
        x = self.position(z)
        return (2 * self.scale * (x + 0.5 - step(x.detach()))).square().mean()
