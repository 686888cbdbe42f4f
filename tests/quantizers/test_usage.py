"""How much of a codebook is used: exact numbers, and real digits."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from stelab import Binarizer
from stelab.estimators import Identity
from stelab.quantizers import LookupFreeQuantizer
from stelab.quantizers.usage import bit_entropy, distinct, entropy, perplexity, usage
from stelab.thresholds import FixedThreshold


def test_of_indices() -> None:
    indices = torch.tensor([[0, 0, 3], [3, 5, 7], [0, 0, 7]])  # 0 four times, 3 and 7 twice
    expected = 4 / 9 * math.log2(9 / 4) + 2 * 2 / 9 * math.log2(9 / 2) + 1 / 9 * math.log2(9)
    assert usage(indices, 8) == 0.5
    assert entropy(indices) == pytest.approx(expected, abs=1e-14)
    assert perplexity(indices) == pytest.approx(2**expected, abs=1e-13)


def test_a_codebook_used_evenly_has_its_size_as_perplexity() -> None:
    indices = torch.arange(1024).repeat(3)
    assert usage(indices, 1024) == 1
    assert entropy(indices) == pytest.approx(10, abs=1e-12)
    assert perplexity(indices) == pytest.approx(1024, abs=1e-9)


def test_a_collapsed_codebook_is_one_code() -> None:
    indices = torch.full((100,), 2**62)
    assert usage(indices, 2**63) == 2**-63
    assert entropy(indices) == 0
    assert perplexity(indices) == 1


def test_long_codes() -> None:
    """Bits 1 half of the time, three quarters of the time, always, and never."""
    bits = torch.tensor([[0, 0, 1, 0], [1, 1, 1, 0], [0, 1, 1, 0], [1, 1, 1, 0]]).float()
    expected = 1 + 0.25 * math.log2(4) + 0.75 * math.log2(4 / 3)
    for codes in (bits, 2 * bits - 1, bits.T.reshape(1, 4, 2, 2), bits.half()):
        assert distinct(codes) == 3
        assert bit_entropy(codes) == pytest.approx(expected, abs=1e-14)


def test_the_sum_over_bits_bounds_the_entropy() -> None:
    bits = torch.randint(2, (400, 3))
    dependent = torch.cat([bits, bits[:, :1] ^ bits[:, 1:2]], dim=1)
    indices = (dependent * torch.tensor([8, 4, 2, 1])).sum(1)
    assert entropy(indices) <= 3 < bit_entropy(dependent) <= 4
    assert distinct(dependent) == 8
    assert distinct(torch.randint(2, (50, 512))) == 50


def test_nothing_has_no_entropy() -> None:
    nothing = torch.zeros(0, 4, dtype=torch.long)
    assert usage(nothing, 16) == 0
    assert distinct(nothing) == 0
    for measure in (entropy, perplexity, bit_entropy):
        with pytest.raises(ValueError, match=r"got none: a tensor of shape \(0, 4\)"):
            measure(nothing)


def digits_as_patches(mnist_root: Path) -> torch.Tensor:
    """Return 200 real digits in patches of 2 x 2 pixels, from -1 to 1, ``(200, 4, 14, 14)``."""
    raw = (mnist_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()
    pixels = torch.tensor(list(raw[16 : 16 + 200 * 784]), dtype=torch.float32)
    return torch.nn.functional.pixel_unshuffle(pixels.reshape(200, 1, 28, 28) / 127.5 - 1, 2)


def test_codes_of_real_digits(mnist_root: Path) -> None:
    quantizer = LookupFreeQuantizer(
        binarizer=Binarizer(threshold=FixedThreshold(value=0.0), estimator=Identity()),
        channels=4,
        scale=1.0,
        temperature=1.0,
        entropy_weight=1.0,
        diversity=1.0,
        commitment_weight=0.0,
        group_size=4,
    )
    patches = digits_as_patches(mnist_root)
    codes = quantizer(patches)
    words = codes.movedim(1, -1).flatten(0, -2).tolist()
    shares = [n / len(words) for n in Counter(map(tuple, words)).values()]
    expected = -sum(p * math.log2(p) for p in shares)
    indices = quantizer.indices(codes)
    assert indices.shape == (200, 14, 14)
    assert entropy(indices) == pytest.approx(expected, abs=1e-12)
    assert perplexity(indices) == pytest.approx(2**expected, abs=1e-10)
    assert usage(indices, 16) == len(shares) / 16
    assert distinct(codes) == len(shares)
    assert expected < bit_entropy(codes)  # neighbouring pixels are alike
