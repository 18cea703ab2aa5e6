"""Finding and loading checkpoints: shipped ones by name, folders, and repositories of the hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError, safe_open

from cola_env.errors import ColaWorldError
from cola_env.worlds import ROBODESK, WorldInfo, find_world

if TYPE_CHECKING:
    from cola_env.models.world_model import ColaWorldModel

Model = TypeVar("Model", bound=ModelMixin)

SHIPPED = ("cola", "direct")
DEFAULT = "cola"
WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


def find_checkpoint(
    checkpoint: str | Path | None = None, world: str | WorldInfo = ROBODESK
) -> Path:
    """Folder of a checkpoint.

    checkpoint: a shipped name ("cola", "direct"), a folder, a hub id ("user/repository"), or
    None for the shipped "cola".
    world: whose shipped ones, by name or itself.
    Raises ColaWorldError when there is none or when its weights are missing or damaged.
    """
    world, name = find_world(world), str(checkpoint or DEFAULT)
    shipped = [world.assets / name] if name in SHIPPED else []
    for folder in (*shipped, Path(name).expanduser()):
        if folder.is_dir():
            return check_folder(folder)
    if name in SHIPPED:
        raise ColaWorldError(
            f"There is no checkpoint '{name}' of {world.simulator} in {world.assets}; train one "
            f"with 'python -m cola_train.collect env={world.name} out=DATA' and 'python -m "
            "cola_train data=DATA out=RUN' and pass checkpoint=RUN/finetune."
        )
    if isinstance(checkpoint, str) and name.count("/") == 1 and not name.startswith((".", "~")):
        return check_folder(download(name, ("*.json", "*.safetensors", "README.md")))
    raise ColaWorldError(
        f"There is no checkpoint '{name}': it is neither a shipped name ({', '.join(SHIPPED)}), "
        "nor an existing folder, nor a hub id like 'user/repository'."
    )


def check_folder(folder: Path) -> Path:
    """Return `folder` if it holds config.json and whole weights; ColaWorldError otherwise."""
    _read_json(folder / "config.json")
    for file in checkpoint_files(folder):
        _check_exists(file)
        try:
            with safe_open(file, framework="pt") as weights:
                weights.keys()
        except (SafetensorError, OSError) as error:
            raise ColaWorldError(
                f"The weights {file} are truncated or corrupt ({error}); copy or download the "
                "checkpoint again."
            ) from error
    return folder


def checkpoint_files(folder: Path) -> list[Path]:
    """The one file of the weights, or the shards that their index names."""
    if not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    shards = set(_read_json(folder / INDEX).get("weight_map", {}).values())
    return [folder / shard for shard in sorted(shards)]


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ColaWorldError(
            f"{file} is not valid JSON ({error}); copy or download the checkpoint again."
        ) from error
    if not isinstance(found, dict):
        raise ColaWorldError(f"{file} holds no JSON object; copy or download the checkpoint again.")
    return found


def load_weights(model_class: type[Model], folder: Path) -> Model:
    """`model_class.from_pretrained(folder)`, with bad files told in one sentence."""
    check_folder(folder)
    saved = _read_json(folder / "config.json").get("_class_name")
    if saved not in (None, model_class.__name__):
        raise ColaWorldError(
            f"{folder} holds a {saved}, not a {model_class.__name__}; choose another checkpoint."
        )
    try:
        model, info = model_class.from_pretrained(
            folder, low_cpu_mem_usage=False, output_loading_info=True
        )
        wrong = sorted({*info["missing_keys"], *info["unexpected_keys"]})
        if wrong:
            raise ValueError(f"missing or unexpected: {', '.join(wrong[:6])}")
    except (RuntimeError, ValueError, TypeError, OSError, SafetensorError) as error:
        raise ColaWorldError(
            f"The weights in {folder} do not fit its config.json ({error}); the checkpoint is "
            "from another version or damaged."
        ) from error
    weights = model.state_dict().items()
    if broken := [name for name, weight in weights if not weight.isfinite().all()]:
        raise ColaWorldError(
            f"The weights in {folder} are NaN or infinite ({', '.join(broken[:3])}): the training "
            "that made them had diverged; choose an earlier checkpoint."
        )
    return model


def load_model(
    checkpoint: str | Path | None = None,
    device: str | torch.device = "auto",
    world: str | WorldInfo = ROBODESK,
) -> "ColaWorldModel":
    """Load a world model for inference: eval mode, no gradients, on `device` (see pick_device).

    checkpoint, world, errors: see find_checkpoint.
    """
    from cola_env.models.world_model import ColaWorldModel

    model = load_weights(ColaWorldModel, find_checkpoint(checkpoint, world))
    return model.eval().requires_grad_(False).to(pick_device(device))


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """ "auto" is the GPU when there is one, else the CPU; ColaWorldError for a device not here."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ColaWorldError(
            f"Device '{device}' cannot be used here; pass device='auto' or device='cpu'."
        ) from error
    return torch.device(device)


def download(hub_id: str, patterns: Sequence[str]) -> Path:
    """Folder with the files of a hub repository that match ``patterns``; ColaWorldError if not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ColaWorldError(
            f"'{hub_id}' is no existing folder and could not be downloaded from the hub "
            f"({type(error).__name__}); check the name, the network and the access rights."
        ) from error
