"""A decision's timeline: where the seconds of a planned step go, and how busy the GPU is."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_checks.mini import frames
from benchmarks.gpu_checks.sizes import Sizes, mini_model
from benchmarks.harness import timed
from benchmarks.model_steps import Budget
from benchmarks.vp2_protocol.agents import PlanningAgent
from benchmarks.vp2_protocol.decisions import PlanningProblem
from benchmarks.vp2_protocol.dynamics import WorldModelDynamics
from benchmarks.vp2_protocol.records import Rules
from cola_env.files import write_atomically
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.rewards import Reward, make_reward
from planners import CEM, AR1Noise

TASK = "push_red"
SHOWN = 12
"""Kernels, those that take longest."""


def decisions(sizes: Sizes, device: torch.device, budget: Budget, trace: Path) -> dict[str, Any]:
    """Seconds of a decision of the demo's planner by what they are spent on, for some problems at
    once; of the last the profile, and its ``trace`` for chrome://tracing."""
    model = mini_model(sizes, device)
    name = "mse" if sizes.mini is not None else "vp2"
    reward = make_reward(name, TASK)
    rows = []
    for count in sizes.problems:
        agent, problem = planning(model, reward, name, sizes, count)
        agent.decide(problem)
        seconds = timed(partial(agent.decide, problem), device)
        spent = dict(agent.decide(problem).spent)
        rows.append({"problems": count, "seconds": seconds, "spent": spent})
        if not budget.allows(20 * seconds):
            break
    return {"decisions": rows, **profiled(agent, problem, device, trace)}


def planning(
    model: ColaWorldModel, reward: Reward, name: str, sizes: Sizes, count: int
) -> tuple[PlanningAgent, PlanningProblem]:
    """The demo's agent at the beginning of ``count`` episodes, and what it is to decide."""
    dims = int(model.config.action_dim)
    samples = 64 if sizes.mini is None else max(sizes.candidates)
    planner = CEM(horizon=6, num_samples=samples, iterations=2, noise=AR1Noise(0.8), std=1.0)
    rules = Rules(name, episodes=count, seed=0)
    space = Box(-1, 1, (dims,), np.float32)
    dynamics = WorldModelDynamics(model)
    agent = PlanningAgent(planner, [dynamics], reward, space, rules, sequences=count * samples)
    agent.reset(batch=count)
    pictures = frames(model, count, 3)
    problem = PlanningProblem(
        TASK,
        pictures[:, :2],
        torch.zeros(count, 1, dims),
        np.zeros((count, 1)),
        pictures[:, 2].float() / 255,
        seed=0,
    )
    return agent, problem


def profiled(
    agent: PlanningAgent, problem: PlanningProblem, device: torch.device, trace: Path
) -> dict[str, Any]:
    """The longest kernels of a decision, and the share of its time in which the GPU computes."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as found:
        seconds = timed(partial(agent.decide, problem), device)
    with NamedTemporaryFile(suffix=".json") as whole:
        found.export_chrome_trace(whole.name)
        packed = gzip.compress(Path(whole.name).read_bytes())
    write_atomically(trace, lambda file: file.write_bytes(packed))

    def microseconds(event: Any) -> float:
        return float(event.self_device_time_total if on_gpu else event.self_cpu_time_total)

    kind = "CUDA" if on_gpu else "CPU"
    events = [event for event in found.key_averages() if event.device_type.name == kind]
    events.sort(key=microseconds, reverse=True)
    longest = [
        {"name": event.key[:120], "calls": event.count, "ms": microseconds(event) / 1e3}
        for event in events[:SHOWN]
    ]
    busy = sum(map(microseconds, events)) / 1e6
    return {"profiled_seconds": seconds, "busy_share": busy / seconds, "longest": longest}
