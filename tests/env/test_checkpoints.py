import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cola_env.checkpoints import WEIGHTS, checkpoint_files, find_checkpoint
from cola_env.errors import ColaWorldError
from cola_env.models.loading import load_model, pick_device, pick_devices
from cola_env.scoring.rewards import ClassifierReward
from cola_env.scoring.success_classifier import SuccessClassifier, find_classifier, load_classifier
from cola_env.worlds import ROBODESK


@pytest.fixture
def copy(checkpoints, tmp_path):
    return shutil.copytree(checkpoints["direct"], tmp_path / "direct")


def test_a_saved_model_comes_back_the_same_and_ready_for_inference(checkpoints):
    model = load_model(checkpoints["latent"], "cpu")
    again = load_model(str(checkpoints["latent"]), "cpu")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name])


def test_weights_in_several_files(checkpoints, tmp_path):
    model = load_model(checkpoints["direct"])
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    files = checkpoint_files(tmp_path)
    assert len(files) > 1 and set(files) == set(tmp_path.glob("*.safetensors"))
    assert all(map(torch.equal, load_model(tmp_path).parameters(), model.parameters()))
    files[-1].unlink()
    with pytest.raises(ColaWorldError, match=f"has no {files[-1].name}"):
        find_checkpoint(tmp_path)


def test_a_folder_wins_over_a_hub_id_of_the_same_name(checkpoints, monkeypatch):
    monkeypatch.chdir(checkpoints["direct"].parent.parent)
    name = f"{checkpoints['direct'].parent.name}/direct"
    assert find_checkpoint(name).resolve() == checkpoints["direct"]


def test_only_shipped_names_are_looked_up_in_the_package(copy, monkeypatch):
    for name in ("goals", "cola"):
        copy.with_name(name).symlink_to(copy)
    monkeypatch.chdir(copy.parent)
    assert find_checkpoint("goals").samefile(copy)
    assert find_checkpoint("cola") == ROBODESK.assets / "cola"
    monkeypatch.chdir(copy)
    assert find_checkpoint(".").samefile(copy)


def test_a_hub_id_is_downloaded(checkpoints, monkeypatch):
    asked = []

    def download(repo_id, **options):
        asked.append(repo_id)
        return str(checkpoints["direct"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert find_checkpoint("someone/colaworld") == checkpoints["direct"]
    assert asked == ["someone/colaworld"]


def test_a_failed_download_is_one_sentence(monkeypatch):
    def download(repo_id, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ColaWorldError, match="could not be downloaded"):
        find_checkpoint("someone/colaworld")


def test_missing_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr("cola_env.worlds.ASSETS", tmp_path)
    with pytest.raises(
        ColaWorldError, match="no checkpoint 'cola' of RoboDesk.*env=robodesk.*cola train"
    ):
        find_checkpoint()
    with pytest.raises(ColaWorldError, match="no checkpoint 'policy' of RoboDesk.*cola clone"):
        find_checkpoint("policy")
    with pytest.raises(ColaWorldError, match="There is no checkpoint 'nonsense'.*"):
        find_checkpoint("nonsense")
    with pytest.raises(ColaWorldError, match="There is no checkpoint"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ColaWorldError, match="no config.json"):
        find_checkpoint(tmp_path)


def test_weights_that_are_missing(copy):
    (copy / WEIGHTS).unlink()
    with pytest.raises(ColaWorldError, match=f"no {WEIGHTS}"):
        find_checkpoint(copy)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
def test_weights_that_are_truncated(copy, kept):
    whole = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(whole[: kept if kept in (0, 4, 100) else int(kept * len(whole))])
    with pytest.raises(ColaWorldError, match="truncated or corrupt"):
        find_checkpoint(copy)


def test_weights_that_are_no_safetensors(copy):
    (copy / WEIGHTS).write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(ColaWorldError, match="truncated or corrupt"):
        load_model(copy, "cpu")


def test_a_damaged_config(copy):
    (copy / "config.json").write_text('{"_class_name": "Cola')
    with pytest.raises(ColaWorldError, match="not valid JSON"):
        load_model(copy, "cpu")


def test_a_config_that_is_no_object(copy):
    (copy / "config.json").write_text("[]")
    with pytest.raises(ColaWorldError, match="config.json holds no JSON object"):
        load_model(copy, "cpu")
    with pytest.raises(ColaWorldError, match="config.json holds no JSON object"):
        find_checkpoint(copy)
    assert find_classifier(copy) != copy


def test_a_config_of_another_size(copy):
    config = json.loads((copy / "config.json").read_text())
    config["stdit_config"]["hidden_size"] = 32
    config["conditioner_config"]["hidden_size"] = 32
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ColaWorldError, match="do not fit"):
        load_model(copy, "cpu")


def test_a_checkpoint_of_another_kind(checkpoints):
    with pytest.raises(ColaWorldError, match="holds a SuccessClassifier, not a ColaWorldModel"):
        load_model(checkpoints["classifiers"], "cpu")


def test_a_device_that_is_not_here():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ColaWorldError, match="device='auto'"):
        pick_device("cuda:7" if torch.cuda.is_available() else "cuda")
    with pytest.raises(ColaWorldError, match="cannot be used"):
        pick_device("toaster")


