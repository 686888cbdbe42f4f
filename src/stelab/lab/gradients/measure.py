r"""Bias, variance and direction of an estimator, against the exact gradient.

With :math:`\hat g` one estimate, all examples and bits in one vector, and :math:`g` the exact
gradient, everything is relative to :math:`\|g\|`:

- bias :math:`\|\mathbb{E}\hat g - g\|/\|g\|`, variance
  :math:`\mathbb{E}\|\hat g - \mathbb{E}\hat g\|^2/\|g\|^2`, MSE: squared bias + variance;
- SNR :math:`\|\mathbb{E}\hat g\|/\sqrt{\mathbb{E}\|\hat g - \mathbb{E}\hat g\|^2}`;
- cosine between g and the mean, and the mean cosine between one example's estimate and gradient;
- scaled bias and variance: after multiplying the estimate with
  :math:`\|g\|/\|\mathbb{E}\hat g\|`, because a factor is a learning rate, not an error.

Where an estimate depends on nothing but its bits, mean and variance come from enumerating them,
without sampling. Otherwise they come from samples; the squared bias then has the variance of the
mean subtracted, which would be counted as bias, and an interval of 95 %.
"""

import copy
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity

from stelab.estimators import Estimator, MultiEvaluation
from stelab.lab.gradients.problems import Enumeration, Probability

TIMED = 256


@dataclass(frozen=True)
class Measurement:
    """What an estimator's estimates look like beside one exact gradient; see the module."""

    samples: int  # estimates behind the numbers; 0 where they are exact
    bias: float  # relative; the squared bias is clamped at 0 where sampling error exceeds it
    bias_low: float  # end of the bias's interval of 95 %; the bias where it is exact
    bias_high: float
    variance: float  # relative, total
    mse: float  # mean squared error, bias² + variance
    snr: float  # signal to noise, infinite without variance
    cosine: float  # of the mean
    sample_cosine: float  # mean of one estimate of one example; one of length 0 counts as 0
    scaled_bias: float  # after scaling, clamped as the bias is; not a number where the mean is 0
    scaled_variance: float
    evaluations: int  # of the loss, for one estimate
    microseconds: float  # of one estimate, in batches of at least 256 where it is cheap
    mean: Tensor  # mean estimate, in the shape of the logits
    variances: Tensor  # of every entry
    exact: Tensor  # the exact gradient


def references(estimator: Estimator) -> dict[str, Probability]:
    """Return the smoothed problems to measure against: logistic noise, and the estimator's own."""
    laws: dict[str, Probability] = {"logistic": torch.sigmoid}
    if type(estimator).probability is not Estimator.probability:
        laws["own"] = estimator.probability
    return laws


def adapt(
    estimator: Estimator, enumeration: Enumeration, *, steps: int, generator: Generator
) -> None:
    """Let a multi-evaluation estimator learn what lowers its variance, 100 estimates a step."""
    if not isinstance(estimator, MultiEvaluation) or not estimator.state_dict():
        return
    optimizer = estimator.variance_optimizer()
    for _ in range(steps):
        estimates(estimator, enumeration, 100, generator)
        if optimizer is not None:
            optimizer.step()


def measure(
    estimator: Estimator,
    enumeration: Enumeration,
    exact: dict[str, Tensor],
    *,
    samples: int,
    generator: Generator,
) -> dict[str, Measurement]:
    """Measure an estimator once against several exact gradients.

    Args:
        estimator: In training mode; it is not changed.
        enumeration: The problem.
        exact: Exact gradients by name, see `Enumeration.gradient`.
        samples: Estimates where sampling is needed.
        generator: Source of randomness.
    """
    estimator = copy.deepcopy(estimator)
    start, drawn_samples = time.perf_counter(), 0
    if estimator.randomness == "none":
        drawn = estimates(estimator, enumeration, 1, generator)
        weights = drawn.new_ones(1, drawn.shape[1])
    elif estimator.randomness == "bits" and not isinstance(estimator, MultiEvaluation):
        drawn = estimates_of_codes(estimator, enumeration)
        p = estimator.probability(enumeration.problem.logits).detach()
        weights = enumeration.weights(p, enumeration.codes)
    else:
        drawn = estimates(estimator, enumeration, samples, generator)
        weights, drawn_samples = drawn.new_full(drawn.shape[:2], 1 / samples), samples
    count, evaluations = len(drawn), estimator.evaluations(drawn.shape[2])
    if count < TIMED and evaluations < TIMED:  # a few would be the time of a call
        start = time.perf_counter()
        count = len(estimates(estimator, enumeration, TIMED, generator))
    microseconds = (time.perf_counter() - start) / count * 1e6
    cost = {"evaluations": evaluations, "microseconds": microseconds}
    return {name: _compare(drawn, weights, g, drawn_samples, **cost) for name, g in exact.items()}


