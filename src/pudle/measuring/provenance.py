"""Where numbers come from: machine, versions, threads, commit."""

from __future__ import annotations

import datetime
import hashlib
import importlib
import os
import platform
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import pudle

from ..errors import PudleError
from ..kernel_choice import description
from ..workers import NOT_STARTED, run

#: Folders of this project's repository and the packages that they are installed as.
PACKAGE_FOLDERS = {"src/pudle": "pudle"} | {
    name: f"pudle.{name}" for name in ("estimators", "datasets", "bench", "reports")
}


class NoRepository(PudleError):
    """There is no git repository, or it has no commit to label results with."""


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    done = run(["git", "-C", folder, *arguments])
    why = (done.stderr.strip().splitlines() or [""])[0]
    if done.returncode == NOT_STARTED:
        raise NoRepository(f"git cannot be run ({why}): a history of commits needs it; install git")
    if done.returncode:
        raise NoRepository(
            f"no git repository with a commit at {folder}{f' ({why})' if why else ''}: a history of"
            " commits needs one; run inside a clone, or `git init` and commit first"
        )
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    """Return the root of the git repository around a folder, which must have a commit."""
    git(folder, "rev-parse", "--verify", "HEAD")
    return Path(git(folder, "rev-parse", "--show-toplevel"))


def results_home() -> Path:
    """Return where results go unless a command is told otherwise: ``.asv`` in the repository around
    the working folder.
    """
    try:
        return repository(Path.cwd()) / ".asv"
    except NoRepository:
        return Path.cwd() / ".asv"


def commit_of(root: Path) -> tuple[str, bool]:
    """Return the commit checked out at `root` and whether tracked files differ from it."""
    return git(root, "rev-parse", "HEAD"), bool(
        git(root, "status", "--porcelain", "--untracked-files=no")
    )


def check_installed(root: Path) -> None:
    """Raise PudleError if `root` is a checkout of this project, and any installed file differs from
    the checkout's.
    """
    if not (root / "src" / "pudle" / "__init__.py").exists():
        return
    for folder, package in PACKAGE_FOLDERS.items():
        location = Path(importlib.import_module(package).__path__[0])
        for file in sorted((root / folder).rglob("*.py")):
            installed = location / file.relative_to(root / folder)
            if not installed.exists() or file.read_bytes() != installed.read_bytes():
                raise PudleError(
                    f"the installed pudle differs from the checkout at {root}"
                    f" ({file.relative_to(root)}): results would carry the wrong commit; run `pip"
                    " install -e .` there first"
                )


def installed_commit(root: Path) -> tuple[str, bool]:
    """Return the commit of the checkout at `root`, and whether files differ from it, after a look
    whether it is the one that is installed, see `check_installed`.
    """
    check_installed(root)
    return commit_of(root)


@cache
def source_digest() -> str:
    """Return a digest of all source files of the installed package, which labels results that have
    no commit.
    """
    result = hashlib.sha256()
    for package in PACKAGE_FOLDERS.values():
        location = Path(importlib.import_module(package).__path__[0])
        for file in sorted(location.rglob("*.py")):
            result.update(
                f"{package}/{file.relative_to(location).as_posix()}\0".encode() + file.read_bytes()
            )
    return result.hexdigest()[:12]


@cache
def machine() -> dict[str, Any]:
    """Return what a reader needs to judge the numbers: machine, versions, threads."""
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    cpu = Path("/proc/cpuinfo")
    model = (
        re.search(r"^model name\s*:\s*(.+)$", cpu.read_text(), re.MULTILINE)
        if cpu.exists()
        else None
    )
    return {
        "pudle": pudle.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "asv", "asv_runner")},
        "blas": blas.group(1) if blas else "unknown",
        "machine": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": model.group(1) if model else platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def provenance(device: str, commit: str = "", dirty: bool = False) -> dict[str, Any]:
    """Return the provenance to keep with a result."""
    return {
        **machine(),
        "threads": torch.get_num_threads(),
        "device": device,
        "kernels": description(),
        "accelerator": torch.cuda.get_device_name() if device.startswith("cuda") else "",
        "commit": commit,
        "dirty": dirty,
        # Where no commit says what was measured, this does.
        "sources": "" if commit and not dirty else source_digest(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
