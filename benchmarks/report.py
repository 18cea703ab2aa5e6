"""The end of a small measurement: shown, and kept where asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cola_env.files import write_text


def report(results: dict[str, Any], out: str | None) -> None:
    """Prints ``results`` as JSON and writes them to the file ``out``, if one is named."""
    text = json.dumps(results, indent=1)
    print(text)
    if out:
        write_text(Path(out), text + "\n")
