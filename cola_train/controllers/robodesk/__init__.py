"""Scripted policies for RoboDesk."""

from cola_train.controllers.robodesk.controller import Controller, Phase
from cola_train.controllers.robodesk.play import Play
from cola_train.controllers.robodesk.scene import Scene
from cola_train.controllers.robodesk.tasks import SCRIPTED_TASKS, make_controller

__all__ = ["SCRIPTED_TASKS", "Controller", "Phase", "Play", "Scene", "make_controller"]