def test_several_devices():
    assert pick_devices("cpu") == [torch.device("cpu")]
    assert pick_devices("auto", ["cpu", "cpu"]) == [torch.device("cpu")] * 2
    with pytest.raises(ColaWorldError, match="'toaster' cannot be used"):
        pick_devices("auto", ["cpu", "toaster"])
    with pytest.raises(ColaWorldError, match=r"must be a list of devices, such as \[cuda:0"):
        pick_devices("auto", "cuda:0")
    with pytest.raises(ColaWorldError, match="must be a list"):
        pick_devices("auto", [])
    with pytest.raises(ColaWorldError, match="of several kinds"):
        pick_devices("auto", ["cpu", "meta"])
    with pytest.raises(ColaWorldError, match="not both"):
        pick_devices("cpu", ["cpu", "cpu"])


def test_classifiers_are_found_inside_and_beside_a_checkpoint(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("cola_env.worlds.ASSETS", tmp_path / "none")
    assert find_classifier(checkpoints["direct"]) == checkpoints["classifiers"]
    assert find_classifier(checkpoints["classifiers"]) == checkpoints["classifiers"]
    inside = tmp_path / "model" / "classifiers"
    SuccessClassifier(width=4).save_pretrained(inside)
    assert find_classifier(tmp_path / "model") == inside
    elsewhere = tmp_path / "elsewhere" / "model"
    elsewhere.mkdir(parents=True)
    assert find_classifier(elsewhere) is None
    with pytest.raises(ColaWorldError, match="cola_train.classifier"):
        load_classifier(elsewhere)


def test_a_mistyped_classifier_folder_is_not_the_shipped_one(tmp_path, monkeypatch):
    for find in (load_classifier, find_classifier, partial(ClassifierReward, "push_red")):
        with pytest.raises(ColaWorldError, match="no folder .*nowhere"):
            find(tmp_path / "nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    SuccessClassifier(tasks=("stack",), width=4).save_pretrained(tmp_path / "mine")
    assert load_classifier("~/mine").tasks == ("stack",)


def rename(folder, *pairs):
    for before, after in pairs:
        (folder / before).rename(folder / after)


def test_the_one_variant_of_a_folder_is_taken(copy):
    whole = load_model(copy, "cpu")
    rename(copy, (WEIGHTS, "diffusion_pytorch_model.fp16.safetensors"))
    assert [file.name for file in checkpoint_files(copy)] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]
    assert all(map(torch.equal, load_model(copy, "cpu").parameters(), whole.parameters()))
    shutil.copy(
        copy / "diffusion_pytorch_model.fp16.safetensors",
        copy / "diffusion_pytorch_model.ema.safetensors",
    )
    with pytest.raises(ColaWorldError, match="variants ema, fp16: keep the files of one only"):
        load_model(copy, "cpu")


def test_a_variant_in_several_files(checkpoints, tmp_path):
    model = load_model(checkpoints["direct"])
    model.save_pretrained(tmp_path, max_shard_size="100KB", variant="fp16")
    assert len(checkpoint_files(tmp_path)) > 1
    assert all(map(torch.equal, load_model(tmp_path).parameters(), model.parameters()))


def test_bin_files_are_refused_with_the_cure(copy):
    rename(copy, (WEIGHTS, "diffusion_pytorch_model.bin"))
    with pytest.raises(ColaWorldError, match=r"as \.bin.*save_pretrained"):
        load_model(copy, "cpu")


def test_complex_weights(copy):
    weights = load_file(copy / WEIGHTS)
    name = next(iter(weights))
    save_file(weights | {name: weights[name].to(torch.complex64)}, copy / WEIGHTS)
    with pytest.raises(ColaWorldError, match="complex numbers, which no model has"):
        load_model(copy, "cpu")


@pytest.mark.parametrize(
    "weight_map", [None, {}, [], 3, {"a": 3}, {"a": "../other.safetensors"}, {"a": "/etc/passwd"}]
)
def test_a_damaged_index(copy, weight_map):
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ColaWorldError, match="names no files of this folder"):
        load_model(copy, "cpu")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("stdit_config", "num_heads"), 0),
        (("stdit_config", "depth"), 10**9),
        (("stdit_config", "depth"), 5000),
        (("stdit_config", "hidden_size"), 10**7),
        (("stdit_config", "hidden_size"), -64),
        (("stdit_config", "window"), "long"),
        (("stdit_config", "position_scale"), 0),
        (("num_inference_steps",), 0),
        (("image_size",), 2.5),
        (("image_size",), 65),
        (("image_size",), 72),
        (("guidance_scale",), float("nan")),
        (("guidance_scale",), "x"),
        (("stdit_config",), "x"),
        (("autoencoder_config", "channels"), [0, 0]),
        (("no_such_setting",), 10**12),
    ],
)
def test_a_config_of_no_model(copy, keys, value):
    config = json.loads((copy / "config.json").read_text())
    place = config
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ColaWorldError, match="damaged"):
        load_model(copy, "cpu")


