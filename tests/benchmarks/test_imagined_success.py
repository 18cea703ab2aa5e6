"""Which clips are imagined, and what counts as solved."""

from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.measurements.imagined_success import Clip, clips_of, verdicts
from cola_train.data.lerobot import RecordedEpisode

TASKS = ("push_red", "push_blue")


def recorded(task: str, solved_after: int | None, column: int = 0) -> RecordedEpisode:
    """Ten actions; frame t is of brightness t, and the task is solved from an action on."""
    frames = np.broadcast_to(np.arange(11, dtype=np.uint8)[:, None, None, None], (11, 4, 4, 3))
    successes = np.zeros((10, 2), bool)
    if solved_after is not None:
        successes[solved_after:, column] = True
    actions = np.arange(10, dtype=np.float32)[:, None]
    return RecordedEpisode(frames.copy(), actions, None, None, successes, None, task)


def dataset(*episodes: RecordedEpisode) -> SimpleNamespace:
    return SimpleNamespace(
        num_episodes=len(episodes), episode=episodes.__getitem__, info={"tasks": [*TASKS]}, path=""
    )


class Bright:
    """Takes a frame for solved from a brightness on."""

    threshold = 0.5

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def logit(self, frames: torch.Tensor, task: str) -> torch.Tensor:
        return frames.mean((-1, -2, -3)) * 255 - self.limit


def test_a_clip_ends_with_the_frame_that_is_solved_first_or_with_the_last() -> None:
    episodes = dataset(
        recorded("push_red", 7),
        recorded("push_red", None),
        recorded("push_red", 7, column=1),  # another task
        recorded("push_red", 2),  # too early for six imagined steps
        recorded("play", 7),
    )
    found = clips_of(episodes, TASKS, at_most=5)
    solved, failed = found["push_red"]["solved"], found["push_red"]["failed"]
    assert [clip.frames[:, 0, 0, 0].tolist() for clip in solved] == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert solved[0].actions[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert [clip.frames[:, 0, 0, 0].tolist()[-1] for clip in failed] == [10, 10]
    assert found["push_blue"] == {"solved": [], "failed": []}
    assert len(clips_of(episodes, TASKS, at_most=1)["push_red"]["failed"]) == 1


def test_one_solved_frame_makes_a_solved_clip_and_the_context_does_not_count() -> None:
    clips = [Clip.until(recorded("push_red", None), end) for end in (7, 8, 9)]  # to 7, 8, 9
    assert list(verdicts(None, Bright(7.5), "push_red", clips)) == [False, True, True]
    darker = [Clip(clip.frames.flip(0), clip.actions) for clip in clips]  # the brightest first
    assert list(verdicts(None, Bright(6.5), "push_red", darker)) == [False, False, True]
