"""The losses of all phases and their gradients are the same on every device."""

import pytest
import torch

from cola_env.models.world_model import ColaWorldModel
from cola_train.phases import ForwardDynamics, Phase, Step
from tests.train.small import SMALL, moving_square, phases

FDM = {"fdm_config": {"hidden_size": 32, "depth": 1, "num_heads": 2}}


def every_phase() -> list[Phase]:
    two_stage = ForwardDynamics(
        "latent_action_model", 3, ["idm", "quantizer", "fdm"], batch_size=4, clip=4
    )
    return [*phases(), two_stage]


def learned(phase: Phase, device: torch.device) -> dict[str, torch.Tensor]:
    """The loss of a late step, and the gradient of all weights that learn."""
    torch.manual_seed(0)
    model = ColaWorldModel(**SMALL, **FDM)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    model.to(device).requires_grad_(False)
    for component in phase.components(model).values():
        component.requires_grad_(True)
    clips = moving_square(6).encode(model)
    prepared, generator = phase.prepare(clips), torch.Generator().manual_seed(0)
    batch = phase.draw(clips, generator, phase.batch_size).to(device)
    if phase.on_latents:
        batch = batch.encoded(model)
    loss = phase.loss(model, batch, Step(phase.steps - 1, generator, prepared)).value
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {name: x.detach().cpu() for name, x in {"loss": loss, **gradients}.items()}


@pytest.mark.usefixtures("full_precision")
@pytest.mark.parametrize("number", range(len(every_phase())), ids=lambda i: every_phase()[i].name)
def test_a_phase_learns_the_same(number: int, device: torch.device) -> None:
    phase = every_phase()[number]
    expected, found = (learned(phase, where) for where in (torch.device("cpu"), device))
    assert found.keys() == expected.keys() and len(found) > 1
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)
