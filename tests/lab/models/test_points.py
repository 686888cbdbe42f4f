"""Convolutions to and from a point against torch's own, in float64."""

import pytest
import torch
from torch import nn

from stelab.lab.models.points import FromPoint, ToPoint


@pytest.mark.parametrize("size", [(3, 3), (1, 1), (4, 2)])
@pytest.mark.parametrize(("ours", "plain"), [(ToPoint, nn.Conv2d), (FromPoint, nn.ConvTranspose2d)])
def test_values_and_gradients_are_those_of_the_convolution(
    ours: type[nn.Module], plain: type[nn.Module], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    expected = plain(5, 7, size).double()
    layer = ours(5, 7, size).double()
    layer.load_state_dict(expected.state_dict())
    x = torch.randn(6, 5, *(size if ours is ToPoint else (1, 1)), dtype=torch.float64)
    x.requires_grad_()
    y, target = layer(x), expected(x)
    assert y.shape == target.shape
    assert torch.allclose(y, target, rtol=0, atol=1e-12)
    g = torch.randn_like(target)
    gradients = torch.autograd.grad(y, [x, *layer.parameters()], g)
    for grad, known in zip(
        gradients, torch.autograd.grad(target, [x, *expected.parameters()], g), strict=True
    ):
        assert torch.allclose(grad, known, rtol=0, atol=1e-12)


def test_both_begin_as_torch_initializes_them() -> None:
    for ours, plain in ((ToPoint, nn.Conv2d), (FromPoint, nn.ConvTranspose2d)):
        layers = []
        for kind in (ours, plain):
            torch.manual_seed(3)
            layers.append(kind(4, 6, (3, 3)).state_dict())
        assert all(torch.equal(layers[0][name], layers[1][name]) for name in layers[1])


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        ToPoint(2, 4, (3, 3))(torch.zeros(1, 2, 4, 4))
