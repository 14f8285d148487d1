"""Result files: written whole or not at all, and refused when damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .errors import UnreadableResult


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
    except (OSError, ValueError) as problem:
        reason = str(problem).splitlines()[0]
        raise UnreadableResult(f"{path} cannot be read ({reason}): delete it and run `pudle run` again") from None
    if not isinstance(content, dict):
        raise UnreadableResult(f"{path} is not a result of this suite: delete it and run `pudle run` again")
    return content
