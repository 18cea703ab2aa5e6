"""The house has four floors and imports only go down."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("planners", "cola_env", "cola_train", "benchmarks")

SIMULATORS = {"robodesk", "gym", "mujoco", "dm_control", "dm_env", "libero", "robosuite", "bddl"}
TENSORS = {"torch", "numpy", "einops", "safetensors"}
CORE = TENSORS | {"gymnasium", "diffusers", "huggingface_hub", "PIL", "yaml", "lazy_loader"}
SCRIPTS = CORE | {"tqdm", "hydra", "omegaconf", "av", "h5py", "pyarrow", "rich"}
ALLOWED = {
    "planners": {"torch", "numpy"},
    "cola_env": CORE | SIMULATORS | {"h5py"},
    "cola_train": SCRIPTS
    | SIMULATORS
    | {"accelerate", "tensorboard", "lpips", "aiohttp", "planners", "cola_env"},
    "benchmarks": SCRIPTS
    | SIMULATORS
    | {"lpips", "matplotlib", "scipy", "planners", "cola_env", "cola_train"},
}
ADAPTED = {"gymnasium", "tensordict", "torchrl"}  # by planners/adapters, which nothing imports
OPTIONAL = SIMULATORS | {
    "av",
    "h5py",
    "pyarrow",
    "hydra",
    "omegaconf",
    "rich",
    "lpips",
    "torchvision",
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Top-level names that the import statements among `nodes` name; relative ones stay inside."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).partition(".")[0]


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from outside_functions(child)


@pytest.mark.parametrize("package", FLOORS)
def test_a_floor_imports_only_what_it_may(package: str) -> None:
    allowed = ALLOWED[package] | set(sys.stdlib_module_names) | {package}
    files = modules(package)
    assert files, f"{package} holds no module"
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        if name not in allowed | (ADAPTED if path.parent.name == "adapters" else set())
    }
    assert not wrong


@pytest.mark.parametrize("package", FLOORS)
def test_torchvision_is_never_imported_with_a_module(package: str) -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules(package)
        if {"torchvision", "lpips"}
        & set(imported(outside_functions(ast.parse(path.read_text(encoding="utf-8")))))
    ]
    assert not wrong


def test_the_core_imports_and_registers_without_any_optional_package() -> None:
    program = f"""
import sys
for name in {sorted(OPTIONAL)}:
    sys.modules[name] = None
import gymnasium
before = set(gymnasium.registry)
import cola_env, planners
print(*sorted(set(gymnasium.registry) - before))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    ids = run.stdout.split()
    assert {"ColaWorld-RoboDesk-v0", "RoboDesk-v0"} <= set(ids)
    assert all(env_id.startswith(("ColaWorld-", "RoboDesk-", "LIBERO-")) for env_id in ids)


def test_dreams_need_no_torchvision_that_fits_and_what_does_need_it_says_so(tmp_path: Path) -> None:
    for name, code in {
        "torchvision": "raise RuntimeError('operator torchvision::nms does not exist')",
        "transformers": "def __getattr__(name):\n    import torchvision",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)
        metadata = tmp_path / f"{name}-5.0.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 5.0.0\n")
    program = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
import cola_env.envs.vector_env, cola_env.models.world_model
from cola_env.models.autoencoders.vae import OpenSoraVAE, VAEConfig
assert "torchvision" not in sys.modules
try:
    OpenSoraVAE(VAEConfig())
except ImportError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert "pip uninstall torchvision" in run.stdout and "torchvision::nms" in run.stdout
    assert run.stdout.count("\n") == 1


def test_a_custom_planner_needs_neither_the_models_nor_gymnasium() -> None:
    blocked = sorted(OPTIONAL | {"gymnasium", "diffusers", "cola_env"})
    program = f"""
import sys
for name in {blocked}:
    sys.modules[name] = None
import planners
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=300)
