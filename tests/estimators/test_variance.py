"""Parameters outside the model: invisible to its loss, trained by their own objective."""

from __future__ import annotations

import torch
from oracles import BITS, normal

from stelab.estimators.variance import (
    VarianceNet,
    leave_gradient,
    stand_in,
    variance_parameter,
)


def test_a_variance_parameter_takes_no_gradient() -> None:
    parameter = variance_parameter(3)
    assert parameter.item() == 3
    assert parameter.dtype == torch.float32
    assert not parameter.requires_grad
    assert not (parameter * torch.ones(2)).requires_grad


def test_an_objective_is_differentiated_at_a_stand_in() -> None:
    parameter = variance_parameter(3)
    double = stand_in(parameter)
    assert double.requires_grad
    assert double == parameter
    objective = (double.to(torch.float64) ** 2).sum()
    leave_gradient(objective, [parameter], [double])
    assert parameter.grad is not None
    assert parameter.grad.item() == 6
    assert parameter.grad.dtype == parameter.dtype
    leave_gradient((5 * double).sum(), [parameter], [double])
    assert parameter.grad.item() == 5  # replaced, not added to


def test_the_net_is_a_tanh_network_of_any_code_shape() -> None:
    net, code = VarianceNet(bits=6, hidden=4), normal(7, 2, 3, seed=0).float()
    a, b, c, d = net.parameters()
    expected = torch.tanh(code.reshape(7, 6) @ a.T + b) @ c[0] + d
    assert torch.allclose(net(code), expected, rtol=0, atol=1e-6)
    assert net(code).shape == (7,)
    assert net(code.double()).dtype == torch.float64
    assert not net(code).requires_grad


def test_the_net_at_stand_ins() -> None:
    net, code = VarianceNet(bits=BITS, hidden=4), normal(7, BITS, seed=1)
    stand_ins = net.stand_ins()
    assert torch.equal(net(code, stand_ins), net(code))
    net.leave(net(code, stand_ins).square().sum(), stand_ins)
    left = [p.grad for p in net.parameters()]
    net.requires_grad_(True)
    expected = torch.autograd.grad(net(code).square().sum(), [*net.parameters()])
    for grad, other in zip(left, expected, strict=True):
        assert grad is not None
        assert torch.equal(grad, other)
