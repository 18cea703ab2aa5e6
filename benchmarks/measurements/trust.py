"""Which signal tells the error of an imagined frame? python -m benchmarks.measurements.trust

Real episodes are imagined again under their own actions, as single steps behind real frames and as
whole dreams behind the first one. At each step every signal is computed without the real frame, and
then ranked against the true error. Two kinds of episodes: held-out ones of data=, and planned ones,
which a planner chose in the dream and the real twin carried out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.harness import command_line, machine, report
from cola_env.envs.pair import make_pair
from cola_env.envs.starts import behind
from cola_env.models.dream_state import DreamState
from cola_env.models.loading import load_model
from cola_env.models.precision import autocast
from cola_env.models.world_model import ColaWorldModel
from cola_env.scoring.psnr import frame_psnr
from cola_env.scoring.trust import TRUSTED, Agreement, Recognition, find_signal
from cola_env.worlds import ROBODESK
from cola_train.command import command
from cola_train.console import progress_bar
from cola_train.data.lerobot_writer import LeRobotWriter
from cola_train.data.sources import open_source
from planners import CEM, MPC, AR1Noise

WINDOW = 8
"""Real frames that a single step is imagined behind, at most."""


def record_planned(folder: Path, pairs: int, steps: int, checkpoint: str) -> None:
    """Writes a LeRobot folder: every task's first `pairs`, planned for in the dream, acted in the
    real twin, to whose frame the dream returns before each plan."""
    features = {
        "observation.image": {"dtype": "video", "shape": [64, 64, 3]},
        "action": {"dtype": "float32", "shape": [ROBODESK.action_dim]},
    }
    problems = [(task, i) for task in ROBODESK.goal_tasks for i in range(pairs)]
    writer = LeRobotWriter(folder, features=features, fps=10, robot_type=ROBODESK.name)
    with writer:
        for task, index in progress_bar(problems, "planning", unit="episode"):
            frames, actions = planned_episode(task, index, steps, checkpoint)
            actions = np.concatenate([actions, np.zeros_like(actions[:1])])
            writer.add_episode(task, {"observation.image": frames, "action": actions})
        whole = {"train": f"0:{len(problems)}"}
        writer.close(whole, env=ROBODESK.name, rendering="fast", action_repeat=50)


def planned_episode(
    task: str, index: int, steps: int, checkpoint: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Frames uint8 (steps + 1, 64, 64, 3) and actions float32 (steps, A)."""
    dream, twin = make_pair(task, checkpoint=checkpoint, max_episode_steps=-1)
    frame, _ = twin.reset(seed=0, options={"pair": index})
    dream.reset(seed=0, options={"pair": index})
    own: Any = dream.unwrapped
    planner = CEM(horizon=6, num_samples=32, iterations=2, std=1.0, noise=AR1Noise(0.8))
    agent = MPC(planner, replan_every=3)
    agent.reset(seed=index)

    def cost(plans: Tensor) -> Tensor:
        past = behind(frames, actions, own.dream.goals[0].numpy())
        dream.reset(seed=len(frames), options=past)
        return -torch.as_tensor(own.rollout(plans[0]).rewards).mean(-1)[None]

    frames, actions = [frame], []
    for _ in range(steps):
        action = agent.act(cost, own.action_space)[0].numpy()
        actions.append(action)
        frames.append(twin.step(action)[0])
    twin.close()
    return np.stack(frames), np.stack(actions)


@dataclass(frozen=True)
class Episodes:
    """frames uint8 (E, T + 1, S, S, 3), actions float32 (E, T, A)."""

    frames: Tensor
    actions: Tensor

    @classmethod
    def read(cls, path: str, more: int | None) -> Episodes:
        """All that a folder keeps for testing and `more` others; None: all."""
        source = open_source(path)
        test = [i for i, entry in enumerate(source.entries) if entry.split == "test"]
        others = [i for i, entry in enumerate(source.entries) if entry.split != "test"]
        chosen = [*test, *others[:more]]
        length = min(source.entries[i].frames for i in chosen)
        frames = np.stack([source.frames(i, 0, length) for i in chosen])
        actions = np.stack([source.actions(i, 0, length - 1) for i in chosen])
        return cls(torch.from_numpy(frames), torch.from_numpy(actions))


