"""The table of samplers: one row for each, the teacher at no distance from itself."""

from pathlib import Path

from hydra import compose, initialize_config_dir

from benchmarks.few_steps import measure, table
from tests.train.small import moving_square, teacher_model

CONF = Path(__file__).parents[2] / "benchmarks" / "conf"


def test_samplers_are_compared_with_the_teachers() -> None:
    with initialize_config_dir(str(CONF), version_base=None):
        settings = ["data=x", "clips=4", "length=4", "horizon=2", "steps=3", "fewer=[1]"]
        config = compose("few_steps", settings)
    teacher = teacher_model()
    clips = moving_square(episodes=4).encode(teacher)
    rows = measure(teacher, teacher_model(num_inference_steps=2), clips, config)
    assert list(rows) == [
        "teacher, 3 steps, guidance 1.5",
        "teacher, 1 step(s)",
        "student, 2 step(s)",
    ]
    near = [row["to_teacher"] for row in rows.values()]
    assert near[0] == 0 < near[2] < near[1]
    assert table(rows).count("\n") == 4
