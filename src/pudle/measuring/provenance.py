"""Where numbers come from: machine, versions, threads, commit."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import os
import platform
import re
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import pudle

from ..errors import PudleError

#: Folders of this project's repository and the packages they are installed as.
BESIDE = ("estimators", "datasets", "bench", "reports")
SOURCES = {"src/pudle": "pudle"} | {name: f"pudle.{name}" for name in BESIDE}

#: What experiments depend on and scores do not: folders and files of the core.
TRAINING = {"learning", "experiment.py"}
#: What no score depends on. Whatever is not named here outdates stored scores when it changes.
NOT_MEASURING = TRAINING | {
    "commands", "conformance", "__main__.py", "cli.py", "errors.py", "files.py", "registry.py", "specs.py",
    "measuring/provenance.py", "measuring/store.py",
}  # fmt: skip
#: What nothing measured depends on, in whichever folder.
NOTHING = {"__init__.py", "sklearn_wrapper.py"}


class NoRepository(PudleError):
    """There is no git repository, or it has no commit to label results with."""


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise NoRepository("git is not installed: results are kept per commit; install git") from None
    except subprocess.CalledProcessError:
        raise NoRepository(
            f"no git repository with a commit at {folder}: results are kept per commit; "
            f"run inside a clone, or `git init` and commit first, or measure accuracy alone with --scores-only"
        ) from None
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    """Return the root of the git repository around a folder, which must have a commit."""
    git(folder, "rev-parse", "--verify", "HEAD")
    return Path(git(folder, "rev-parse", "--show-toplevel"))


def commit_of(root: Path) -> tuple[str, bool]:
    """Return the commit checked out at `root` and whether tracked files differ from it."""
    return git(root, "rev-parse", "HEAD"), bool(git(root, "status", "--porcelain", "--untracked-files=no"))


def check_installed(root: Path) -> None:
    """Refuse to label results with the commit of a checkout of this project that is not what is installed.

    Raises
    ------
    PudleError
        If `root` holds this project and any of its installed files differs from the checkout's.
    """
    if not (root / "src" / "pudle" / "__init__.py").exists():
        return
    for folder, package in SOURCES.items():
        spec = importlib.util.find_spec(package)
        locations = spec.submodule_search_locations if spec else None
        for mine in sorted((root / folder).rglob("*.py")):
            theirs = Path(locations[0]) / mine.relative_to(root / folder) if locations else None
            if theirs is None or not theirs.exists() or mine.read_bytes() != theirs.read_bytes():
                raise PudleError(
                    f"the installed pudle differs from the checkout at {root} ({mine.relative_to(root)}): results would "
                    f"carry the wrong commit; run `pip install -e .` there first"
                )


def core_files() -> dict[str, Path]:
    """Return the files of the core by their paths inside it; what is installed beside it is left out."""
    core = Path(pudle.__file__).parent
    found = {path.relative_to(core): path for path in sorted(core.rglob("*.py"))}
    return {path.as_posix(): file for path, file in found.items() if path.parts[0] not in BESIDE}


@cache
def suite_digest() -> str:
    """Return a digest of everything in the core that measures: a change to it outdates every stored score."""
    return _digest(lambda name: not _within(name, NOT_MEASURING))


@cache
def training_digest() -> str:
    """Return a digest of what trains: a change to it outdates every stored experiment."""
    return _digest(lambda name: _within(name, TRAINING))


def _within(name: str, names: set[str]) -> bool:
    """Whether a file of the core is one of those named, or in a folder that is."""
    return name in names or name.partition("/")[0] in names


def _digest(chosen: Callable[[str], bool]) -> str:
    digest = hashlib.sha256(pudle.__version__.encode())
    for name, file in core_files().items():
        if file.name not in NOTHING and chosen(name):
            digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def machine() -> dict[str, Any]:
    """Return what a reader needs to judge the numbers: machine, versions, threads."""
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return {
        "pudle": pudle.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "asv", "asv_runner")},
        "blas": blas.group(1) if blas else "unknown",
        "machine": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def provenance(device: str, commit: str = "", dirty: bool = False) -> dict[str, Any]:
    """Return the provenance to keep with a result."""
    accelerator = torch.cuda.get_device_name() if device.startswith("cuda") else ""
    return {
        **machine(),
        "threads": torch.get_num_threads(),
        "device": device,
        "accelerator": accelerator,
        "commit": commit,
        "dirty": dirty,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match.group(1) if match else platform.processor() or "unknown"
