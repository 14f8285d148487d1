"""Result files: they are written completely or not at all, and refused when damaged."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UnreadableResult, first_line

if TYPE_CHECKING:
    import numpy as np


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file such that a reader sees either the old content or the new, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what `write_atomically` left in a folder, or below it, when its process was killed."""
    for path in folder.rglob(".*.tmp"):
        process = path.name.split(".")[-2]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except (ValueError, OverflowError, PermissionError):
            # Not one of ours, or still being written by another user.
            continue


def strict(content: Any) -> Any:
    """Return a content as JSON holds it: numpy's numbers become Python's, NaN and infinities None.

    TypeError, ValueError and AttributeError say that it holds something else.
    """
    text = json.dumps(content, default=lambda value: dict(value) if isinstance(value, Mapping) else value.item())
    return json.loads(text, parse_constant=lambda _: None)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a result file, or raise UnreadableResult, which names the file."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnreadableResult(f"{path} cannot be read ({first_line(error)}): delete it and run `pudle run` again") from None
    if not isinstance(content, dict):
        raise UnreadableResult(f"{path} is not a result file of pudle: delete it and run `pudle run` again")
    return content


def read_arrays(path: Path, names: Iterable[str], *, owner: Path | None = None) -> dict[str, np.ndarray]:
    """Read named arrays from an .npz result file, or raise UnreadableResult if it is damaged or lacks one.

    The error says to delete the file or, if given, its `owner`, the record that comes with the arrays.
    """
    import numpy as np

    try:
        # The file is opened here, because numpy does not close a damaged one.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = first_line(error) or "it is empty"
        raise UnreadableResult(
            f"{path} cannot be read ({reason}): delete {owner or 'it'} and run `pudle run` again"
        ) from None
