"""What `env=` brings along fits the world, whatever the planner and whichever benchmark."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import benchmarks
from benchmarks.vp2_protocol.methods import check_random
from cola_env.worlds import WORLDS


def configure(name: str, *overrides: str):
    conf = Path(benchmarks.__file__).parent / "conf"
    with initialize_config_dir(str(conf), version_base=None):
        return compose(name, list(overrides))


@pytest.mark.parametrize("planner", ["cem", "icem", "mppi", "predictive_sampling"])
def test_libero_plans_actions_of_its_own_size(planner):
    config = configure("vp2", "env=libero", f"planner={planner}")
    assert config.env == "libero" and len(config.planner.std) == WORLDS["libero"].action_dim
    check_random(dict(config.random), WORLDS["libero"].action_dim)
    assert configure("vp2", "env=libero", "planner.std=1").planner.std == 1
    assert configure("fidelity", "env=libero").planner.std == config.planner.std


def test_robodesk_is_the_default_and_keeps_what_vp2_yaml_says():
    assert configure("vp2").env == configure("vp2", "protocol=vp2").env == "robodesk"
    assert configure("vp2").planner.std == 1.0 and configure("vp2").random.scale == 0.6
