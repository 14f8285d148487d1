"""Result files: written whole or not at all, and refused when damaged."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UnreadableResult

if TYPE_CHECKING:
    import numpy as np


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that the suite wrote.

    Raises
    ------
    UnreadableResult
        If the file is missing, half written or not a JSON object; the text names the file.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UnreadableResult(f"{path} cannot be read ({reason}): delete it and run `pudle run` again") from None
    if not isinstance(content, dict):
        raise UnreadableResult(f"{path} is not a result of this suite: delete it and run `pudle run` again")
    return content


def read_arrays(path: Path, names: Iterable[str], *, owner: Path | None = None) -> dict[str, np.ndarray]:
    """Read arrays of an .npz file that the suite wrote.

    Parameters
    ----------
    path : Path
    names : iterable of str
    owner : Path, optional
        The file to delete for these to be made again; that file itself where not given.

    Raises
    ------
    UnreadableResult
        If it is missing or damaged, or lacks one of them; the text names the file.
    """
    import numpy as np

    try:
        # Opened here: numpy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        raise UnreadableResult(
            f"{path} cannot be read ({reason}): delete {owner or 'it'} and run `pudle run` again"
        ) from None
