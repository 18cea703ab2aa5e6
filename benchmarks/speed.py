"""How long things take here: `cola speed [checkpoint=cola] [out=FILE.json]`.

One process, one torch thread on a CPU. Every figure is the median of repeated runs after a warm-up;
the ratios at the end compare figures of the same run.
"""

from typing import Any

import gymnasium as gym
import torch
from omegaconf import DictConfig

import cola_env  # noqa: F401
from benchmarks.harness import command_line, machine, median_seconds, report
from cola_env.models.loading import load_model, pick_device
from cola_env.simulators.robodesk.env import RoboDeskEnv
from cola_train.command import command
from planners import CEM, AR1Noise

TASK = "push_red"


def dream_steps(checkpoint: str, device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds of one step of one dream, and of one batched step of 16."""
    single = gym.make("ColaWorld-RoboDesk-v0", task=TASK, checkpoint=checkpoint).unwrapped
    single.reset(seed=0)
    action = single.action_space.sample()
    vector = gym.make_vec("ColaWorld-RoboDesk-v0", num_envs=16, task=TASK, checkpoint=checkpoint)
    vector.reset(seed=0)
    actions = vector.action_space.sample()
    return {
        "dream_step": median_seconds(lambda: single.step(action), device, repeats),
        "dream_step_of_16": median_seconds(lambda: vector.step(actions), device, repeats),
    }


def rollouts(checkpoint: str, device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds to imagine 64 candidates of 6 frames, as a planner does."""
    model = load_model(checkpoint)
    state = model.begin(torch.zeros(1, 1, 64, 64, 3, dtype=torch.uint8))
    actions = torch.rand(1, 64, 6, model.config.action_dim) * 2 - 1
    seconds = median_seconds(lambda: model.rollout(state, actions, seed=0), device, repeats)
    return {"rollout_64x6": seconds}


def planner_overhead(repeats: int) -> dict[str, float]:
    """Seconds of a CEM plan over a cost that costs nothing: 64 samples, horizon 6, 2 iterations."""
    space = gym.spaces.Box(-1, 1, (5,))
    planner = CEM(horizon=6, num_samples=64, iterations=2, noise=AR1Noise(0.8))
    return {
        "plan_without_cost": median_seconds(
            lambda: planner.plan(lambda a: a[..., 0, 0], space), torch.device("cpu"), repeats
        )
    }


def simulator_step(rendering: str, repeats: int) -> float:
    """Seconds of one rendered step of the real RoboDesk under small random actions."""
    env = RoboDeskEnv(TASK, rendering=rendering)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = iter([env.action_space.sample() * 0.3 for _ in range(repeats + 1)])
    seconds = median_seconds(lambda: env.step(next(actions)), torch.device("cpu"), repeats)
    env.close()
    return seconds


def measure(checkpoint: str, repeats: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    device = pick_device()
    seconds = {
        **dream_steps(checkpoint, device, repeats),
        **rollouts(checkpoint, device, repeats),
        "simulator_step_fast": simulator_step("fast", repeats),
        "simulator_step_vp2": simulator_step("vp2", max(2, repeats // 4)),
        **planner_overhead(repeats),
    }
    return {
        "command": command_line("benchmarks.speed"),
        "machine": machine(device),
        "seconds": seconds,
        "imagined_frames_per_second": 64 * 6 / seconds["rollout_64x6"],
        "ratios": {
            "step_of_16_over_one": seconds["dream_step_of_16"] / seconds["dream_step"],
            "simulator_vp2_over_imagined_frame": seconds["simulator_step_vp2"]
            / (seconds["rollout_64x6"] / 384),
            "simulator_fast_over_imagined_frame": seconds["simulator_step_fast"]
            / (seconds["rollout_64x6"] / 384),
        },
    }


@command("speed")
def main(config: DictConfig) -> None:
    report(measure(config.checkpoint, config.repeats), config.out)


if __name__ == "__main__":
    main()
