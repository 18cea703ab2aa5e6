"""One command says whether a model obeys: its keys, and that an obedient model is told apart."""

import json
from pathlib import Path

from hydra import compose, initialize_config_dir

from benchmarks.obeys import measure
from tests.train.test_trainer import moving_square, small_model

CONF = Path(__file__).parents[2] / "benchmarks" / "conf"
KEYS = """copy own shuffled none adapter direct_own direct_shuffled utilisation max_usage entropy
          probe_r2 probe_l1 psnr_by_step""".split()


def test_everything_that_a_run_is_judged_by_is_measured() -> None:
    with initialize_config_dir(str(CONF), version_base=None):
        settings = ["data=x", "clips=4", "length=4", "horizon=3"]
        config = compose("obeys", settings)
    clips = moving_square(episodes=6, steps=6)
    cola, direct = small_model().eval(), small_model(conditioning="direct").eval()
    results = measure(cola, direct, clips, clips, config)
    assert set(KEYS) <= results.keys()
    assert set(results["entropy"]) == {"lam", "adapter"}
    assert len(results["probe_r2"]) == 5
    assert set(results["psnr_by_step"]["cola"]) == {"copy", "own", "adapter"}
    assert json.loads(json.dumps(results)) == results


def test_planning_is_that_of_the_benchmark_with_the_models_measured() -> None:
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("obeys", ["data=x", "model=mine", "out=o", "planning.episodes=2"])
    planning = config.planning
    assert list(planning.model) == ["mine", "direct", "random"]
    assert (planning.out, planning.episodes, planning.tasks) == ("o/planning", 2, "all")
    assert planning.planner._target_ == "planners.CEM" and planning.replan_every == 3
