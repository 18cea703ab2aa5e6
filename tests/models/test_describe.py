"""What `cola_train.describe` counts, against formulas."""

import pytest
import torch
from torch import nn

from cola_env.models.sizes import MODEL_SIZES, PAPER
from cola_train.describe import cost, describe, table


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(x).square())


def test_the_counts_of_a_stack_are_those_of_its_formula() -> None:
    stack, x = nn.Sequential(Block(), Block(), Block()), torch.randn(5, 8)
    found = cost(stack, lambda: stack(x), ["Block"])
    assert found.parameters == 3 * (8 * 32 + 32 + 32 * 8 + 8)
    assert found.flops == 3 * 2 * 5 * (8 * 32 + 32 * 8)
    inside = 4 * 5 * (8 + 32 + 32)  # the block's input, what is squared, and the square
    assert found.activations == 3 * inside
    assert found.recomputed == 3 * 4 * 5 * 8 + inside
    assert cost(stack, None, ["Block"]).flops == 0


def test_the_papers_network_computes_what_its_size_says() -> None:
    settings = PAPER | {"stdit_config": PAPER["stdit_config"] | {"depth": 2}}
    settings["idm_config"] = PAPER["idm_config"] | {"depth": 1}
    batch, frames, tokens, dim = 2, 4, 256, 1152
    costs = describe(settings, batch, frames)
    block = 12 * dim**2  # qkv, proj and an MLP of ratio 4
    rows = batch * frames * tokens
    attention = 2 * 2 * dim * (tokens + frames) * rows
    linear = 2 * rows * (2 * 2 * block + 16 * dim + 32 * dim)
    levels = 2 * (batch * frames + 1) * (256 * dim + dim**2) + 2 * batch * frames * 6 * dim**2
    assert costs["stdit"].flops == pytest.approx(linear + 2 * attention + levels, rel=0.01)
    assert costs["stdit"].activations > 2 * costs["stdit"].recomputed > 0
    assert costs["vae"].activations == 0


def test_the_last_row_of_the_table_adds_up_the_others() -> None:
    costs = describe(MODEL_SIZES["mini"], 2, 3)
    name, parameters, *_ = table(costs, 2, 3).splitlines()[-1].split()
    assert name == "all"
    assert int(parameters.replace(",", "")) == sum(c.parameters for c in costs.values())
