"""The house has four floors, imports only go down, and nowhere do they go round."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
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
    | {"accelerate", "tensorboard", "lpips", "scipy", "aiohttp", "planners", "cola_env"},
    "benchmarks": SCRIPTS
    | SIMULATORS
    | {"lpips", "matplotlib", "scipy", "planners", "cola_env", "cola_train"},
}
ADAPTED = {"gymnasium", "tensordict", "torchrl", "stable_baselines3"}
"""By the folders `adapters`, which nothing imports."""
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


def when_it_runs(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, inside functions too, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from when_it_runs(other)
            continue
        yield child
        yield from when_it_runs(child)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def import_graph() -> dict[str, set[str]]:
    """The modules of our packages, and which of them each imports, at its head or inside functions.

    A package is imported with any of its modules, so that it stands for itself alone here: only
    `from package import name` of a name that is no module counts as importing it.
    """
    files = {name_of(path): path for package in FLOORS for path in modules(package)}

    def imports(name: str, path: Path) -> Iterator[str]:
        package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
        for node in when_it_runs(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                source = ".".join([*above, *filter(None, [node.module])])
                for alias in node.names:
                    inside = f"{source}.{alias.name}"
                    yield inside if inside in files else source

    return {name: {*imports(name, path)} & files.keys() - {name} for name, path in files.items()}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of modules that import each other, by Tarjan's algorithm, each sorted."""
    found: list[list[str]] = []
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for following in sorted(graph[node]):
            if following not in number:
                visit(following)
            if following in stack:
                lowest[node] = min(lowest[node], lowest[following])
        if lowest[node] == number[node]:
            circle = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for node in graph:
        if node not in number:
            visit(node)
    return found


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert sorted(circles(graph)) == [["a", "b", "c"], ["d", "e"]]
    graph["c"], graph["e"] = set(), set()
    assert not circles(graph)


def test_imports_inside_functions_count_and_those_of_type_checkers_do_not() -> None:
    code = """
if TYPE_CHECKING:
    import a
else:
    import b
def f():
    from c import d
    class G:
        import e
"""
    assert set(imported(when_it_runs(ast.parse(code)))) == {"b", "c", "e"}


@pytest.mark.parametrize("package", FLOORS)
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    found = [circle for circle in circles(import_graph()) if circle[0].startswith(package)]
    assert not found, "\n".join(" <-> ".join(circle) for circle in found)


STOREYS = (
    ("errors", "files", "processes", "hdf5"),
    ("worlds", "inputs", "rollout"),
    ("checkpoints",),
    ("models",),
    ("scoring",),
    ("simulators",),
    ("goals",),
    ("envs",),
    ("registration",),
)
"""Floors within cola_env, from the ground up, as its docstring has them."""


def test_floors_within_cola_env_import_nothing_from_those_above() -> None:
    level = {name: i for i, storey in enumerate(STOREYS) for name in storey}

    def part(module: str) -> str:
        return module.split(".")[1]

    graph = {
        name: {other for other in others if other.startswith("cola_env.")}
        for name, others in import_graph().items()
        if name.startswith("cola_env.")
    }
    assert {part(name) for name in graph} == level.keys() & {part(name) for name in graph}
    wrong = [
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in others
        if level[part(other)] > level[part(name)]
    ]
    assert not wrong


@pytest.mark.parametrize("package", FLOORS)
def test_every_folder_of_code_says_what_lives_there(package: str) -> None:
    folders = {path.parent for path in modules(package)}
    silent = []
    for folder in sorted(folders):
        file = folder / "__init__.py"
        code = file.read_text(encoding="utf-8") if file.exists() else ""
        if not ast.get_docstring(ast.parse(code)):
            silent.append(str(folder.relative_to(ROOT)))
    assert not silent, f"without a docstring in __init__.py: {', '.join(silent)}"


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


def test_no_test_imports_another() -> None:
    """What several share lies in modules that hold no tests."""
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                named = [*str(node.module).split("."), *(alias.name for alias in node.names)]
                if named[0] == "tests" and any(name.startswith("test_") for name in named):
                    wrong.append(str(path.relative_to(ROOT)))
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
