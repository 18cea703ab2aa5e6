"""Clones the behaviour of demonstrations: `cola clone data=FOLDER out=FOLDER`.

One policy for all tasks: a small network sees a frame and gives the action of each task. It learns
from the episodes that solve their own task, up to the action that does, where the data says which
do. Half of the frames are blurred, shifted and relit at random, as imagined ones are; the others
show to the pixel where things are.

The policy is kept at several stages, OUT/early, OUT/middle and OUT/late, so that good and bad ones
can be judged side by side: `cola policies clone=OUT`. Killed and started again, it goes on.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from cola_env.checkpoints import RECIPE
from cola_env.errors import ColaWorldError, check_setting
from cola_env.files import write_atomically
from cola_env.models.loading import load_model, pick_device
from cola_env.models.visual_policy import VisualPolicy, load_policy
from cola_env.simulators.loading import make_simulator
from cola_env.worlds import find_world
from cola_train.command import command, cpu_threads
from cola_train.console import GOES_ON, progress_bar
from cola_train.controllers import scripts_of
from cola_train.data.action_scale import ActionScale
from cola_train.data.batches import step_generator
from cola_train.data.demonstrations import (
    Actions,
    Demonstrations,
    demonstrated_tasks,
    latent_actions,
    load_demonstrations,
    real_actions,
)
from cola_train.data.labelled_frames import JoinedDataset, augment
from cola_train.data.lerobot import RecordedEpisode
from cola_train.distributed import make_accelerator
from cola_train.learner import learning_rate
from cola_train.preconditions import check_same_run
from cola_train.run_folder import History, TrainingCheckpoints, check_logger, save_with_card

RECORDED, SCRIPT = "recorded", "script"
IMAGE_SIZE = 64
AUGMENTED = 0.5
"""Share of the frames."""
SQUARED = 0.1
"""Errors up to this are squared, larger ones absolute: where a demonstration may go on in two ways,
the median is one of them, and the mean is neither."""


@dataclass
class CloneConfig:
    data: Any = MISSING
    """A LeRobot folder with actions, or a list of them."""
    out: str = MISSING
    init: str | None = None
    """A policy of the same tasks to begin with, "policy" is the shipped one; of one with latent
    actions the trunk alone is taken. None: random weights, of `width`."""
    learns: str = "all"
    """all, or heads: the trunk stays as in `init`, what is learned is a small decoder of it."""
    latent: str | None = None
    """A world model with latent actions: what it infers from two frames is cloned in place of real
    actions, which the data need not have. Give the policy real ones by `init` of another run."""
    teacher: str = RECORDED
    """recorded, or script: what the world's scripts would do in each recorded state, so that
    unsolved episodes teach as well, and new scripts need no new episodes."""
    episodes: int | None = None
    """Learn from so many of the episodes that count, spread over the tasks; None: all."""
    tasks: Any = None
    """Names, as the episodes have them; None: all."""
    action_range: Any = None
    """[low, high], the values of the files' actions that become -1 and 1; None: they are so."""
    steps: int = 3000
    stages: dict[str, float] = field(
        default_factory=lambda: {"early": 0.02, "middle": 0.15, "late": 1.0}
    )
    """After which share of the steps a policy is kept."""
    batch: int = 128
    lr: float = 1e-3
    lr_warmup: int = 50
    lr_end: float = 0.02
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    width: int = 32
    held_out: float = 0.1
    """Share of the episodes that only measures, of each folder without a test split of its own;
    where it has one, that does."""
    log_every: int = 20
    save_seconds: float = 60.0
    """Between checkpoints to go on from."""
    logger: str = "none"
    """tensorboard, wandb or none, beside history.jsonl."""
    device: str = "auto"
    threads: int = 1
    seed: int = 0

    def ends(self) -> dict[str, int]:
        """The step after which each stage is kept, in order.

        Raises ColaWorldError for shares that do not rise to 1, and stages without a step.
        """
        ends = {name: round(share * self.steps) for name, share in self.stages.items()}
        steps = list(ends.values())
        if steps != sorted({*steps}) or min(steps, default=0) < 1 or steps[-1] != self.steps:
            raise ColaWorldError(
                f"stages={dict(self.stages)} of steps={self.steps} must be shares that rise to 1, "
                "each with a step more than the one before."
            )
        return ends


