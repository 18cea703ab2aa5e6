"""The worlds there are: what a dream, its twin in the simulator, goals and training data share."""

import importlib
from dataclasses import dataclass
from pathlib import Path

from cola_env.errors import ColaWorldError

VP2_TASKS = (
    "push_red",
    "push_green",
    "push_blue",
    "open_slide",
    "open_drawer",
    "upright_block_off_table",
    "flat_block_off_table",
)
ROBODESK_TASKS = (
    "open_slide",
    "open_drawer",
    "push_green",
    "stack",
    "upright_block_off_table",
    "flat_block_in_bin",
    "flat_block_in_shelf",
    "lift_upright_block",
    "lift_ball",
    "push_blue",
    "push_red",
    "flat_block_off_table",
    "ball_off_table",
    "upright_block_in_bin",
    "ball_in_bin",
    "upright_block_in_shelf",
    "ball_in_shelf",
    "lift_flat_block",
)

GOAL_SCENE_TASKS = tuple(
    f"libero_goal/{name}"
    for name in (
        "open_the_middle_drawer_of_the_cabinet",
        "put_the_bowl_on_the_stove",
        "put_the_wine_bottle_on_top_of_the_cabinet",
        "open_the_top_drawer_and_put_the_bowl_inside",
        "put_the_bowl_on_top_of_the_cabinet",
        "push_the_plate_to_the_front_of_the_stove",
        "put_the_cream_cheese_in_the_bowl",
        "turn_on_the_stove",
        "put_the_bowl_on_the_plate",
        "put_the_wine_bottle_on_the_rack",
    )
)
"""The tasks of the suite libero_goal, which are ten goals in one and the same scene."""

OWN_LOOK = "own"
"""Rendering profile of what a simulator of the user's own draws by itself."""

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class WorldInfo:
    """A robot in a scene before a camera.

    name: in `env=`, in the info.json of its data, and of its folder of assets.
    simulator: the package's name for it; `ColaWorld-{simulator}-v0` dreams `{simulator}-v0`.
    entry: "module:class" of the simulator.
    tasks: what the simulator judges a state by, whichever of them it was made for.
    goal_tasks: those with planning problems and success classifiers; the first is the default.
    actions: names of an action's components.
    action_repeat: control steps of a planned action.
    problem_steps: actions that the script needs at most in a planning problem.
    rendering: profile of the data that models are trained on.
    folder: of its checkpoints, classifiers and goals; None: that of the shipped ones.
    """

    name: str
    simulator: str
    entry: str
    tasks: tuple[str, ...]
    goal_tasks: tuple[str, ...]
    actions: tuple[str, ...]
    action_repeat: int
    problem_steps: int
    rendering: str = "fast"
    folder: Path | None = None

    @property
    def action_dim(self) -> int:
        """A, the numbers of an action."""
        return len(self.actions)

    @property
    def reference(self) -> str:
        """What commands take as env=: its name, after the module of a world of the user's own."""
        return self.name if self.folder is None else f"{self.entry.partition(':')[0]}:{self.name}"

    @property
    def assets(self) -> Path:
        """Folder of its checkpoints, classifiers and goals."""
        return self.folder or ASSETS / self.name


ROBODESK = WorldInfo(
    name="robodesk",
    simulator="RoboDesk",
    entry="cola_env.simulators.robodesk.env:RoboDeskEnv",
    tasks=ROBODESK_TASKS,
    goal_tasks=VP2_TASKS,
    actions=("x", "y", "z", "wrist", "gripper"),
    action_repeat=50,
    problem_steps=12,
)
LIBERO = WorldInfo(
    name="libero",
    simulator="LIBERO",
    entry="cola_env.simulators.libero.env:LiberoEnv",
    tasks=GOAL_SCENE_TASKS,
    goal_tasks=tuple(
        f"libero_goal/{name}"
        for name in (
            "put_the_bowl_on_the_stove",
            "put_the_bowl_on_the_plate",
            "put_the_bowl_on_top_of_the_cabinet",
            "put_the_cream_cheese_in_the_bowl",
            "put_the_wine_bottle_on_top_of_the_cabinet",
        )
    ),
    actions=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    action_repeat=10,
    problem_steps=6,
)
OWN = WorldInfo(
    name="own",
    simulator="Own",
    entry="",
    tasks=("goal",),
    goal_tasks=("goal",),
    actions=(),
    action_repeat=1,
    problem_steps=0,
)
"""What a model of the caller's own data dreams of: no simulator, nothing shipped, one task, which
is to come near a goal image."""

WORLDS = {world.name: world for world in (ROBODESK, LIBERO)}


def find_world(world: str | WorldInfo) -> WorldInfo:
    """The world with a simulator of that name, or a world itself.

    "module:name" imports the module first, which registers it (`cola_env.register_world`), as
    gymnasium.make does with its ids. Raises ColaWorldError when there is none.
    """
    if isinstance(world, WorldInfo):
        return world
    if isinstance(world, str) and ":" in world:
        module, _, world = world.partition(":")
        _import(module)
    if not isinstance(world, str) or world not in WORLDS:
        raise ColaWorldError(
            f"There is no world '{world}': choose env={' or env='.join(WORLDS)}, or name the "
            "module that registers one of your own, env=MODULE:NAME."
        )
    return WORLDS[world]


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ColaWorldError(
            f"The module '{module}', which is to register a world, cannot be imported ({error}): "
            "start where it lies, or put its folder on PYTHONPATH."
        ) from error


def world_of(task: str) -> WorldInfo:
    """The world that the task is of; RoboDesk for a task that none knows."""
    return next((world for world in WORLDS.values() if task in world.tasks), ROBODESK)