@dataclass(frozen=True)
class Step:
    """One imagined step of E episodes.

    before, after: what the model remembers; frames, previous: uint8 (E, S, S, 3), imagined, and the
    frame that it began at; noise (E, C, h, w) that it was made of.
    """

    before: DreamState
    after: DreamState
    frames: Tensor
    previous: Tensor
    actions: Tensor
    noise: Tensor


class Candidates:
    """Signals of one step, each (E,) and larger where more error is to be expected."""

    def __init__(self, model: ColaWorldModel, seeds: int) -> None:
        self.model, self.seeds = model, seeds
        self.generator = torch.Generator().manual_seed(1)

    def all(self) -> dict[str, Callable[[Step], Tensor]]:
        found: dict[str, Callable[[Step], Tensor]] = {
            "noise_spread": self.noise_spread,
            "change": self.change,
        }
        if self.model.config.conditioning == "latent":
            found |= {"idm": self.idm, "adapter_entropy": self.entropy, "codes_spread": self.codes}
        return found

    def noise_spread(self, step: Step) -> Tensor:
        """Variance of the next frame over noise seeds."""
        noise = torch.randn(self._many(step.noise).shape, generator=self.generator)
        return self._spread(step, self._many(step.actions), None, noise)

    def change(self, step: Step) -> Tensor:
        """How much the frame changes: a baseline, as what moves is hard to predict."""
        return -frame_psnr(step.frames, step.previous)

    def idm(self, step: Step) -> Tensor:
        """Squared distance of the latent action that the inverse dynamics model reads off the
        frames from the one that was used."""
        used, _ = self.model.condition(step.actions, step.before.latents, "real")
        latents = torch.stack([step.before.latents, step.after.latents], dim=1)
        clip = torch.stack([step.previous, step.frames], dim=1)
        read = self.model.quantizer.normalize(self.model.action_tokens(clip.float() / 255, latents))
        return (read.flatten(1) - used).square().mean(1)

    def entropy(self, step: Step) -> Tensor:
        """Of the adapter's codes for the action."""
        shares = self._shares(step)
        return -(shares * shares.clamp_min(1e-9).log()).sum(-1).mean(-1)

    def codes(self, step: Step) -> Tensor:
        """Variance of the next frame over codes drawn from the adapter's distribution."""
        shares = self._shares(step)
        drawn = torch.multinomial(
            shares.flatten(0, 1), self.seeds, replacement=True, generator=self.generator
        )
        codes = drawn.unflatten(0, shares.shape[:2]).transpose(1, 2).flatten(0, 1)
        return self._spread(step, codes, "latent", self._many(step.noise))

    def _shares(self, step: Step) -> Tensor:
        return self.model.adapter(step.actions, step.before.latents).float().softmax(-1)

    def _many(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.seeds, dim=0)

    def _spread(self, step: Step, actions: Tensor, mode: str | None, noise: Tensor) -> Tensor:
        rows = self._many(torch.arange(len(step.frames)))
        state = step.before.select(rows)
        made = self.model.step(state, actions, action_mode=mode, noise=noise)
        frames = self.model.decode(made.latents).unflatten(0, (-1, self.seeds))
        return frames.var(1).flatten(1).mean(1)


