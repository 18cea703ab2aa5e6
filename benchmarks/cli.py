"""All commands under one name: `cola COMMAND ...` is `python -m MODULE ...`."""

from __future__ import annotations

import ast
import difflib
import os
import re
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from cola_env.errors import ColaWorldError

COMMANDS = {
    "play": "cola_train.play.__main__",
    "train": "cola_train.__main__",
    "collect": "cola_train.collect",
    "controllers": "cola_train.controllers.__main__",
    "classifier": "cola_train.classifier",
    "clone": "cola_train.clone",
    "goals": "benchmarks.make_goals",
    "average": "cola_train.average",
    "publish": "cola_train.publish",
    "show": "cola_train.show",
    "codebook": "cola_train.codebook",
    "describe": "cola_train.describe",
    "vp2": "benchmarks.vp2",
    "merge": "benchmarks.merge",
    "filmstrip": "benchmarks.filmstrip",
    "fidelity": "benchmarks.fidelity",
    "policies": "benchmarks.policies",
    "dream-rl": "benchmarks.dream_rl",
    "latent-policies": "benchmarks.latent_policies",
    "obeys": "benchmarks.obeys",
    "speed": "benchmarks.speed",
    "gpu-check": "benchmarks.gpu_check",
    "recipes": "benchmarks.recipes",
    "paper": "benchmarks.paper",
    "power": "benchmarks.paper_experiments.power",
}
"""Names of commands, and the modules whose ``main`` they run."""


def source(module: str) -> Path:
    """The file of a module of ours; nothing is imported."""
    package, *path = module.split(".")
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent.joinpath(*path).with_suffix(".py")


def summary(module: str) -> str:
    """What a module's docstring says before it shows its command."""
    about = ast.get_docstring(ast.parse(source(module).read_text(encoding="utf-8"))) or ""
    return re.split(r":? *(?:`|python )", about.partition("\n")[0], maxsplit=1)[0].rstrip(".")


def help_text() -> str:
    """All commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary(module)}" for name, module in COMMANDS.items()]
    head = "Usage: cola COMMAND [settings]\n\nCommands; each tells its settings by --help:"
    return "\n".join([head, *lines])


def module_of(name: str) -> str:
    """The module of a command. Raises ColaWorldError, which names the nearest one, for others."""
    if name in COMMANDS:
        return COMMANDS[name]
    close = difflib.get_close_matches(name, COMMANDS, 1, 0.5)
    told = f"did you mean {close[0]}?" if close else "cola --help lists those that there are."
    raise ColaWorldError(f"There is no command {name}: {told}")


def run(name: str, arguments: list[str]) -> None:
    """Runs a command as `python -m` would: modules of the current folder can be imported."""
    module = module_of(name)
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    sys.argv = [f"cola {name}", *arguments]
    try:
        main = import_module(module).main
    except ModuleNotFoundError as error:
        raise ColaWorldError(
            f"cola {name} needs more packages ({error}): "
            "pip install 'colaworld[robodesk,train,play]'."
        ) from error
    main()


def main() -> None:
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "--help", "help"):
        print(help_text())
    elif given[0] == "--version":
        print(version("colaworld"))
    else:
        try:
            run(given[0], given[1:])
        except ColaWorldError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
