"""Build and measure two commits of a repository, and keep their results and times in one folder."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import os
import re
import shutil
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import names
from ...errors import PudleError, SpecError
from ...files import read_each, read_record
from ...workers import ONE_THREAD, TIMED_OUT, Process, run, run_at_end
from ..contents import Rounds, ScoreRecord
from ..locking import locked
from ..provenance import git
from ..selection import Selection
from .turns import Cell, TimeLimit, Timer, place, time_in_turns

#: Share of a time limit that the scores and memory of one side may take; times take what is left.
SHARE = 0.35
SCRIPT = Path(__file__).with_name("script.py")


@dataclass(frozen=True)
class Side:
    """One built commit: its name in errors, its checkout, its interpreter and the folder of its
    results.
    """

    label: str
    tree: Path
    python: Path
    folder: Path

    @property
    def selection(self) -> Path:
        """What this side measures; it does not exist where there is nothing to measure."""
        return self.folder / "selection.json"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for this commit's Python."""
        # Neither the checkout nor the caller's path may shadow the package that was built from it.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return inherited | ONE_THREAD | {"PYTHONSAFEPATH": "1"}

    def _run(self, task: str, request: Mapping[str, Any], *home: Path, timeout: Any = None) -> Any:
        command = [self.python, SCRIPT, task, json.dumps(request), *home]
        return run(command, timeout, cwd=self.tree, env=self.environment)

    def timer(self) -> Timer:
        """Return a process that times the cells of this side."""
        command = [self.python, SCRIPT, "time", self.selection]
        seconds = Selection.read(self.selection).timeout
        return Timer(Process(command, cwd=self.tree, env=self.environment), seconds)

    def lacking(self, profile: str, **options: Any) -> dict[str, str]:
        """Return why this commit lacks what it cannot load and what is requested, by name and spec;
        options as `measure`.
        """
        done = self._run("lacking", {"profile": profile, **options})
        if done.returncode:
            raise PudleError(f"{self.label} yields no scores: {last_line(done)}")
        return json.loads(done.stdout)

    def measure(self, profile: str, *, timeout: float | None = None, **options: Any) -> bool:
        """Fill the store with scores and memory as this commit's own `pudle run` does; what this
        side lacks is left out.

        The options are those of `pudle.measuring.selection.select`. After `timeout` seconds the
        rest is left out, and the result is False. It is an error if the commit has some of what is
        requested but yields no scores.
        """
        request = {"profile": profile, **options}
        done = self._run("measure", request, self.folder.parent, timeout=timeout)
        if done.returncode == TIMED_OUT:
            return False
        stored = self.selection.exists() and _records(self.folder)
        # A commit that has none of what is requested measures nothing.
        if not stored and (done.returncode or self.selection.exists()):
            raise PudleError(f"{self.label} yields no scores: {last_line(done)}")
        return True


def _records(folder: Path) -> dict[Any, ScoreRecord]:
    """Return the scores in a profile's folder by case and estimator; damaged ones are missing."""
    paths = [
        path
        for path in sorted((folder / "store").glob("*/*.json"))
        if path.parent.name not in ("artifacts", "experiments")
    ]
    return {record.identity: record for record in read_each(paths, ScoreRecord.read, [])}


def timed_cells(folder: Path) -> list[Cell]:
    """Return the cells of a profile's folder that can be timed: those whose status is ok at their
    depth.
    """
    if not (folder / "selection.json").exists():
        return []
    selection, records = Selection.read(folder / "selection.json"), _records(folder)
    cases = [case.name for case in selection.cases]
    cells = itertools.product(cases, selection.estimators, selection.timed_depths)
    return [
        cell
        for cell in cells
        if cell[:2] in records and records[cell[:2]].at(cell[2])["status"] == "ok"
    ]


