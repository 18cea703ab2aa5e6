"""Finding and loading checkpoints: shipped ones by name, folders, and repositories of the hub."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError, safe_open

from cola_env.errors import ColaWorldError, in_short
from cola_env.worlds import ROBODESK, WorldInfo, find_world

Model = TypeVar("Model", bound=ModelMixin)

SHIPPED = ("cola", "direct")
NEXT = "cola_pixels"
"""The next "cola" of RoboDesk: it imagines better, and is not judged at length as a planner yet."""
POLICY = "policy"
"""The name of a world's shipped policy, beside its models."""
DEFAULT = "cola"
HUGE = 1e15
"""A weight of such a size makes activations overflow."""
STEM = "diffusion_pytorch_model"
WEIGHTS = f"{STEM}.safetensors"
INDEX = f"{WEIGHTS}.index.json"
RECIPE = "recipe.yaml"
"""What makes a folder the ``out`` of a training."""
HUB_ID = re.compile(
    r"(?P<repository>(?P<user>[\w-][\w.-]*)/[\w.-]+)(?P<before>(?:/[\w.-]+)*)"
    r"(?:@(?P<revision>refs/[\w-]+/[\w.-]+|[\w.-]+)(?P<after>(?:/[\w.-]+)*))?"
)
LAYERS = {"depth", "num_layers", "blocks"}
"""Settings of which a model has at least a tensor each."""
WHOLE = {
    "num_heads", "hidden_size", "patch_size", "input_size", "image_size", "window", "in_channels",
    "num_tokens", "num_codes", "code_size", "num_inference_steps", "latent_channels", "channels",
    "convolutions",
}  # fmt: skip
NUMBERS = {"guidance_scale", "commitment_weight", "codebook_weight", "kl_weight"}
POSITIVE = WHOLE | {"position_scale"}
LARGEST = 10**7
"""Above any number in a config."""


def find_checkpoint(
    checkpoint: str | Path | None = None, world: str | WorldInfo = ROBODESK
) -> Path:
    """Folder of a checkpoint.

    checkpoint: a shipped name ("cola", "direct", "cola_pixels", "policy"), a model's folder, the
    `out` of a training (its last finished phase is taken), a hub id ("user/repository", with
    "@revision" and "/subfolder" where it needs them), or None for the shipped "cola".
    world: whose shipped ones, by name or itself.
    Raises ColaWorldError when there is none or when its weights are missing or damaged.
    """
    world, name = find_world(world), str(checkpoint or DEFAULT)
    names = (*SHIPPED, NEXT, POLICY)
    shipped = [world.assets / name] if name in names else []
    for folder in (*shipped, Path(name).expanduser()):
        if os.path.isdir(folder):
            return check_folder(_model_folder(folder))
    if name in names:
        training = "cola clone" if name == POLICY else "cola train"
        raise ColaWorldError(
            f"There is no checkpoint '{name}' of {world.simulator} in {world.assets}; train one "
            f"with 'cola collect env={world.reference} out=DATA' and '{training} data=DATA "
            "out=RUN', and give RUN in its place."
        )
    hub = HUB_ID.fullmatch(name) if isinstance(checkpoint, str) else None
    if hub and not Path(hub["user"]).is_dir():
        subfolder = (hub["before"] or hub["after"] or "").strip("/")
        files = ("*.json", "*.safetensors", "README.md")
        patterns = [f"{subfolder}/{file}" if subfolder else file for file in files]
        return check_folder(download(hub["repository"], patterns, hub["revision"]) / subfolder)
    raise ColaWorldError(
        f"There is no checkpoint '{name}': it is neither a shipped name ({', '.join(names)}), "
        "nor an existing folder, nor a hub id like 'user/repository' or "
        "'user/repository@revision/subfolder'."
    )


def finished_phases(run: Path) -> list[str]:
    """Of a training's ``out``, in order; their models lie in the folders of these names.

    Raises ColaWorldError when there is none.
    """
    import yaml

    try:
        recipe = yaml.safe_load((run / RECIPE).read_text()) if (run / RECIPE).is_file() else {}
        names = [str(name) for name in recipe.get("phases", {})]
    except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:
        raise ColaWorldError(f"{run / RECIPE} is damaged: pass the folder of a phase.") from error
    finished = [name for name in names if (run / name / "config.json").is_file()]
    if not finished:
        raise ColaWorldError(f"No phase of {run} is finished yet: train it to the end first.")
    return finished


def _model_folder(folder: Path) -> Path:
    """``folder``, or where it is the ``out`` of a training that of the last finished phase."""
    if (folder / "config.json").exists():
        return folder
    if (folder / RECIPE).is_file():
        return folder / finished_phases(folder)[-1]
    if inside := sorted(file.parent for file in folder.glob("*/config.json")):
        raise ColaWorldError(
            f"{folder} has no config.json, but models in {', '.join(map(str, inside))}: pass one "
            "of these folders."
        )
    return folder


def check_folder(folder: Path) -> Path:
    """Return `folder` if it holds config.json and whole weights; ColaWorldError otherwise."""
    _read_json(folder / "config.json")
    for file in checkpoint_files(folder):
        _shapes_in(file)
    return folder


