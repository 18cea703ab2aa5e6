"""Whether a run's results may stand beside the published ones of VP2."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cola_env.goals import OWN
from cola_env.vp2_classifier import classifier_files
from cola_env.vp2_goals import SOURCE

CONF = Path(__file__).parents[1] / "conf"
VP2 = "vp2"
FREE = ("defaults", "protocol", "tasks")
"""Keys of conf/protocol/vp2.yaml that a run may choose: any of the tasks may be published."""


def protocol_identity(config: DictConfig, goals_source: str) -> dict[str, Any]:
    """What a run's settings keep of its protocol; {} for our own protocol on our own problems."""
    identity: dict[str, Any] = {}
    if goals_source != OWN:
        identity["goals_source"] = goals_source
    if config.get("protocol") == VP2:
        identity |= {"protocol": VP2, "departures": departures(config)}
    return identity


def departures(config: DictConfig) -> list[str]:
    """Names of the settings in which a run departs from the published protocol."""
    published = DictConfig(OmegaConf.load(CONF / "protocol" / "vp2.yaml"))
    published.planner = OmegaConf.load(CONF / "planner" / "vp2_mppi.yaml")
    names = [str(key) for key in published if key not in FREE]
    differing = [name for name in names if published[name] != config[name]]
    folder = config.classifier
    if not isinstance(folder, str) or not classifier_files(Path(folder).expanduser()):
        differing.append("classifier")
    return differing


def obstacles(settings: Mapping[str, Any]) -> list[str]:
    """Why results under these settings cannot stand beside VP2's published ones; none: they can.

    settings: those of a row of results.json.
    """
    found = []
    if settings.get("goals_source") != SOURCE:
        found.append("the problems are our own")
    if settings.get("protocol") != VP2:
        found.append("the protocol is our own")
    elif differing := settings["departures"]:
        found.append(f"these settings differ: {', '.join(differing)}")
    return found


def verdict(settings: Mapping[str, Any]) -> str:
    """The same as a sentence."""
    because = obstacles(settings)
    if not because:
        return "Comparable with VP2's published results: its problems and its whole protocol."
    return f"Not comparable with VP2's published results: {'; '.join(because)}."
