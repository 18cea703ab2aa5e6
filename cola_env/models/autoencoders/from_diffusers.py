"""The modules of diffusers that bring transformers and torchvision along, imported when needed."""

import importlib
from typing import Any


def from_diffusers(module: str) -> Any:
    """The module `diffusers.{module}`, which imports transformers and torchvision where installed.

    Raises ImportError, in a sentence that says how to mend it, when one of them does not load.
    """
    try:
        return importlib.import_module(f"diffusers.{module}")
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        raise ImportError(
            f"diffusers.{module} cannot be imported, most often because the installed torchvision "
            "is of another build than torch: mend it with 'pip uninstall torchvision', or install "
            f"the one that matches your torch ({str(error).strip().splitlines()[-1]})."
        ) from error
