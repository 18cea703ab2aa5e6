"""The planners that a run names, and how they are built of their settings."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import hydra
from omegaconf import DictConfig

import planners
from benchmarks.harness import plain
from cola_env.errors import ColaWorldError, in_short
from cola_train.choices import CHOSEN


def named_planners(config: DictConfig) -> dict[str, dict[str, Any]]:
    """{name: settings} of a run's planners. One that is alone has the name of its choice, or where
    it is no more that planner, of its class."""
    value = plain(config.planner)
    if isinstance(value, Mapping):
        target = str(value.get("_target_")).rpartition(".")[2].lower()
        return {config.get(CHOSEN, {}).get("planner", target): dict(value)}
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        return {label: settings for each in value for label, settings in each.items()}
    raise ColaWorldError(
        f"planner={value} is no planner's settings: lists of names are for benchmarks/vp2.py."
    )


def make_planner(settings: dict[str, Any]) -> Any:
    """Build the planner of `_target_`.

    A planner of the user's own gets those settings of ours alone that its constructor takes, so
    that `planner._target_=my_package.MyPlanner` runs without a config file of its own.
    Raises ColaWorldError when it cannot be built or has no `plan`.
    """
    try:
        target = hydra.utils.get_class(settings["_target_"])
        taken = inspect.signature(target).parameters
        takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
        if not takes_all and not target.__module__.startswith("planners."):
            given = settings.items()
            settings = {k: v for k, v in given if k in taken or k not in _settings_of_ours()}
        planner = hydra.utils.instantiate(settings)
    except Exception as error:
        told = in_short(error)
        raise ColaWorldError(
            f"The planner {settings.get('_target_')} cannot be built: {told}"
        ) from error
    if not callable(getattr(planner, "plan", None)):
        raise ColaWorldError(
            f"The planner {settings['_target_']} has no method plan(cost, action_space, *, "
            "warm_start, seed, batch)."
        )
    return planner


@cache
def _settings_of_ours() -> frozenset[str]:
    """The names of all settings of the planners of `planners`."""
    ours = (getattr(planners, name) for name in planners.__all__)
    made = (each for each in ours if callable(getattr(each, "plan", None)))
    return frozenset(name for each in made for name in inspect.signature(each).parameters)
