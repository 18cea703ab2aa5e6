"""What `env=` brings along fits the world, whatever the planner and whichever benchmark."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import benchmarks
from benchmarks.vp2_protocol.agents import check_random
from cola_env.worlds import WORLDS


def configure(name: str, *overrides: str):
    conf = Path(benchmarks.__file__).parent / "conf"
    with initialize_config_dir(str(conf), version_base=None):
        return compose(name, list(overrides))


@pytest.mark.parametrize("planner", ["cem", "icem", "mppi", "predictive_sampling"])
def test_libero_plans_actions_of_the_datas_size_and_judges_where_they_end(planner):
    config = configure("vp2", "env=libero", f"planner={planner}")
    assert (config.env, config.final_weight) == ("libero", 1.0)
    assert len(config.planner.std) == WORLDS["libero"].action_dim
    check_random(dict(config.random), WORLDS["libero"].action_dim)
    assert configure("vp2", "env=libero", "final_weight=0", "planner.std=1").planner.std == 1


def test_robodesk_is_the_default_and_keeps_what_vp2_yaml_says():
    for config in (configure("vp2"), configure("vp2", "protocol=vp2")):
        assert (config.env, config.final_weight) == ("robodesk", 0.0)
    assert configure("vp2").planner.std == 1.0 and configure("vp2").random.scale == 0.6


def test_fidelity_tries_what_the_planner_tries():
    for env in WORLDS:
        fidelity, planning = configure("fidelity", f"env={env}"), configure("vp2", f"env={env}")
        assert fidelity.final_weight == planning.final_weight
    assert fidelity.planner.std == planning.planner.std
