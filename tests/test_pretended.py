"""The pretended device computes what the CPU does and refuses what a GPU refuses."""

from collections.abc import Iterator

import pytest
import torch

from tests.pretended import pretended_device


@pytest.fixture
def there() -> Iterator[torch.device]:
    with pretended_device() as device:
        yield device


def test_numbers_come_back_as_they_went(there: torch.device) -> None:
    x = torch.arange(6.0).view(2, 3)
    y = (x.to(there) * 2 + 1)[:, 1:]
    assert y.device == there and torch.equal(y.cpu(), (x * 2 + 1)[:, 1:])
    y[0] = 7
    assert y.tolist() == [[7, 7], [9, 11]] and float(y.sum()) == 34
    assert torch.zeros(2, device=y.device).device == there
    assert torch.tensor([3], device=there).tolist() == [3]
    assert y.new_tensor([1, 2]).tolist() == [1, 2]
    assert y[torch.tensor([True, False], device=there)].tolist() == [[7, 7]]
    generator = torch.Generator(there).manual_seed(0)
    drawn = torch.randn(4, generator=generator, device=there)
    assert torch.equal(drawn.cpu(), torch.randn(4, generator=torch.Generator().manual_seed(0)))


def test_tensors_of_two_devices_do_not_meet(there: torch.device) -> None:
    here, far = torch.ones(2, 2), torch.ones(2, 2, device=there)
    for mixed in (
        lambda: here + far,
        lambda: far @ here,
        lambda: torch.cat([here, far]),
        lambda: torch.where(far > 0, here, far),
        lambda: here[torch.tensor([0], device=there)],
        lambda: torch.nn.Linear(2, 2)(far),
    ):
        with pytest.raises(RuntimeError, match="on the same device"):
            mixed()
    with pytest.raises(TypeError):
        far.numpy()
    assert (far + torch.tensor(1.0)).tolist() == [[2, 2], [2, 2]], "a number may come from here"
    assert far[torch.tensor([0])].tolist() == [[1, 1]], "and an index"
    assert here.copy_(far).device.type == "cpu"


def test_gradients_reach_weights_there(there: torch.device) -> None:
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(3, 2), torch.ones(4, 3)
    layer(x).square().sum().backward()
    expected = layer.weight.grad
    assert expected is not None
    layer.zero_grad()
    layer.to(there)(x.to(there)).square().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.device == there
    torch.testing.assert_close(layer.weight.grad.cpu(), expected)
