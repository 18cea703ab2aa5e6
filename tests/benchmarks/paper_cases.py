"""Settings and codebooks for the tests of the paper's experiments."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from cola_env.models.latent_action.codebook_health import CodebookHealth

CONF = Path(__file__).parents[2] / "benchmarks" / "conf"
DEAD = CodebookHealth(utilisation=0.05, max_usage=0.95, entropy=0.1)
LIVE = CodebookHealth(utilisation=0.8, max_usage=0.2, entropy=2.5)
NARROW = CodebookHealth(utilisation=0.1, max_usage=0.3, entropy=1.5)  # one threshold crossed
ALL = ["figure=all", "table=all", "explanation=all"]


def config(*overrides: str) -> DictConfig:
    given = ["data=[x,y]", "init=z", *overrides]
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("paper", given)