@pytest.mark.parametrize(
    ("name", "revision", "subfolder"),
    [
        ("someone/cola@v1.0", "v1.0", ""),
        ("someone/cola/models/mini", None, "models/mini"),
        ("someone/cola@v1/models", "v1", "models"),
        ("someone/cola/models@v1", "v1", "models"),
        ("someone/cola@refs/pr/3/models", "refs/pr/3", "models"),
    ],
)
def test_revisions_and_subfolders_of_the_hub(
    checkpoints, tmp_path, monkeypatch, name, revision, subfolder
):
    shutil.copytree(checkpoints["direct"], tmp_path / subfolder, dirs_exist_ok=True)
    asked = {}

    def download(repo_id, **options):
        asked.update(options, repo_id=repo_id)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert find_checkpoint(name) == tmp_path / subfolder
    assert (asked["repo_id"], asked["revision"]) == ("someone/cola", revision)
    assert asked["allow_patterns"][0] == (f"{subfolder}/*.json" if subfolder else "*.json")


def test_a_mistyped_path_is_not_looked_up_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("runs/mine", "runs/mine/finetune", "a/b@c@d", "a//b"):
        with pytest.raises(ColaWorldError, match="There is no checkpoint"):
            find_checkpoint(name)


def test_a_trainings_folder_is_its_last_finished_phase(copy, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(copy, run / "pretrain")
    (run / "recipe.yaml").write_text("phases: {pretrain: {}, adapter: {}, finetune: {}}\n")
    assert find_checkpoint(run) == run / "pretrain"
    shutil.copytree(copy, run / "adapter")
    assert find_checkpoint(str(run)) == run / "adapter"
    (run / "recipe.yaml").write_text("phases: {later: {}}\n")
    with pytest.raises(ColaWorldError, match="No phase of .*run is finished"):
        find_checkpoint(run)
    for damaged in ("{", "- 1", "phases: 3"):
        (run / "recipe.yaml").write_text(damaged)
        with pytest.raises(ColaWorldError, match=r"recipe\.yaml is damaged"):
            find_checkpoint(run)
    (run / "recipe.yaml").unlink()
    with pytest.raises(ColaWorldError, match="models in .*/adapter, .*/pretrain: pass one"):
        find_checkpoint(run)


def test_weights_that_are_nan_are_refused(copy):
    weights = load_file(copy / WEIGHTS)
    name = next(iter(weights))
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, copy / WEIGHTS, {"format": "pt"})
    with pytest.raises(ColaWorldError, match="NaN or infinite"):
        load_model(copy, "cpu")
