"""The training phases of the recipes: what each learns and by which loss.

`phase` has what they share: the settings, what a loss is given (a model, a batch and a `Step`) and
what it returns, and `noise_levels` those that clips are trained at. Every other file is one kind of
phase, which `conf/phases` names.

May import: cola_env and, of cola_train, `data` and `evaluation`.
"""

from cola_train.phases.adaptation import Adaptation
from cola_train.phases.distillation import Distillation
from cola_train.phases.flow_matching import FlowMatching
from cola_train.phases.forward_dynamics import ForwardDynamics
from cola_train.phases.phase import Phase, Step
from cola_train.phases.reconstruction import Reconstruction

__all__ = [
    "Adaptation",
    "Distillation",
    "FlowMatching",
    "ForwardDynamics",
    "Phase",
    "Reconstruction",
    "Step",
]
