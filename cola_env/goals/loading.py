"""Goals by path: our own file, VP2's files, or the shipped ones of a world."""

from pathlib import Path

from cola_env.errors import ColaWorldError
from cola_env.goals.goal_set import GoalSet
from cola_env.goals.vp2_goals import goal_files, is_vp2_goals, load_vp2_goals
from cola_env.simulators.rendering import check_same_profile
from cola_env.worlds import ROBODESK, WorldInfo, find_world


def load_goals(
    rendering: str | None = None,
    path: str | Path | None = None,
    world: str | WorldInfo = ROBODESK,
) -> GoalSet:
    """Goals rendered with a profile: the shipped ones of `world` (by name or itself), or those of
    `path`.

    rendering: None takes the profile of `path`, or "fast".
    path: a file of ours, or VP2's own (see `cola_env.goals.vp2_goals`, which needs RoboDesk), or
        the name of another shipped set: "start", of whole episodes.
    Raises ColaWorldError when the file is missing, damaged, or of another profile or world.
    """
    world = find_world(world)
    given = _place(rendering, path, world)
    goals = load_vp2_goals(given) if is_vp2_goals(given) else GoalSet.load(given)
    check_same_profile(rendering or goals.rendering, goals.rendering, f"the goals in {given}")
    if goals.world != world.name:
        raise ColaWorldError(
            f"The goals in {given} are of env={goals.world}, not of env={world.name}: give others."
        )
    return goals


def goals_files(
    rendering: str | None = None,
    path: str | Path | None = None,
    world: str | WorldInfo = ROBODESK,
) -> list[Path]:
    """The files that `load_goals` of the same arguments reads."""
    given = _place(rendering, path, find_world(world))
    return [*goal_files(given).values()] if is_vp2_goals(given) else [given]


def goals_file(world: WorldInfo, rendering: str, name: str | None = None) -> Path:
    """Where the shipped goals of that name lie; None: those that are played by default."""
    return world.assets / "goals" / f"{rendering}{f'_{name}' if name else ''}.npz"


def _place(rendering: str | None, path: str | Path | None, world: WorldInfo) -> Path:
    rendering = rendering or world.rendering
    if path is None:
        return goals_file(world, rendering)
    named = goals_file(world, rendering, str(path))
    shipped = (world.assets / "goals").glob("*.npz")
    return named if named in shipped else Path(path).expanduser()