def checkpoint_files(folder: Path) -> list[Path]:
    """The one file of the weights, or the shards that their index names; where there are none,
    those of the one variant (``*.fp16.safetensors``) that there is.

    Raises ColaWorldError when they are missing, or the index is damaged.
    """
    variant = _variant(folder)
    name = f"{STEM}.{variant}.safetensors" if variant else WEIGHTS
    index = folder / (f"{WEIGHTS}.index.{variant}.json" if variant else INDEX)
    if not index.is_file():
        return [folder / name]
    shards = _read_json(index).get("weight_map")
    files = list(shards.values()) if isinstance(shards, dict) else []
    if not files or not all(isinstance(n, str) and n and Path(n).name == n for n in files):
        raise ColaWorldError(
            f"{index} names no files of this folder; copy or download the checkpoint again."
        )
    return [folder / name for name in sorted(set(files))]


def _variant(folder: Path) -> str | None:
    """The variant that the weights have to be read in; None for weights without one."""
    if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        return None
    files = [file.name for file in folder.glob(f"{STEM}.*.safetensors")]
    found = {name.split(".")[1].partition("-")[0] for name in files}
    if len(found) > 1:
        raise ColaWorldError(
            f"{folder} holds the variants {', '.join(sorted(found))}: keep the files of one only."
        )
    if not found and any(folder.glob(f"{STEM}*.bin")):
        raise ColaWorldError(
            f"{folder} holds weights as .bin, which are not read: save them again as safetensors, "
            f"with ColaWorldModel.from_pretrained('{folder}').save_pretrained('{folder}')."
        )
    return next(iter(found), None)


def _shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a file of weights; raises ColaWorldError when it is missing, damaged or holds
    complex numbers, of which a model would drop a part."""
    _check_exists(file)
    try:
        with safe_open(file, framework="pt") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}
            if any(part.get_dtype().startswith("C") for part in slices.values()):
                raise ColaWorldError(f"The weights {file} are complex numbers, which no model has.")
            return {name: tuple(part.get_shape()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ColaWorldError(
            f"The weights {file} are truncated or corrupt ({error}); copy or download the "
            "checkpoint again."
        ) from error


def _check_exists(file: Path) -> None:
    if not file.is_file():
        raise ColaWorldError(
            f"The checkpoint folder {file.parent} has no {file.name}; save one there with "
            "save_pretrained or choose another checkpoint."
        )


def _read_json(file: Path) -> dict[str, Any]:
    _check_exists(file)
    try:
        found = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ColaWorldError(
            f"{file} is not valid JSON ({error}); copy or download the checkpoint again."
        ) from error
    if not isinstance(found, dict):
        raise ColaWorldError(f"{file} holds no JSON object; copy or download the checkpoint again.")
    return found


def load_weights(model_class: type[Model], folder: Path) -> Model:
    """`model_class.from_pretrained(folder)`, with bad files told in one sentence."""
    check_folder(folder)
    config = _read_json(folder / "config.json")
    saved = config.get("_class_name")
    if saved not in (None, model_class.__name__):
        raise ColaWorldError(
            f"{folder} holds a {saved}, not a {model_class.__name__}; choose another checkpoint."
        )
    weights = {k: v for file in checkpoint_files(folder) for k, v in _shapes_in(file).items()}
    _check_numbers(config, len(weights), folder)
    try:
        with torch.device("meta"):
            described = model_class.from_config(config).state_dict()
        shapes = {name: tuple(value.shape) for name, value in described.items()}
        if wrong := sorted(shapes.keys() ^ weights.keys()):
            raise ValueError(f"missing or unexpected: {', '.join(wrong[:6])}")
        if wrong := [name for name in shapes if shapes[name] != weights[name]]:
            told = f"{wrong[0]} is {weights[wrong[0]]} there, {shapes[wrong[0]]} in config.json"
            raise ValueError(told)
        model: Model = model_class.from_pretrained(
            folder, variant=_variant(folder), low_cpu_mem_usage=False, local_files_only=True
        )
    except Exception as error:  # whatever a model's classes make of a config that is damaged
        told = in_short(error)
        raise ColaWorldError(
            f"The weights in {folder} do not fit its config.json ({type(error).__name__}: {told}); "
            "the checkpoint is from another version or damaged."
        ) from error
    if len({weight.dtype for weight in model.parameters()}) > 1:
        model.float()
    loaded = model.state_dict().items()
    if broken := [name for name, weight in loaded if not (weight.abs() < HUGE).all()]:
        raise ColaWorldError(
            f"The weights in {folder} are NaN or infinite, or as good as that "
            f"({', '.join(broken[:3])}): the training that made them had diverged; choose an "
            "earlier checkpoint."
        )
    return model


def _check_numbers(config: Any, tensors: int, folder: Path, key: str = "") -> None:
    """Raises ColaWorldError for numbers that no model with so many tensors has been made with."""
    if isinstance(config, dict):
        for name, value in config.items():
            _check_numbers(value, tensors, folder, name)
        return
    if isinstance(config, list):
        for value in config:
            _check_numbers(value, tensors, folder, key)
        return
    number = isinstance(config, int | float) and not isinstance(config, bool)
    most = tensors if key in LAYERS else LARGEST
    wrong = (
        number
        and not (0 < config if key in POSITIVE else 0 <= config)
        or (number and not config <= most)
    )
    if wrong or (key in WHOLE and type(config) is not int) or (key in NUMBERS and not number):
        raise ColaWorldError(
            f"{folder / 'config.json'} says {key}={config}, which no model has: the checkpoint is "
            "damaged."
        )


def download(hub_id: str, patterns: Sequence[str], revision: str | None = None) -> Path:
    """Folder with the files of a hub repository that match ``patterns``; ColaWorldError if not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ColaWorldError(
            f"'{hub_id}' is no existing folder and could not be downloaded from the hub "
            f"({type(error).__name__}); check the name, the network and the access rights."
        ) from error
