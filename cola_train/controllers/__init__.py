"""Scripted policies for RoboDesk: they read the true poses and make the training data and goals."""

from cola_train.controllers.controller import Controller, Phase
from cola_train.controllers.noise import CorrelatedNoise
from cola_train.controllers.play import Play
from cola_train.controllers.random import SmoothRandom
from cola_train.controllers.scene import Scene
from cola_train.controllers.tasks import SCRIPTED_TASKS, make_controller

__all__ = [
    "SCRIPTED_TASKS",
    "Controller",
    "CorrelatedNoise",
    "Phase",
    "Play",
    "Scene",
    "SmoothRandom",
    "make_controller",
]
