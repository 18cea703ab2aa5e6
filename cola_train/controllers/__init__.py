"""Scripted policies: they read the true poses and make the training data and goals.

A package a world (``robodesk``, ``libero``), each with its ``Scene``, ``SCRIPTED_TASKS``,
``make_controller`` and ``Play``; what they share is here.
"""

from cola_train.controllers.noise import CorrelatedNoise
from cola_train.controllers.random import SmoothRandom
from cola_train.controllers.workspace import UP, Vector, Workspace

__all__ = ["UP", "CorrelatedNoise", "SmoothRandom", "Vector", "Workspace"]
