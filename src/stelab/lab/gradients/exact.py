"""The exact gradient of an expected loss, by enumeration of all codes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stelab.engine.errors import InputError
from stelab.estimators.enumeration import all_codes
from stelab.lab.gradients.problems import Problem

Probability = Callable[[Tensor], Tensor]
"""P(b = 1) given the logits, elementwise."""


class Enumeration:
    r"""All codes of a problem with their losses, evaluated once.

    .. math:: L(s) = \sum_b q_s(b)\,f(b), \qquad
       q_s(b) = \prod_i p(s_i)^{b_i} (1 - p(s_i))^{1 - b_i}

    Args:
        problem: The loss and the logits.

    Attributes:
        codes: ``(2**bits, bits)``.
        losses: ``(2**bits, examples)``.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        examples, bits = problem.logits.shape
        self.codes = all_codes(bits, like=problem.logits)
        with torch.no_grad():
            parts = [
                problem(codes.repeat_interleave(examples, dim=0)).reshape(-1, examples)
                for codes in self.codes.split(problem.codes_at_once())
            ]
        self.losses = torch.cat(parts)

    def weights(self, p: Tensor, codes: Tensor) -> Tensor:
        """Compute q(b) for every code and example, ``(codes, examples)``."""
        return torch.where(codes[:, None, :] > 0, p, 1 - p).prod(-1)

    def gradient(self, probability: Probability) -> Tensor:
        r"""Compute :math:`\partial L/\partial s` of every example, in the shape of the logits."""
        s = self.problem.logits.detach().clone().requires_grad_()
        size = self.problem.codes_at_once()
        for codes, losses in zip(self.codes.split(size), self.losses.split(size), strict=True):
            p = probability(s)
            (self.weights(p, codes) * losses).sum().backward()
        assert s.grad is not None
        if not s.grad.abs().sum() > 0:
            raise InputError(
                "the exact gradient is 0 (or not a number), so nothing can be compared with it: "
                "every logit is out of the noise's reach, or the loss does not depend on the bits; "
                "change problem.spread or seed"
            )
        return s.grad
