"""HDF5 files of robomimic, VP2, LIBERO and ALOHA: what contradicts is told of, nothing guessed."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cola_env.errors import ColaWorldError
from cola_train.data.episode_source import DamageReport
from cola_train.data.sources import open_source
from tests.train.conftest import numbered, numbers

T = 6


def write(path: Path, **members: Any) -> Path:
    """A file of these members, "/" in their names written as "__"."""
    with h5py.File(path, "w") as file:
        for name, values in members.items():
            file[name.replace("__", "/")] = values
    return path


def one(path: Path, images: np.ndarray, actions: np.ndarray | None = None) -> Path:
    """A demo, and another that is as it should be."""
    actions = np.zeros((T, 2)) if actions is None else actions
    return write(
        path,
        data__demo_0__obs__camera_image=images,
        data__demo_0__actions=actions,
        data__demo_1__obs__camera_image=numbered(T, 8, 8),
        data__demo_1__actions=np.zeros((T, 2)),
    )


def black_first(value: float) -> np.ndarray:
    images = np.full((T, 8, 8, 3), value, np.float32)
    images[0] = 0
    return images


def never_written(path: Path) -> Path:
    path = one(path, numbered(T, 8, 8))
    with h5py.File(path, "a") as file:
        del file["data/demo_0/obs/camera_image"]
        obs = file["data/demo_0/obs"]
        images = obs.create_dataset("camera_image", (T, 8, 8, 3), "u1", chunks=(1, 8, 8, 3))
        images[: T - 1] = 9
    return path


def with_length(path: Path, length: Any) -> Path:
    path = one(path, numbered(T, 8, 8))
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["num_samples"] = length
    return path


NAN = np.full((T, 2), np.nan)
DAMAGED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "uint16": (lambda p: one(p, numbered(T).astype(np.uint16) * 257), "values from 5140 to 10280"),
    "[0, 1]": (lambda p: one(p, black_first(0.5)), r"camera_image is in \[0, 1\]"),
    "[-1, 1]": (lambda p: one(p, black_first(-1)), "values from -1 to 0"),
    "NaN": (lambda p: one(p, black_first(np.nan)), "not finite"),
    "bool": (lambda p: one(p, np.ones((T, 8, 8, 3), bool)), "holds bool"),
    "gray": (lambda p: one(p, np.zeros((T, 8, 8, 1), np.uint8)), "frames are RGB"),
    "empty": (lambda p: one(p, np.zeros((T, 0, 8, 3), np.uint8)), "frames are RGB"),
    "actions of NaN": (lambda p: one(p, numbered(T), NAN), "actions hold values that are not"),
    "huge actions": (lambda p: one(p, numbered(T), np.full((T, 2), 1e300)), "actions hold values"),
    "boolean actions": (lambda p: one(p, numbered(T), np.ones((T, 2), bool)), "of type bool"),
    "flat actions": (lambda p: one(p, numbered(T), np.zeros(T)), r"shape \(6,\)"),
    "few actions": (lambda p: one(p, numbered(T), np.zeros((4, 2))), "6 frames need 5 or 6"),
    "many actions": (lambda p: one(p, numbered(T), np.zeros((9, 2))), "6 frames need 5 or 6"),
    "num_samples": (lambda p: with_length(p, 20), "num_samples is 20, but it has 6 frames"),
    "never written": (never_written, "never written"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_demo_that_contradicts_itself_is_named_and_the_others_read(
    kind: str, tmp_path: Path
) -> None:
    make, told = DAMAGED[kind]
    path, damage_report = make(tmp_path / "a.hdf5"), DamageReport()
    with pytest.warns(UserWarning, match=f"a.hdf5, demo_0 is damaged and skipped: .*{told}"):
        data = open_source(path, damage_report)
    assert [entry.key for entry in data.entries] == ["demo_1"]
    assert numbers(data.frames(0, 0, T)) == list(range(T))
    assert damage_report.summary().startswith("1 damaged")


@pytest.mark.parametrize("length", [T, T - 1, str(T)])
def test_the_number_of_frames_or_of_actions_may_be_told(length: Any, tmp_path: Path) -> None:
    assert len(open_source(with_length(tmp_path / "a.hdf5", length)).entries) == 2


@pytest.mark.parametrize(
    "images",
    [
        numbered(T, 8, 12).astype(np.uint16),
        numbered(T, 8, 12).astype(">f8"),
        np.moveaxis(numbered(T, 8, 12), -1, 1),
    ],
    ids=["uint16", "float", "channels first"],
)
def test_other_ways_to_store_the_same_pixels_give_the_same(
    images: np.ndarray, tmp_path: Path
) -> None:
    data = open_source(one(tmp_path / "a.hdf5", images))
    assert (data.entries[0].height, data.entries[0].width) == (8, 12)
    frames = data.frames(0, 1, T, 2)
    assert frames.dtype == np.uint8 and frames.shape == (3, 8, 12, 3)
    assert numbers(frames) == [1, 3, 5]


@pytest.mark.parametrize("rate", [0, -10, float("nan")])
@pytest.mark.filterwarnings("ignore:.*damaged and skipped")
def test_a_frame_rate_that_is_none_is_told(rate: float, tmp_path: Path) -> None:
    path = one(tmp_path / "a.hdf5", numbered(T))
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": rate}})
    with pytest.raises(ColaWorldError, match="frame rate, control_freq in env_args, is"):
        open_source(path)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ("[1, 2]", "env_args are .1, 2., not"),
        ('{"env_kwargs": "fast"}', "env_args are .*fast.*, not"),
        ('{"env_kwargs": {"control_freq": "fast"}}', "frame rate, control_freq in env_args, is 'f"),
        ("{", "Expecting property name"),
    ],
)
def test_an_environment_that_cannot_be_read_is_told(
    environment: str, told: str, tmp_path: Path
) -> None:
    path = one(tmp_path / "a.hdf5", numbered(T))
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = environment
    with pytest.warns(UserWarning), pytest.raises(ColaWorldError, match=told):
        open_source(path)


def test_a_mask_that_names_no_demos_is_told(tmp_path: Path) -> None:
    path = one(tmp_path / "a.hdf5", numbered(T))
    with h5py.File(path, "a") as file:
        file["mask/test"] = [1, 2]
    with pytest.warns(UserWarning), pytest.raises(ColaWorldError, match="not names of demos"):
        open_source(path)


def cameras(path: Path, *names: str) -> Path:
    members = {
        f"data__demo_{i}__obs__{n}": numbered(4) + k for k, n in enumerate(names) for i in (0, 1)
    }
    return write(path, **members)


def test_the_camera_is_the_one_asked_for_never_depth_and_told_of_once(tmp_path: Path) -> None:
    path = cameras(
        tmp_path / "a.hdf5", "agentview_depth_image", "robot0_eye_in_hand_image", "side_image"
    )
    with pytest.warns(UserWarning, match="'side_image' is read") as told:
        data = open_source(path)
    assert len(told) == 1
    assert [entry.camera for entry in data.entries] == ["side_image"] * 2
    assert data.frames(1, 0, 1)[0, 0, 0, 0] == 22
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hand = open_source(path, camera="robot0_eye_in_hand")  # from the same index
    assert hand.frames(1, 0, 1)[0, 0, 0, 0] == 21
    with pytest.warns(UserWarning), pytest.raises(ColaWorldError, match="choose one of .*side"):
        open_source(path, camera="top")


def test_demos_without_the_camera_are_left_out(tmp_path: Path) -> None:
    cameras(tmp_path / "a.hdf5", "side_image")
    cameras(tmp_path / "b.hdf5", "front_image", "side_image")
    with pytest.warns(UserWarning, match="a.hdf5 is damaged and skipped: .*no camera 'front'"):
        data = open_source(tmp_path, camera="front")
    assert {Path(entry.file).name for entry in data.entries} == {"b.hdf5"}


def test_a_depth_map_is_no_camera(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.hdf5",
        data__demo_0__obs__agentview_depth_image=np.zeros((T, 8, 8, 1), np.float32),
        data__demo_0__obs__agentview_image=numbered(T),
    )
    assert open_source(path).entries[0].camera == "agentview_image"


def outside(path: Path, kind: str) -> Path:
    """A demo whose images lie in ``secret.hdf5`` or ``secret.bin`` beside the folder."""
    secret = write(
        path.parent.parent / "secret.hdf5", images=numbered(T), demo__obs__x_image=numbered(T)
    )
    raw = path.parent.parent / "secret.bin"
    raw.write_bytes(numbered(T).tobytes())
    with h5py.File(path, "w") as file:
        obs = file.create_group("data/demo_0/obs")
        if kind == "external link":
            obs["a_image"] = h5py.ExternalLink(str(secret), "/images")
        elif kind == "external group":
            file["data/demo_1"] = h5py.ExternalLink("../secret.hdf5", "/demo")
        elif kind == "soft link out":
            file["elsewhere"] = h5py.ExternalLink(str(secret), "/")
            obs["a_image"] = h5py.SoftLink("/elsewhere/images")
        elif kind == "external storage":
            shape = (T, 48, 64, 3)
            obs.create_dataset("a_image", shape, "u1", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])
        else:
            layout = h5py.VirtualLayout((T, 48, 64, 3), "u1")
            layout[:] = h5py.VirtualSource(str(secret), "images", (T, 48, 64, 3))
            obs.create_virtual_dataset("a_image", layout)
    return path


@pytest.mark.parametrize(
    "kind", ["external link", "external group", "soft link out", "external storage", "virtual"]
)
@pytest.mark.filterwarnings("ignore:.*damaged and skipped")
def test_nothing_outside_a_file_is_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    damage_report = DamageReport()
    with pytest.raises(ColaWorldError, match="None of the 1 files"):
        open_source(outside(tmp_path / "data/a.hdf5", kind), damage_report)
    assert any("lies in another file" in reason for reason in damage_report.files.values())


def test_links_within_a_file_are_followed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", images=numbered(T))
    with h5py.File(path, "a") as file:
        file["data/demo_0/obs/a_image"] = h5py.SoftLink("/alias")
        file["alias"] = h5py.SoftLink("images")
        file["data/demo_1/obs/a_image"] = h5py.SoftLink("/data/demo_1/obs/a_image")
    with pytest.warns(UserWarning, match="demo_1 is damaged and skipped: the links of .* nowhere"):
        data = open_source(path)
    assert numbers(data.frames(0, 0, T)) == list(range(T))


def write_libero(path: Path, after: bool, convention: str | None = "opengl") -> Path:
    """LIBERO's layout: the upper half of each picture is bright, action t moves joint 0 to t + 1;
    ``after``: observations come after actions, as LIBERO has recorded them."""
    upright = np.zeros((T, 8, 8, 3), np.uint8)
    upright[:, :4] = 200
    states = np.zeros((T, 20))
    states[:, 1] = np.arange(T)
    joints = states[:, 1:8] + np.eye(7)[0] * after
    actions = np.zeros((T, 7))
    actions[:, 0] = np.arange(T) / 10
    write(
        path,
        data__demo_0__actions=actions,
        data__demo_0__states=states,
        data__demo_0__obs__joint_states=joints,
        data__demo_0__obs__agentview_rgb=upright if convention == "opencv" else upright[:, ::-1],
        data__demo_0__obs__eye_in_hand_rgb=upright,
    )
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["num_samples"] = str(T)
        file["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
        if convention:
            file["data"].attrs["macros_image_convention"] = convention
    return path


@pytest.mark.parametrize("convention", ["opengl", "opencv", None])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.filterwarnings("ignore:Of the cameras")
def test_liberos_own_demos_are_upright_and_their_actions_lead_to_the_next_frame(
    after: bool, convention: str | None, tmp_path: Path
) -> None:
    data = open_source(write_libero(tmp_path / "a.hdf5", after, convention))
    (entry,) = data.entries
    assert (entry.camera, entry.fps, entry.rendering) == ("agentview_rgb", 20.0, "vp2")
    frames = data.frames(0, 0, T)
    assert (frames[:, :4] == 200).all() and (frames[:, 4:] == 0).all()
    first = 0.1 if after else 0.0
    np.testing.assert_allclose(data.actions(0, 0, 3)[:, 0], first + np.arange(3) / 10, atol=1e-6)
    assert data.actions(0, 0, T - 1).shape == (T - 1, 7)


def jpeg(image: np.ndarray) -> np.ndarray:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return np.frombuffer(file.getvalue(), np.uint8)


@pytest.mark.parametrize("stored", ["arrays", "padded", "variable"])
def test_alohas_demos_are_read(stored: str, tmp_path: Path) -> None:
    images: Any = numbered(T)
    if stored != "arrays":
        encoded = [jpeg(image) for image in images]
        images = np.zeros((T, 4000), np.uint8)
        for row, data in zip(images, encoded, strict=True):
            row[: len(data)] = data
    actions = np.arange(T * 14).reshape(T, 14) / 100
    path = write(tmp_path / "episode_0.hdf5", action=actions, observations__qpos=actions)
    with h5py.File(path, "a") as file:
        file.attrs["sim"], file.attrs["compress"] = False, stored != "arrays"
        if stored == "variable":
            rows = file.create_dataset(
                "observations/images/cam_high", (T,), h5py.vlen_dtype(np.uint8)
            )
            for i, data in enumerate(encoded):
                rows[i] = data
        else:
            file["observations/images/cam_high"] = images
        file["compress_len"] = np.zeros((1, T))
    source = open_source(path)
    (entry,) = source.entries
    assert (entry.frames, entry.fps, entry.height, entry.width) == (T, 50.0, 48, 64)
    assert numbers(source.frames(0, 1, 6, 2)) == [1, 3, 5]
    np.testing.assert_allclose(source.actions(0, 2, 4), actions[2:4], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*damaged and skipped")
def test_images_that_cannot_be_decoded_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write(path, observations__images__top=np.full((T, 50), 7, np.uint8), action=np.zeros((T, 3)))
    with pytest.raises(ColaWorldError, match="An image is damaged"):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("1.0.0/features.json", "RLDS"),
        ("1.0.0/a-train.tfrecord-00000-of-00001", "RLDS"),
        ("data/main_data.hdf5", "Minari"),
    ],
)
def test_formats_to_convert_first_are_told(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ColaWorldError, match=f"is a {told} data set.*docs/training.md"):
        open_source(tmp_path)
