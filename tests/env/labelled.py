"""A data set whose frames show which tasks are fulfilled."""

import numpy as np

from cola_env.worlds import ROBODESK_TASKS, VP2_TASKS
from cola_train.data.lerobot_writer import LeRobotWriter


def write_dataset(folder, episodes=40, steps=10, splits=None):
    """A patch of a task's own colour appears at the task's own place when it is fulfilled."""
    rng = np.random.default_rng(0)
    features = {
        "observation.image": {"dtype": "video", "shape": [64, 64, 3]},
        "action": {"dtype": "float32", "shape": [2]},
        "next.successes": {"dtype": "bool", "shape": [len(ROBODESK_TASKS)]},
    }
    with LeRobotWriter(folder, features=features, fps=10, robot_type="robodesk") as writer:
        for episode in range(episodes):
            task = VP2_TASKS[episode % len(VP2_TASKS)]
            frames = rng.integers(80, 120, (steps + 1, 64, 64, 3)).astype(np.uint8)
            successes = np.zeros((steps + 1, len(ROBODESK_TASKS)), bool)
            since = rng.integers(3, steps)
            place = 8 * (episode % len(VP2_TASKS))
            frames[since:, place : place + 8, place : place + 8] = [220, 40, 40]
            successes[since - 1 :, ROBODESK_TASKS.index(task)] = True
            actions = np.stack([np.full(steps + 1, episode), np.arange(steps + 1)], 1) / 100
            columns = {"action": actions.astype(np.float32), "next.successes": successes}
            writer.add_episode(task, {"observation.image": frames, **columns})
        writer.close(splits, tasks=list(ROBODESK_TASKS), rendering="fast")
    return folder
