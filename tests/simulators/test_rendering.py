import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

import cola_env  # noqa: F401
from cola_env.errors import ColaWorldError
from cola_env.simulators.rendering import check_same_profile, get_profile


def test_profiles_look_different_and_vp2_is_the_look_of_the_package(
    make_env: Callable[..., Any],
) -> None:
    from cola_env.simulators.robodesk.desk import RoboDesk

    fast, vp2 = make_env(rendering="fast"), make_env(rendering="vp2")
    frames = [env.reset(seed=0)[0].astype(float) for env in (fast, vp2)]
    assert np.abs(frames[0] - frames[1]).mean() > 5
    assert (fast.rendering, vp2.rendering) == ("fast", "vp2")
    goal = {"goal": fast.render()}
    with pytest.warns(UserWarning, match="goal image looks unlike the frames of rendering='vp2'"):
        vp2.reset(seed=0, options=goal)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast.reset(seed=1, options=goal)
    dream = gymnasium.make("ColaWorld-RoboDesk-v0", device="cpu")
    for option in ("frame", "goal"):
        with pytest.warns(UserWarning, match=f"'{option}'. looks unlike.*rendering='fast'"):
            dream.reset(options={option: vp2.render()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dream.reset(options={"frame": fast.render(), **goal})

    package = RoboDesk()
    package.physics.set_state(vp2.physics.get_state())
    package.physics.forward()
    drawn = Image.fromarray(package.render(resize=False)).crop((16.75, 25.0, 105.0, 88.75))
    expected = np.asarray(drawn.resize((64, 64), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(vp2.render(), expected)
    package.physics.free()


def test_larger_images_show_the_same_scene(make_env: Callable[..., Any]) -> None:
    small = make_env().reset(seed=0)[0]
    large = make_env(image_size=128).reset(seed=0)[0]
    assert large.shape == (128, 128, 3)
    reduced = np.asarray(Image.fromarray(large).resize((64, 64), Image.Resampling.BOX))
    assert np.abs(reduced.astype(float) - small).mean() < 10


def test_frames_are_drawn_only_when_needed(
    make_env: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make_env()
    drawn: list[int] = []
    draw = env._camera.frame
    monkeypatch.setattr(env._camera, "frame", lambda: (drawn.append(1), draw())[1])
    env.reset(seed=0)
    env.render()
    assert len(drawn) == 1
    env.advance(np.zeros(5, np.float32))
    env.snapshot()
    env.successes()
    assert len(drawn) == 1
    env.step(np.zeros(5, np.float32))
    assert len(drawn) == 2


def test_a_returned_frame_belongs_to_the_caller(make_env: Callable[..., Any]) -> None:
    env = make_env()
    frame, _ = env.reset(seed=0)
    kept = frame.copy()
    frame[:] = 0
    np.testing.assert_array_equal(env.render(), kept)


def test_profiles_cannot_be_mixed() -> None:
    check_same_profile("fast", "fast", "model and goals")
    with pytest.raises(ColaWorldError, match="'fast' and 'vp2' cannot be mixed .model and goals."):
        check_same_profile("fast", "vp2", "model and goals")


def test_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ColaWorldError, match="'pretty'.*'vp2' or 'fast'"):
        get_profile("pretty")
