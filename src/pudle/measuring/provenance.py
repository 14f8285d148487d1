"""Where numbers come from: machine, versions, threads, commit."""

import datetime
import importlib
import os
import platform
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from msgspec import Struct, structs

import pudle

from ..errors import PudleError
from ..kernel_choice import description
from ..workers import NOT_STARTED, run
from .sources import digest_of

#: Folders of this project's repository and the packages that they are installed as.
PACKAGE_FOLDERS = {"src/pudle": "pudle"} | {
    name: f"pudle.{name}" for name in ("estimators", "datasets", "bench", "reports")
}


class Origin(Struct, kw_only=True):
    """Where a result comes from: the machine, the versions, and what was measured there."""

    pudle: str = ""
    python: str = ""
    torch: str = ""
    numpy: str = ""
    asv: str = ""
    blas: str | None = None
    machine: str | None = None
    system: str | None = None
    cpu: str = ""
    cores: int | None = None
    memory_gib: float | None = None
    threads: int | None = None
    device: str = ""
    kernels: str = ""
    accelerator: str = ""
    commit: str | None = None
    dirty: bool = False
    sources: str = ""
    date: str = ""
    profile: str = ""


class NoRepository(PudleError):
    """There is no git repository, or it has no commit to label results with."""


#: Settings that keep git from running what a repository names, such as one from an archive of
#: others: hooks, monitors, and programs for signatures.
_OFF = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, "log.showSignature": "false"}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, without programs that only the repository's own settings name, and
    return what it prints, without white space at its ends.

    NoRepository says that git is missing, or that it failed.
    """
    listed = run(["git", "-C", folder, "config", "--list", "--show-scope", "--name-only"]).stdout
    scopes = [line.partition("\t") for line in listed.splitlines()]
    local = [name for scope, _, name in scopes if scope in ("local", "worktree")]
    settings = dict.fromkeys((name for name in local if name.startswith("filter.")), "") | _OFF
    # Not as options: a name may hold "=". Without protocols, git fetches nothing that is missing.
    environment = {"GIT_ALLOW_PROTOCOL": "none", "GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    process = run(["git", "-C", folder, *arguments], env=os.environ | environment)
    why = process.stderr.strip().partition("\n")[0]
    if process.returncode == NOT_STARTED:
        raise NoRepository(f"git cannot be run ({why}): a history of commits needs it; install git")
    if process.returncode:
        raise NoRepository(
            f"no git repository with a commit at {folder}{f' ({why})' if why else ''}: a history of"
            " commits needs one; run inside a clone, or `git init` and commit first"
        )
    return process.stdout.strip()


def repository(folder: Path) -> Path:
    """Return the root of the git repository around a folder; NoRepository says that there is none,
    or none with a commit.
    """
    git(folder, "rev-parse", "--verify", "HEAD")
    return Path(git(folder, "rev-parse", "--show-toplevel"))


#: The name of the folder in a repository where results go.
HOME = ".asv"


def make_results_folder(folder: Path) -> None:
    """Make a folder for results, with its parents, if it is missing.

    A new `.asv` around it is kept out of git by a file ``.gitignore`` of its own, so that it does
    not show as untracked in the user's repository.
    """
    homes = [place for place in (folder, *folder.parents) if place.name == HOME]
    new_homes = [home for home in homes if not home.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for home in new_homes:
        (home / ".gitignore").write_text(
            "# Results of pudle; delete this file to commit them.\n*\n"
        )


def results_home() -> Path:
    """Return where results go unless a command is told otherwise: ``.asv`` in the repository around
    the working folder or, outside any repository, in the working folder itself.

    The folder is not made. Runs git.
    """
    try:
        return repository(Path.cwd()) / HOME
    except NoRepository:
        return Path.cwd() / HOME


def installed_files() -> dict[str, Path]:
    """Return the source files of the installed package by their place in the repository: those of
    ``src/pudle``, and of the folders beside it that are installed as parts of it.

    The packages are imported.
    """
    files: dict[str, Path] = {}
    for folder, package in PACKAGE_FOLDERS.items():
        for location in importlib.import_module(package).__path__:
            for file in sorted(Path(location).rglob("*.py")):
                files[f"{folder}/{file.relative_to(location).as_posix()}"] = file
    return files


def installed_commit(root: Path) -> tuple[str, bool]:
    """Return the commit of the repository at `root`, and whether tracked files differ from it.

    If it is a checkout of this project, PudleError says that one of its files differs from the
    installed one. Reads all source files, and runs git.
    """
    installed = installed_files()
    for folder in PACKAGE_FOLDERS if (root / "src/pudle/__init__.py").exists() else ():
        for file in (root / folder).rglob("*.py"):
            name = file.relative_to(root).as_posix()
            if name not in installed or file.read_bytes() != installed[name].read_bytes():
                raise PudleError(
                    f"the installed pudle differs from the checkout at {root} ({name}): results"
                    " would carry the wrong commit; run `pip install -e .` there first"
                )
    # Submodules have settings of their own.
    status_options = ("--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    changes = git(root, "status", *status_options)
    return git(root, "rev-parse", "HEAD"), bool(changes)


@cache
def source_digest() -> str:
    """Return a digest, 12 digits, of all source files of the installed package, which labels
    results that have no commit; they are read once per process.
    """
    return digest_of(installed_files())[:12]


@cache
def machine() -> Origin:
    """Return the machine and the versions, which a reader needs to judge the numbers; all else in
    the record is empty. Found out once per process.
    """
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    file = Path("/proc/cpuinfo")
    described = file.read_text() if file.exists() else ""
    cpu = re.search(r"^model name\s*:\s*(.+)$", described, re.MULTILINE)
    return Origin(
        pudle=pudle.__version__,
        python=platform.python_version(),
        torch=version("torch"),
        numpy=version("numpy"),
        asv=version("asv"),
        blas=blas[1] if blas else "unknown",
        machine=platform.node(),
        system=f"{platform.system()} {platform.release()}",
        cpu=cpu[1] if cpu else platform.processor() or "unknown",
        cores=os.cpu_count(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    )


def provenance(device: str, profile: str, commit: str = "", dirty: bool = False) -> Origin:
    """Return the provenance to keep with a result: machine, number of torch's threads now, kernels,
    date, and a digest of the sources where no clean commit says what was measured.

    With the device ``cuda`` the GPU is asked for its name, after which this process can no longer
    be copied.
    """
    return structs.replace(
        machine(),
        threads=torch.get_num_threads(),
        device=device,
        kernels=description(),
        accelerator=torch.cuda.get_device_name() if device.startswith("cuda") else "",
        commit=commit,
        dirty=dirty,
        # Where no commit says what was measured, this does.
        sources="" if commit and not dirty else source_digest(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        profile=profile,
    )
