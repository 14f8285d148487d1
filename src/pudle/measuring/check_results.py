"""The results of the last `pudle check` of each estimator, in the user's folder for caches."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .. import names
from ..errors import UnwritableFile
from ..files import cache_folder, write_atomically
from . import sources

if TYPE_CHECKING:
    # `pudle check` refuses a name without waiting for torch.
    from ..estimator import GradientEstimator

#: What a report says of a plug-in.
CHECKED, FAILED, NOT_CHECKED = "checked", "failed its check", "not checked"
#: What it says of one that passed ``--quick`` alone, and what precedes the key of it.
QUICKLY = "checked quickly"


def _cache() -> Path:
    """Return the file that holds what failed last."""
    return cache_folder() / "failed_checks.json"


def failures() -> dict[str, Sequence[str]]:
    """Return the titles of the checks that failed when they last ran, by the spec and by the key of
    an estimator; an empty list for one that passed. After `CHECKED` stands the spec, with an
    absolute path, of one that passed all checks.

    They are read from the user's folder for caches; without a readable file there are none.
    """
    with suppress(OSError, RuntimeError, msgspec.MsgspecError):
        return msgspec.json.decode(_cache().read_bytes(), type=dict[str, Sequence[str]])
    return {}


def remember(failed: dict[str, Sequence[str]]) -> None:
    """Add which checks failed, by spec and by key, to the file in the user's folder for caches;
    where nothing can be written, nothing is kept.
    """
    with suppress(RuntimeError, UnwritableFile):
        write_atomically(_cache(), msgspec.json.encode(failures() | failed))


def key_of(estimator: "GradientEstimator") -> str:
    """Return the digest, 16 digits, of an estimator: its options, its own sources, and its
    fingerprint. Sources of this package's rooms do not count.
    """
    parts = names.text(estimator), sources.digest((), estimator), estimator.fingerprint()
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def check_status(key: str) -> str:
    """Return the result of the last check of the estimator of a key: ``checked``, ``failed its
    check``, ``checked quickly`` or ``not checked``. Reads the user's folder for caches.
    """
    known = failures()
    if key in known:
        return FAILED if known[key] else CHECKED
    return QUICKLY if QUICKLY + key in known else NOT_CHECKED


def passed_with_other_options(spec: str) -> list[str]:
    """Return the specs of the same estimator with other options that passed all checks, and failed
    none since. Reads the user's folder for caches.
    """
    known, absolute = failures(), names.move_paths(spec, Path.absolute)
    (name, _, _), (absolute_name, _, _) = spec.partition("("), absolute.partition("(")
    passed = [key.removeprefix(CHECKED) for key in known if key.startswith(CHECKED)]
    return [
        name + other.removeprefix(absolute_name)
        for other in passed
        if other.partition("(")[0] == absolute_name and other != absolute and not known.get(other)
    ]
