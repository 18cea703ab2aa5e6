"""What planner_comparison.py measures: worth of the plans, overhead, memory."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import peak_resident
from benchmarks.measurements.planner_methods import ELITES, ITERATIONS, SAMPLES, ComparedPlanner
from benchmarks.measurements.planner_problems import ACTIONS, HORIZON, Noisy, NoisyAlike, Problems
from planners import CEM, ICEM, MPPI, WhiteNoise
from planners.adapters.foreign import OnDevice, PlanRequest

Calls = dict[str, Callable[[], Any]]

SPACE = SimpleNamespace(low=-np.ones(ACTIONS), high=np.ones(ACTIONS), shape=(ACTIONS,))


def quality(
    methods: list[ComparedPlanner], problems: dict[str, Problems], seeds: int
) -> dict[str, dict[str, list[float | None]]]:
    """kind -> planner -> what its plan is worth in each instance, the mean over the seeds.

    Every planner meets the same instances with the same seeds. None is a plan with NaN in it.
    """
    results: dict[str, dict[str, list[float | None]]] = {}
    for kind, instances in problems.items():
        noisy = isinstance(instances, Noisy)
        results[kind] = {}
        for method in methods:
            if noisy and method.gradients or method.seeded and not noisy:
                continue
            costs = torch.stack([_costs(method, instances, seed) for seed in range(seeds)])
            means = costs.mean(dim=0).tolist()
            results[kind][method.name] = [c if math.isfinite(c) else None for c in means]
    return results


def _costs(method: ComparedPlanner, instances: Problems, seed: int) -> Tensor:
    """(P,): the true costs of the plans, NaN where there is none."""
    torch.manual_seed(seed)  # of the costs' own noise
    if method.batched:
        return _cost_of_plans(method, instances, seed)
    rows = [instances[row : row + 1] for row in range(len(instances))]
    return torch.cat([_cost_of_plans(method, row, seed) for row in rows])


def _cost_of_plans(method: ComparedPlanner, instances: Problems, seed: int) -> Tensor:
    cost: Any = (
        NoisyAlike(instances.parameters)
        if method.seeded
        else OnDevice(instances.cost, instances.device)
    )
    try:
        plan = method.planner.plan(cost, SPACE, seed=seed, batch=len(instances))
    except ValueError as error:
        warnings.warn(f"{method.name}: {error}", stacklevel=1)
        return torch.full((len(instances),), torch.nan)
    return instances.true_cost(plan.actions.unsqueeze(1))[:, 0].cpu()


def overhead(device: str, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """batch -> planner -> {"best", "median"} milliseconds of a plan under a cost that takes none.

    All are called in turn, so that whatever else the machine does hits all alike; on a CPU it is
    the processor time of this process that counts. The rivals are called as their own users do,
    not through our adapters; TorchRL's and pytorch_mppi's planners step through an empty model.
    """
    results = {}
    for batch in (1, 8):
        calls: Calls = {}
        for make in (_ours, _swm, _torchrl, _mppi):
            calls |= _available(make, batch, device)
        times: dict[str, list[float]] = {name: [] for name in calls}
        with contextlib.redirect_stdout(io.StringIO()):  # stable-worldmodel prints
            for name, call in list(calls.items()) * rounds:
                call()  # after the others, the caches hold nothing of it
                times[name] += [_timed(call, device) for _ in range(3)]
        results[str(batch)] = {
            name: {"best": min(values), "median": statistics.median(values)}
            for name, values in times.items()
        }
    return results


def _available(make: Callable[[int, str], Calls], batch: int, device: str) -> Calls:
    try:
        return make(batch, device)
    except Exception:  # not installed, or a torchvision that does not fit: the run has said so
        return {}


def _timed(call: Callable[[], Any], device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return (clock() - start) * 1e3


def _costs_of_nothing(batch: int, device: str) -> Tensor:
    """(B, N)"""
    return torch.rand(batch, SAMPLES, generator=torch.Generator().manual_seed(0)).to(device)


def _ours(batch: int, device: str) -> Calls:
    known = _costs_of_nothing(batch, device)

    cost = OnDevice(lambda actions: known[:, : actions.shape[1]], torch.device(device))
    budget: dict[str, Any] = {
        "horizon": HORIZON,
        "num_samples": SAMPLES,
        "iterations": ITERATIONS,
    }
    planners = {
        "CEM": CEM(**budget),
        "CEM white noise": CEM(noise=WhiteNoise(), **budget),
        "ICEM": ICEM(**budget),
        "MPPI": MPPI(**budget),
    }
    return {
        name: partial(planner.plan, cost, SPACE, batch=batch) for name, planner in planners.items()
    }


def _swm(batch: int, device: str) -> Calls:
    solvers = importlib.import_module("stable_worldmodel.solver")
    policy = importlib.import_module("stable_worldmodel.policy")
    spaces = importlib.import_module("gymnasium.spaces")
    known = _costs_of_nothing(batch, device)
    model = SimpleNamespace(get_cost=lambda info, actions: known[: len(actions)])
    calls: Calls = {}
    for name in ("CEM", "ICEM", "MPPI"):
        for at_once in {1, batch}:
            solver = getattr(solvers, f"{name}Solver")(
                model,
                batch_size=at_once,
                num_samples=SAMPLES,
                n_steps=ITERATIONS,
                topk=ELITES,
                device=device,
            )
            solver.configure(
                action_space=spaces.Box(-1, 1, (batch, ACTIONS)),
                n_envs=batch,
                config=policy.PlanConfig(horizon=HORIZON, receding_horizon=1),
            )
            info = {"state": torch.zeros(batch, 1)}
            setting = f", {at_once} at once" if batch > 1 else ""
            calls[f"swm {name}{setting}"] = partial(solver.solve, info)
    return calls


def _torchrl(batch: int, device: str) -> Calls:
    modules = importlib.import_module("torchrl.modules")
    tensordict = importlib.import_module("tensordict")
    adapter = importlib.import_module("planners.adapters.torchrl")
    known = _costs_of_nothing(batch, device)
    request = PlanRequest(
        OnDevice(lambda actions: known, torch.device(device)), SPACE, 1, None, 0, batch
    )
    planner = modules.CEMPlanner(
        adapter.CostEnv(request),
        planning_horizon=HORIZON,
        optim_steps=ITERATIONS,
        num_candidates=SAMPLES,
        top_k=ELITES,
    )
    state = tensordict.TensorDict({"problem": torch.zeros(batch, 1)}, [batch], device=device)
    return {"TorchRL CEM": partial(planner.planning, state)}


def _mppi(batch: int, device: str) -> Calls:
    if batch > 1:
        return {}
    library = importlib.import_module("pytorch_mppi")
    known = _costs_of_nothing(1, device)[0]
    state = torch.zeros(1, device=device)
    calls: Calls = {}
    for name in ("MPPI", "KMPPI"):
        controller = getattr(library, name)(
            lambda state, action: state,
            lambda state, action: known,
            nx=1,
            noise_sigma=torch.eye(ACTIONS, device=device) / 4,
            num_samples=SAMPLES,
            horizon=HORIZON,
            u_min=-torch.ones(ACTIONS),
            u_max=torch.ones(ACTIONS),
            device=device,
        )

        calls[f"pytorch_mppi {name}"] = partial(_commanded, controller, state)
    return calls


def _commanded(controller: Any, state: Tensor) -> None:
    for _ in range(ITERATIONS):
        controller.command(state, shift_nominal_trajectory=False)


def memory() -> dict[str, Any]:
    """The peak memory of a plan under a cost of 16 MB a candidate, without limits and with a budget
    of 1 GB, each in a process of its own."""
    results: dict[str, Any] = {}
    plans = []
    for name, settings in {"unlimited": {}, "max_memory_gb=1": {"max_memory_gb": 1.0}}.items():
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            results[name] = process.submit(_memory_of_a_plan, settings).result()
        plans.append(torch.tensor(results[name].pop("actions")))
    results["largest difference of the plans"] = float((plans[0] - plans[1]).abs().max())
    return results


def _memory_of_a_plan(settings: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    held = peak_resident()
    plan = CEM(horizon=HORIZON, num_samples=SAMPLES, iterations=1, **settings).plan(
        _sixteen_megabytes, SPACE
    )
    return {
        "gb": (peak_resident() - held) / 1e9,
        "seconds": plan.cost_seconds,
        "chunk": plan.chunk_size,
        "actions": plan.actions.flatten().tolist(),
    }


def _sixteen_megabytes(actions: Tensor) -> Tensor:
    """A cost (B, N) that takes them for each candidate."""
    _, _, horizon, dims = actions.shape
    copies = 4_000_000 // (horizon * dims)
    work = actions.flatten(2)[:, :, None].expand(-1, -1, copies, -1).contiguous()
    return work[:, :, 0].square().sum(-1)
