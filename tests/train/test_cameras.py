"""Which camera is read where a data set has several."""

import warnings

import pytest

from cola_env.errors import ColaWorldError
from cola_train.data.episode_source import choose_camera

LEROBOT = ["observation.images.wrist_left", "observation.images.top", "observation.images.side"]
ROBOMIMIC = ["agentview_depth_image", "robot0_eye_in_hand_image", "agentview_image"]


@pytest.mark.parametrize(
    ("available", "camera", "taken"),
    [
        (LEROBOT, "observation.images.side", "observation.images.side"),
        (LEROBOT, "wrist_left", "observation.images.wrist_left"),
        (ROBOMIMIC, "agentview", "agentview_image"),
        (["depth_cam_rgb", "depth_cam_depth"], None, "depth_cam_rgb"),
        (["wrist"], None, "wrist"),
    ],
)
def test_a_camera_that_is_named_or_alone_is_taken_silently(
    available: list[str], camera: str | None, taken: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_camera(available, camera, "folder") == taken


@pytest.mark.parametrize(
    ("available", "taken"),
    [
        (LEROBOT, "observation.images.top"),
        (ROBOMIMIC, "agentview_image"),
        (["left_wrist", "right_wrist"], "left_wrist"),
    ],
)
def test_of_several_one_off_the_hand_is_taken_and_said(available: list[str], taken: str) -> None:
    with pytest.warns(UserWarning, match=f"of folder, '{taken}' is read.*loading.camera"):
        assert choose_camera(available, None, "folder") == taken


@pytest.mark.parametrize(
    ("available", "camera", "told"),
    [
        (LEROBOT, "front", "no camera 'front': choose one of .*top.*side"),
        (ROBOMIMIC, "agentview_depth_image", r"choose one of \['robot0_eye_in_hand_image', 'agent"),
        (["left.top", "right.top"], "top", "no camera 'top'"),
        (["head_depth"], None, r"no pictures but depth maps \(head_depth\)"),
        ([], None, "it holds no pictures"),
    ],
)
def test_what_is_no_camera_is_told(available: list[str], camera: str | None, told: str) -> None:
    with pytest.raises(ColaWorldError, match=told):
        choose_camera(available, camera, "folder")