class Trial:
    """Episodes imagined again by `model`; the arguments of the methods say how."""

    def __init__(self, model: ColaWorldModel, seeds: int) -> None:
        self.model = model
        self.agreement, self.recognition = find_signal(model, "real", ROBODESK), Recognition(model)
        if not isinstance(self.agreement, Agreement):
            raise TypeError("this measurement needs both shipped models")
        self.candidates = Candidates(model, seeds)
        self.seconds: dict[str, float] = {}

    @torch.no_grad()
    def run(self, episodes: Episodes, steps: int, restart: bool) -> dict[str, Tensor]:
        """All signals (T, E), "error" among them: minus the PSNR to the real frame.

        restart: every step begins behind real frames; else all steps are one dream.
        """
        rows = [
            {name: value.float().cpu() for name, value in step.items()}
            for step in self._steps(episodes, steps, restart)
        ]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _steps(self, episodes: Episodes, steps: int, restart: bool) -> Iterator[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for t in progress_bar(range(min(steps, episodes.actions.shape[1])), "imagining"):
            if restart or t == 0:
                first = max(0, t + 1 - WINDOW)
                past, between = episodes.frames[:, first : t + 1], episodes.actions[:, first:t]
                state, previous = self.model.begin(past, between), past[:, -1]
                memories = [
                    each.begin(past, between) for each in (self.agreement, self.recognition)
                ]
            actions = episodes.actions[:, t]
            noise = torch.randn(state.latents.shape, generator=generator)
            after = self.model.step(state, actions, noise=noise)
            step = Step(state, after, self.model.frames(after), previous, actions, noise)
            found = {"error": -frame_psnr(step.frames, episodes.frames[:, t + 1])}
            for i, signal in enumerate((self.agreement, self.recognition)):
                start = time.process_time()
                memories[i], compared = signal.step(memories[i], after, step.frames, actions)
                self._took(signal.name, start)
                found[signal.name] = -compared
            with autocast(self.model.device):
                for name, candidate in self.candidates.all().items():
                    start = time.process_time()
                    found[name] = candidate(step)
                    self._took(name, start)
            yield found
            state, previous = after, step.frames

    def _took(self, name: str, start: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start


def correlations(found: dict[str, Tensor]) -> dict[str, Any]:
    error = found["error"].flatten().numpy()
    ranks = {
        name: round(float(spearmanr(values.flatten().numpy(), error)[0]), 3)
        for name, values in found.items()
        if name != "error"
    }
    return {
        "steps": len(error),
        "median_psnr": round(float(-np.median(error)), 2),
        "spearman": dict(sorted(ranks.items(), key=lambda item: -item[1])),
    }


def fitted_line(parts: list[dict[str, Tensor]], name: str) -> dict[str, float]:
    """Least squares of the true PSNR on the signal `name` of all `parts`, and what is left."""
    signal = -torch.cat([part[name].flatten() for part in parts]).double().numpy()
    truth = -torch.cat([part["error"].flatten() for part in parts]).double().numpy()
    slope, intercept = np.polyfit(signal, truth, 1)
    left = truth - (intercept + slope * signal)
    return {
        "intercept": round(float(intercept), 2),
        "slope": round(float(slope), 3),
        "rms_db": round(float(np.sqrt(np.square(left).mean())), 2),
    }


def border(parts: list[dict[str, Tensor]], line: dict[str, float], limit: float) -> dict[str, Any]:
    """How the red border, drawn where fewer than `limit` dB are expected, meets the truth."""
    signal = -torch.cat([part["agreement"].flatten() for part in parts])
    truth = -torch.cat([part["error"].flatten() for part in parts])
    red = line["intercept"] + line["slope"] * signal < limit
    return {
        "limit_db": limit,
        "share_red": round(float(red.float().mean()), 3),
        "median_psnr_red": round(float(truth[red].median()), 2),
        "median_psnr_clear": round(float(truth[~red].median()), 2),
    }


def measure(config: DictConfig) -> dict[str, Any]:
    planned = Path(config.planned)
    if not (planned / "meta").is_dir():
        record_planned(planned, config.pairs, config.steps, config.checkpoint)
    kinds = {
        "held_out": Episodes.read(config.data, config.more),
        "planned": Episodes.read(config.planned, None),
    }
    trial = Trial(load_model(config.checkpoint, "cpu"), config.seeds)
    found = {
        f"{kind}, {how}": trial.run(episodes, config.steps, restart=how == "next frames")
        for kind, episodes in kinds.items()
        for how in ("next frames", "dreams")
    }
    steps = sum(len(each["error"]) * each["error"].shape[1] for each in found.values())
    lines = {n: fitted_line(list(found.values()), n) for n in ("agreement", "recognition")}
    return {
        "command": command_line("benchmarks.measurements.trust"),
        "machine": machine(torch.device("cpu")),
        "results": {name: correlations(each) for name, each in found.items()},
        "lines": lines,
        "border": border(list(found.values()), lines["agreement"], TRUSTED),
        "cpu_ms_a_step_in_batches": {
            name: round(1000 * seconds / steps, 1) for name, seconds in trial.seconds.items()
        },
    }


@command("trust")
def main(config: DictConfig) -> None:
    torch.set_num_threads(config.threads)
    report(measure(config), config.out)


if __name__ == "__main__":
    main()