@dataclass(frozen=True)
class CommitPair:
    """Two commits (full hashes) that are measured together, and the folder of their results in a
    home.
    """

    home: Path
    base: str
    head: str
    profile: str

    @property
    def folder(self) -> Path:
        """The folder of a home for ``base``, one for ``head``, and the times."""
        return self.home.resolve() / "compare" / f"{self.base[:12]}-{self.head[:12]}"

    def side(self, name: str) -> Path:
        """Return the profile's folder of one side, ``base`` or ``head``."""
        return self.folder / name / self.profile

    @property
    def rounds_path(self) -> Path:
        """The file of the times measured in turns. It is written last: where it exists, both
        commits are measured.
        """
        return self.folder / f"rounds-{self.profile}.json"

    def read(self) -> Rounds:
        """Return the times measured in turns, whether the time limit left something out, and why
        each side lacks something.
        """
        remedy = "delete it and run `pudle compare --run` again"
        return read_record(self.rounds_path, Rounds, remedy=remedy)

    def measure(
        self,
        root: Path,
        limit: TimeLimit,
        log: Callable[[str], None],
        *,
        minutes: float | None = None,
        **options: Any,
    ) -> None:
        """Measure both commits of the repository at `root`, this suite's or a plug-in's.

        The limit says what counts as slower, `log` gets one line about each step, and the options
        are those of `Side.measure`; of files of the repository that specs name, each side has its
        commit's version. After about so many `minutes`, building aside, what is not measured is
        left out. A commit that cannot be built or yields no results is an error, and so are a spec
        or a pattern that names nothing at either commit, and another comparison of the same commits
        at the same time.
        """
        with locked(self.folder, "comparison"), contextlib.ExitStack() as stack:
            self.rounds_path.unlink(missing_ok=True)
            sides, requests, lacking = {}, dict[str, dict[str, Any]](), dict[str, dict[str, str]]()
            for name, commit in (("base", self.base), ("head", self.head)):
                # Nothing is reused: the keys of stored scores do not cover the packages that both
                # sides share.
                shutil.rmtree(self.folder / name, ignore_errors=True)
                label = f"{name} {commit[:8]}"
                log(f"building {label}")
                build = built(root, commit, self.folder / f"{name}-build", label)
                tree, python = stack.enter_context(build)
                sides[name] = Side(label, tree, python, self.side(name))
                requests[name] = _request_at(tree, root, options)
                lacking[name] = sides[name].lacking(self.profile, **requests[name])
            reasons = (_reasons(requests[name], lacking[name]) for name in sides)
            if unknown := [
                head or base for base, head in zip(*reasons, strict=True) if base and head
            ]:
                hint = f"`pudle list --profile {self.profile}` shows what is known here"
                raise SpecError(f"on both commits: {'; '.join(dict.fromkeys(unknown))}; {hint}")
            seconds = math.inf if minutes is None else 60 * minutes
            until, partial = time.monotonic() + seconds, False
            timeout = None if minutes is None else SHARE * seconds
            for name, side in sides.items():
                log(f"scores and memory of {name}")
                partial |= not side.measure(self.profile, timeout=timeout, **requests[name])
                references = side.folder / "store" / "references"
                if name == "base" and references.is_dir():
                    # Both sides share all packages but the project, and a key covers the project's
                    # own sources.
                    shutil.copytree(references, self.side("head") / "store" / "references")
            on_head = set(timed_cells(sides["head"].folder))
            cells = [cell for cell in timed_cells(sides["base"].folder) if cell in on_head]
            rounds = time_in_turns(sides, cells, limit, log, until)
            partial |= len({place(row) for row in rounds}) < len(cells)
            Rounds(rounds=rounds, partial=partial, lacking=lacking).write(self.rounds_path)


def _reasons(request: Mapping[str, Any], lacking: Mapping[str, str]) -> list[str]:
    """Return why a side lacks each spec and pattern that is requested, empty for what it has."""
    requested = (
        request.get(name, ()) for name in ("estimators", "datasets", "algorithms", "cases")
    )
    return [lacking.get(each, "") for each in itertools.chain(*requested)]


def _request_at(tree: Path, root: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options whose specs name the files of a checkout."""

    def placed(kind: str, spec: str) -> str:
        paths: list[str] = []
        # A dataset that only a commit has is left as it is.
        with contextlib.suppress(SpecError):
            paths = names.path_options(names.make_dataset(spec)) if kind == "datasets" else []
        return names.placed(spec, functools.partial(_seen_from, tree, root), paths)

    kinds = [kind for kind in ("estimators", "algorithms", "datasets") if kind in options]
    return {**options, **{kind: [placed(kind, spec) for spec in options[kind]] for kind in kinds}}


def _seen_from(tree: Path, root: Path, file: Path) -> Path:
    """Return a file of the repository as a path in a checkout that has it, and any other as it
    lies.
    """
    file = Path(os.path.abspath(file))
    versioned = file.relative_to(root) if file.is_relative_to(root) else None
    return versioned if versioned and (tree / versioned).is_file() else file


@contextlib.contextmanager
def built(root: Path, commit: str, folder: Path, label: str) -> Iterator[tuple[Path, Path]]:
    """Check out a commit of the repository at `root` and install it in `folder`, which is removed
    on exit.

    Yields the checkout and the interpreter of the environment that the commit is installed in. The
    error that refuses a commit which cannot be built calls it `label`.
    """
    tree, environment, wheels = folder / "tree", folder / "env", folder / "wheel"
    # pip may still be writing when this process was killed.
    remove = 'rm -rf "$1" || { sleep 1; rm -rf "$1"; }; git -C "$2" worktree prune'
    run(["sh", "-c", remove, "sh", folder, root])
    with run_at_end(remove, folder, root):
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
        install = ("install", "--no-deps", "--quiet", "--ignore-installed", wheel)
        _pip(label, "--python", python, *install)
        packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
        shared = _shared_packages(wheel.name.partition("-")[0])
        (packages / "zz_shared.pth").write_text("\n".join(shared) + "\n")
        yield tree, python


def last_line(done: Any) -> str:
    """Return the last line that a process printed, where Python and pip say what went wrong, after
    the place in a source.
    """
    output = done.stderr or done.stdout
    places = re.findall(r'^ +File "(.+)", line (\d+)', output, re.M)
    where = "".join(f"{Path(file).name}, line {line}: " for file, line in places[-1:])
    return where + ([line for line in output.splitlines() if line.strip()] or ["no output"])[-1]


def _pip(label: str, *arguments: str | Path) -> None:
    done = run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])
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