def estimates(
    estimator: Estimator, enumeration: Enumeration, samples: int, generator: Generator
) -> Tensor:
    """Draw estimates, ``(samples, examples, bits)``."""
    problem = enumeration.problem
    drawn, at_once = [], problem.codes_at_once()
    for first in range(0, samples, at_once):
        s = problem.logits.repeat(min(at_once, samples - first), 1).requires_grad_()
        estimator.loss(s, problem, generator=generator).backward()
        assert s.grad is not None
        drawn.append(s.grad.reshape(-1, *problem.logits.shape) * len(s))
    return torch.cat(drawn)


def estimates_of_codes(estimator: Estimator, enumeration: Enumeration) -> Tensor:
    """Compute the estimate that every code would give, ``(codes, examples, bits)``."""
    problem = enumeration.problem
    computed = []
    for codes in enumeration.codes.split(problem.codes_at_once()):
        s = problem.logits.repeat(len(codes), 1).requires_grad_()
        rows = codes.repeat_interleave(len(problem.logits), dim=0)
        problem(estimator(s, bits=rows)).sum().backward()
        assert s.grad is not None
        computed.append(s.grad.reshape(-1, *problem.logits.shape))
    return torch.cat(computed)


def _compare(
    drawn: Tensor, weights: Tensor, exact: Tensor, samples: int, **cost: Any
) -> Measurement:
    """Sum up estimates, weighted per example: the bits of different examples are independent."""
    mean = (weights[..., None] * drawn).sum(0)
    variances = (weights[..., None] * (drawn - mean).square()).sum(0)
    if samples > 1:
        variances = variances * samples / (samples - 1)
    norm, size = exact.norm().item(), mean.norm().item()
    deviation, variance = mean - exact, variances.sum().item()
    squared = deviation.square().sum().item()
    factor = norm / size if size > 0 else math.nan
    scaled = (factor * mean - exact).square().sum().item()
    low = high = squared
    if samples:
        squared -= variance / samples
        scaled -= factor**2 * variance / samples
        spread = 1.96 * _error_of_squared_bias(drawn, deviation, mean)
        low, high = squared - spread, squared + spread
    bias, low, high = (math.sqrt(max(x, 0.0)) / norm for x in (squared, low, high))
    cosines = cosine_similarity(drawn, exact[None], dim=2)
    return Measurement(
        samples=samples,
        bias=bias,
        bias_low=low,
        bias_high=high,
        variance=variance / norm**2,
        mse=bias**2 + variance / norm**2,
        snr=size / math.sqrt(variance) if variance > 0 else math.inf,
        cosine=cosine_similarity(mean.flatten(), exact.flatten(), dim=0).item(),
        sample_cosine=(weights * cosines).sum(0).mean().item(),
        scaled_bias=math.sqrt(max(scaled, 0.0)) / norm if size > 0 else math.nan,
        scaled_variance=factor**2 * variance / norm**2,
        mean=mean,
        variances=variances,
        exact=exact,
        **cost,
    )


def _error_of_squared_bias(drawn: Tensor, deviation: Tensor, mean: Tensor) -> float:
    r"""Estimate the standard error of :math:`\|\bar g - g\|^2`, g-bar the mean of n estimates.

    Its variance is :math:`4 d^\top\Sigma d/n + 2\,\mathrm{tr}\,\Sigma^2/n^2`, d the bias.
    """
    n = len(drawn)
    centred = (drawn - mean).flatten(1)
    along = (centred @ deviation.flatten()).square().mean()
    covariance = centred.T @ centred / n
    return (4 * along / n + 2 * covariance.square().sum() / n**2).sqrt().item()
