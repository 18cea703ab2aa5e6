"""Scripted demonstrations for LIBERO: they read the true poses and move the hand by OSC actions."""

from cola_train.controllers.libero.controller import Controller, Phase, Script
from cola_train.controllers.libero.play import Play
from cola_train.controllers.libero.scene import Scene
from cola_train.controllers.libero.tasks import SCRIPTED_TASKS, make_controller

__all__ = ["SCRIPTED_TASKS", "Controller", "Phase", "Play", "Scene", "Script", "make_controller"]