ConfigStore.instance().store(name="clone_config", node=CloneConfig)


class Cloning:
    """A training of `policy` under way in the folder `config.out`.

    What it learns depends on the settings and the data alone, also after a restart. The stages
    are to its folder what phases are to that of a world model.
    """

    def __init__(self, policy: VisualPolicy, config: CloneConfig, accelerator: Accelerator) -> None:
        self.policy = policy.to(accelerator.device)
        self.config, self.accelerator = config, accelerator
        self.out, self.ends = Path(config.out), config.ends()
        policy.trunk.requires_grad_(config.learns == "all")
        learned = [p for p in policy.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learned, config.lr, weight_decay=config.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate(step, config)
        )
        self.checkpoints = TrainingCheckpoints(self.out / "checkpoints", list(self.ends))
        self.history = History(accelerator, self.out, config.logger)

    def run(self, train: Demonstrations, card: dict[str, Any]) -> None:
        """Train to the end, from the newest checkpoint; every stage is kept with `card`."""
        begun = self._begin()
        chances = train.probabilities()
        bar = progress_bar(None, "cloning", total=self.config.steps, initial=begun)
        saved, losses = time.monotonic(), []
        self.policy.train()
        for step in range(begun + 1, self.config.steps + 1):
            losses.append(self._learn(step, train, chances))
            bar.update()
            stage = self._stage(step)
            if step % self.config.log_every == 0 or step == self.ends[stage]:
                values = {"loss": float(torch.stack(losses).mean())}
                losses.clear()
                self.history.write(stage, step, step, values)
                bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
            if step == self.ends[stage]:
                save_with_card(
                    self.policy, card | {"stage": stage, "steps": step}, self.out / stage
                )
            if step == self.ends[stage] or time.monotonic() - saved > self.config.save_seconds:
                self._save(stage, step)
                saved = time.monotonic()
        bar.close()
        self.history.end()

    def _begin(self) -> int:
        """How many steps are done."""
        saved = self.checkpoints.newest()
        if saved is None:
            self.history.begin(0, 0)
            return 0
        self.policy.load_state_dict(saved["policy"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.history.begin(saved["history"], saved["step"])
        print(f"Going on from step {saved['step']:,}.")
        return int(saved["step"])

    def _stage(self, step: int) -> str:
        return next(name for name, end in self.ends.items() if step <= end)

    def _learn(self, step: int, train: Demonstrations, chances: torch.Tensor) -> torch.Tensor:
        generator = step_generator(self.config.seed, "clone", step, "data")
        rows = torch.multinomial(chances, self.config.batch, True, generator=generator)
        device = self.accelerator.device
        images = train.frames[rows].float() / 255
        changed = torch.rand(len(rows), 1, 1, 1, generator=generator) < AUGMENTED
        images = torch.where(changed, augment(images, generator), images).to(device)
        heads, actions = train.heads[rows].to(device), train.actions[rows].to(device)
        with self.accelerator.autocast():
            given = self.policy(images).float()
        given = given[torch.arange(len(rows), device=device), heads]
        loss = smooth_l1_loss(given, actions, beta=SQUARED)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.policy.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    def _save(self, stage: str, step: int) -> None:
        state = {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": self.history.size,
        }
        self.checkpoints.save(stage, step, state)


def clone(config: CloneConfig) -> dict[str, dict[str, float]]:
    """Train on `config.data`; the held-out error of every stage, see `errors`, of the tasks that
    held-out episodes solve.

    Raises ColaWorldError for settings and data that do not fit, or a folder of other settings.
    """
    recipe = _recipe(config)
    _check(config)
    out = Path(config.out)
    check_same_run(out, recipe)
    dataset = JoinedDataset(config.data)
    tasks = demonstrated_tasks(dataset, config.tasks)
    trained, held_out = dataset.hold_out(config.held_out, config.seed)
    actions_of = _actions(config, dataset)
    anywhere = config.teacher == SCRIPT
    train = load_demonstrations(dataset, trained, tasks, IMAGE_SIZE, actions_of, anywhere)
    if train is None:
        raise ColaWorldError(
            f"None of {len(trained)} episodes of {dataset.path} solves its task: collect more."
        )
    if config.episodes is not None:
        train = train.fewer(config.episodes, config.seed)
    counts = train.heads.bincount(minlength=len(tasks)).tolist()
    if unshown := [task for task, count in zip(tasks, counts, strict=True) if not count]:
        raise ColaWorldError(
            f"No episode of {dataset.path} that may be learned from solves {', '.join(unshown)}: "
            "collect more, or leave out these tasks by tasks=[...]."
        )
    measured = load_demonstrations(dataset, held_out, tasks, IMAGE_SIZE, actions_of, anywhere)
    if measured is None:
        print(f"None of {len(held_out)} held-out episodes solves its task: nothing is measured.")
    write_atomically(out / RECIPE, lambda target: OmegaConf.save(recipe, target))
    torch.manual_seed(config.seed)
    rendering = str(dataset.info.get("rendering", "video"))
    policy = _begun(config, tasks, train.actions.shape[1], rendering)
    card = {
        "model": "an action a task on 64 x 64 RGB",
        "parameters": policy.num_parameters(),
        "data": {
            "name": [part.path.name for part in dataset.parts],
            "rendering": rendering,
            "episodes": len(train.episodes.unique()),
            "actions": dict(zip(tasks, counts, strict=True)),
        },
        "training": {k: v for k, v in asdict(config).items() if k not in ("data", "out")}
        | {"init": config.init and Path(config.init).name},
    }
    device = pick_device(config.device)
    Cloning(policy, config, make_accelerator(device, out, config.logger, 1)).run(train, card)
    if measured is None:
        return {name: {} for name in config.stages}
    return {name: errors(load_policy(out / name, device), measured) for name in config.stages}


def _check(config: CloneConfig) -> None:
    check_logger(config.logger)
    if config.learns not in ("all", "heads"):
        raise ColaWorldError(f"learns={config.learns} must be all or heads.")
    if config.learns == "heads" and config.init is None:
        raise ColaWorldError("learns=heads keeps the trunk of a policy: name it by init=.")
    if config.teacher not in (RECORDED, SCRIPT):
        raise ColaWorldError(f"teacher={config.teacher} must be {RECORDED} or {SCRIPT}.")
    if config.teacher == SCRIPT and config.latent is not None:
        raise ColaWorldError("teacher=script gives real actions, latent= latent ones: choose one.")
    for name in ("episodes", "steps", "batch", "width", "log_every", "threads"):
        value = getattr(config, name)
        check_setting(name, value, value is None or value >= 1, "at least 1")
    check_setting("lr", config.lr, 0 < config.lr < math.inf, "a positive number")
    norm = config.max_gradient_norm
    check_setting("max_gradient_norm", norm, norm > 0, "a positive number")
    for name in ("lr_warmup", "weight_decay", "save_seconds"):
        check_setting(name, value := getattr(config, name), value >= 0, "at least 0")


def _actions(config: CloneConfig, dataset: JoinedDataset) -> Actions:
    """What is cloned of an episode; ColaWorldError where the data has no such actions."""
    if config.teacher == SCRIPT:
        return script_actions(dataset)
    if config.latent is not None:
        return latent_actions(load_model(config.latent, config.device))
    sizes = {part.action_dim for part in dataset.parts if part.action_dim}
    if len(sizes) != 1:
        raise ColaWorldError(
            f"{dataset.path} must have actions of one size to clone, or name a world model that "
            "infers them by latent=."
        )
    return real_actions(dataset, ActionScale.of(config.action_range, sizes))


def script_actions(dataset: JoinedDataset) -> Actions:
    """What the scripts of the data's world would do in the recorded states.

    Raises ColaWorldError for a world without a simulator; they, for an episode without states, or
    of a task without a script that decides by the present state alone.
    """
    world = find_world(str(dataset.info.get("robot_type")))
    scripts, rng = scripts_of(world), np.random.default_rng(0)
    recorded = {k: dataset.info[k] for k in ("rendering", "action_repeat") if k in dataset.info}
    env = make_simulator(world, world.goal_tasks[0], **recorded)

    def tell(episode: RecordedEpisode) -> Tensor:
        if episode.states is None:
            raise ColaWorldError(f"{dataset.path} has no states, which teacher=script needs.")
        if episode.task not in scripts.SCRIPTED_TASKS:
            known = ", ".join(scripts.SCRIPTED_TASKS)
            raise ColaWorldError(
                f"There is no script for {episode.task}: with teacher=script name the tasks by "
                f"tasks=[...], among {known}."
            )
        told = []
        for state in episode.states[:-1]:
            env.restore(env.to_snapshot(state))
            script = scripts.make_controller(episode.task, env, rng)
            if script.remembers:
                raise ColaWorldError(
                    f"The script of {episode.task} remembers what it has done, and cannot tell by "
                    "a state alone what to do: leave out teacher=script."
                )
            script.act()
            told.append(torch.from_numpy(script.intended))
        return torch.stack(told)

    return tell


def _begun(config: CloneConfig, tasks: tuple[str, ...], action_dim: int, look: str) -> VisualPolicy:
    """A policy with random weights, or with those of `config.init`; ColaWorldError where that is of
    other tasks, actions or frames."""
    latent = config.latent is not None
    if config.init is None:
        return VisualPolicy(tasks, action_dim, look, config.width, latent)
    known = load_policy(config.init, "cpu")
    policy = VisualPolicy(tasks, action_dim, look, known.config.width, latent)
    same = known.config.latent == latent
    there, here = (
        (p.config.rendering, *((p.tasks, p.config.action_dim) if same else ()))
        for p in (known, policy)
    )
    if there != here:
        raise ColaWorldError(
            f"init={config.init} is a policy of {there}, the data is of {here}: leave out init=."
        )
    if same:
        policy.load_state_dict(known.state_dict())
    else:
        policy.trunk.load_state_dict(known.trunk.state_dict())
    return policy


def _recipe(config: CloneConfig) -> dict[str, Any]:
    """The settings as the recipe of a training, whose phases are the stages."""
    settings = asdict(config)
    ends = config.ends()
    for name in ("stages", "log_every", "save_seconds", "logger", "max_gradient_norm"):
        del settings[name]
    return {
        **settings,
        "order": list(ends),
        "start": None,
        "phases": {name: {"steps": end} for name, end in ends.items()},
        "trainer": {"max_gradient_norm": config.max_gradient_norm},
    }


@torch.no_grad()
def errors(policy: VisualPolicy, demonstrations: Demonstrations) -> dict[str, float]:
    """Mean absolute error of the actions on unchanged frames, by task."""
    found = {}
    for head, task in enumerate(policy.tasks):
        rows = demonstrations.heads == head
        if rows.any():
            frames, actions = (
                demonstrations.frames[rows].float() / 255,
                demonstrations.actions[rows],
            )
            given = torch.cat(
                [policy(part.to(policy.device))[:, head] for part in frames.split(512)]
            )
            found[task] = float((given.float().cpu() - actions).abs().mean())
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Held-out errors as text, a line a task, a column a stage."""
    tasks = list(dict.fromkeys(task for by_task in found.values() for task in by_task))
    width = max(len(task) for task in (*tasks, "held-out error")) + 2
    lines = [f"{'held-out error':<{width}}" + "".join(f"{name:>10}" for name in found)]
    for task in tasks:
        cells = (f"{by_task[task]:>10.3f}" for by_task in found.values())
        lines.append(f"{task:<{width}}" + "".join(cells))
    return "\n".join(lines)


@command("clone", GOES_ON)
def main(config: DictConfig) -> None:
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, CloneConfig)
    with cpu_threads(settings.threads):
        print(table(clone(settings)))
    print(
        f"The policies are in {settings.out}: judge them by 'cola policies clone={settings.out}'."
    )


if __name__ == "__main__":
    main()
