"""Check out a commit, build it and install it into an environment of its own."""

from __future__ import annotations

import contextlib
import re
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import PudleError
from ...workers import Process, run
from ..provenance import git


@contextlib.contextmanager
def built(root: Path, commit: str, folder: Path, label: str) -> Iterator[tuple[Path, Path]]:
    """Check out a commit of the repository at `root` and install it in `folder`, which is removed
    on exit.

    Yields the checkout and the interpreter of the environment that the commit is installed in. The
    error that refuses a commit which cannot be built calls it `label`.
    """
    tree, environment, wheels = folder / "tree", folder / "env", folder / "wheel"
    # pip may still be writing when this process was killed.
    remove = [
        "sh",
        "-c",
        'rm -rf "$1" || { sleep 1; rm -rf "$1"; }; git -C "$2" worktree prune',
        "sh",
        folder,
        root,
    ]
    run(remove)
    with Process(remove, at_end=True):
        git(root, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        build = ("wheel", "--no-deps", "--quiet", "--wheel-dir", wheels)
        try:
            # With the installed build tools a build takes seconds and no network.
            _pip(label, *build, "--no-build-isolation", tree)
        except PudleError:
            # They are missing or too old: pip fetches what the project asks for.
            _pip(label, *build, tree)
        wheel = next(wheels.glob("*.whl"))
        venv.EnvBuilder(with_pip=False, symlinks=True).create(environment)
        python = environment / "bin" / "python"
        _pip(
            label,
            "--python",
            python,
            "install",
            "--no-deps",
            "--quiet",
            "--ignore-installed",
            wheel,
        )
        packages = sysconfig.get_path("purelib", "venv", {"base": str(environment)})
        Path(packages, "zz_shared.pth").write_text(
            "\n".join(_shared_packages(wheel.name.partition("-")[0])) + "\n"
        )
        yield tree, python


def last_line(done: Any) -> str:
    """Return the last line that a process printed, where Python and pip say what went wrong, after
    the place in a source.
    """
    output = done.stderr or done.stdout
    place = [
        f"{Path(file).name}, line {line}: "
        for file, line in re.findall(r'^ +File "(.+)", line (\d+)', output, re.M)
    ]
    return "".join(place[-1:]) + next(
        (line for line in reversed(output.splitlines()) if line.strip()), "no output"
    )


def _pip(label: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = run(command)
    if done.returncode:
        raise PudleError(f"{label} cannot be built and installed: {last_line(done)}")


def _shared_packages(project: str) -> Iterator[str]:
    """Yield the lines of a path file that adds the packages installed here, without the project
    itself.

    The option ``system_site_packages`` of a virtual environment does not serve here: it adds the
    packages of the interpreter that this environment was made from, not those of this environment.
    """
    editable = re.compile(rf"_*editable_*[._-]*{re.escape(project)}(-|\.pth$)", re.IGNORECASE)
    for folder in dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib")):
        yield folder
        for path in sorted(Path(folder).glob("*.pth")):
            for line in () if editable.match(path.name) else path.read_text().splitlines():
                if line.startswith(("import ", "import\t")):
                    yield line
                elif line.strip() and not line.startswith("#"):
                    yield str((Path(folder) / line.strip()).resolve())
