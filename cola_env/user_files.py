"""Files that a user has to download, checked before they are used."""

import hashlib
from pathlib import Path

from cola_env.errors import ColaWorldError


def find_user_file(path: str | Path, what: str, sha256: str | None = None) -> Path:
    """``path`` if it is a file whose SHA-256 begins with ``sha256`` (hexadecimal; None: any).

    Raises ColaWorldError, which calls it ``what`` ("LPIPS needs ..."), otherwise.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ColaWorldError(f"{file} does not exist: {what}, which you have to download yourself.")
    if sha256 is not None:
        with open(file, "rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if not found.startswith(sha256.lower()):
            raise ColaWorldError(
                f"{file} has the SHA-256 {found[:16]}..., not {sha256}: it is another file or "
                "damaged, download it again."
            )
    return file
