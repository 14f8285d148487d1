"""Making the results of two commits: each built and installed on its own, scores and memory measured, times taken in turns.

Each commit is checked out into a worktree, built into a wheel and installed into a virtual environment of its own; all other
packages come from the environment that runs the comparison. So both sides share one torch and one BLAS, nothing is
downloaded, and a ratio is about the commits alone. asv's own environments install every dependency anew for the comparison:
a minute and 1.3 GB from a warm cache of small CPU builds, against five seconds a commit here, and no way without a network.

asv interleaves whole passes over a benchmark: between a cell's time on one commit and on the other lies a pass, 83 s in the
quick profile, in which a shared machine changes more than the code did; thirteen rounds of passes would take 36 minutes.
Here two processes, one per commit, hold the same cell and take turns call by call, so that each round is a pair measured
within a fraction of a second. What they call is asv's benchmark. Memory is measured by asv.

Every commit measures what its own `pudle run` would: its cases, its estimators, its plug-ins. Cells are matched by name and
their definitions are compared, so that a cell that one side lacks is seen to be missing. The cells that are timed are frozen
to a file, which both sides follow.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import select
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from ...errors import MissingResults, PudleError
from ...files import read_json, write_atomically
from ...reports.compare.judge import TimeLimit, judge_times, rounds_needed
from ...reports.compare.sides import load_folder, records_in
from ...reports.load import Results
from ..provenance import git
from ..run import ONE_THREAD
from ..runner import at_depth

#: Seconds that one timed sample should last, the fewest calls that make one and the most: the fastest of them counts.
SAMPLE = 0.03
FEWEST, MOST = 2, 20

#: Runs this commit's `pudle` without what no verdict rests on, however long it takes: surfaces and experiments.
GATED_ONLY = """
import dataclasses
from pudle.bench.cases import PROFILES
from pudle.cli import main
for name, profile in PROFILES.items():
    left_out = {part: () for part in ("windows", "experiments") if hasattr(profile, part)}
    PROFILES[name] = dataclasses.replace(profile, **left_out)
main()
"""

#: Tells which of some specs and patterns of case names mean something at this commit: in one process, since to start one and
#: import torch takes longer than many an estimate.
KNOWN = """
import fnmatch, json, sys
from pudle import make_estimator
from pudle.bench.cases import PROFILES
profile, specs, globs = json.loads(sys.argv[1])
names = [case.name for case in PROFILES[profile].cases]
def made(spec):
    try:
        return make_estimator(spec) is not None
    except Exception:
        return False
print(json.dumps([list(filter(made, specs)), [glob for glob in globs if fnmatch.filter(names, glob)]]))
"""

#: Runs of asv after which its failure is not another process's doing.
TRIES = 3

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What to measure on both sides: the options of `pudle run`.

    Attributes
    ----------
    profile : str
    estimators : tuple of str
        Specs to measure beside the profile's own; a side that lacks one leaves it out.
    only : bool
        Measure no estimators but these.
    cases : tuple of str
        Patterns of case names.
    device : str
        ``cpu`` or ``cuda``.
    """

    profile: str
    estimators: tuple[str, ...] = ()
    only: bool = False
    cases: tuple[str, ...] = ()
    device: str = "cpu"


@dataclass(frozen=True)
class CommitPair:
    """A folder that holds a comparison: the homes ``base`` and ``head``, and the times that were taken in turns."""

    folder: Path
    profile: str

    @classmethod
    def of(cls, home: Path, base: str, head: str, profile: str) -> CommitPair:
        """Return where the comparison of two commits is kept, whether or not it exists."""
        return cls(home.resolve() / "compare" / f"{base[:12]}-{head[:12]}", profile)

    def side(self, name: str) -> Path:
        """Return the profile's folder of one side."""
        return self.folder / name / self.profile

    @property
    def rounds_path(self) -> Path:
        return self.folder / f"rounds-{self.profile}.json"

    @property
    def complete(self) -> bool:
        """Whether the comparison was carried out to its end."""
        return self.rounds_path.exists()

    def load(self) -> tuple[Results, Results]:
        """Return the results of both sides; of a side that had nothing to measure, results without a row."""
        found = [load_folder(self.side(name)) if (self.side(name) / "selection.json").exists() else None
                 for name in ("base", "head")]  # fmt: skip
        some = next((results for results in found if results is not None), None)
        if some is None:
            raise MissingResults(
                f"neither commit has anything of what is asked for: see `pudle list --profile {self.profile}`"
            )
        tables = ("frame", "references", "records", "timings")
        blank = replace(some, estimators=(), notes=(), **{name: getattr(some, name).iloc[:0] for name in tables})
        base, head = (blank if results is None else results for results in found)
        return base, head

    def rounds(self) -> pd.DataFrame:
        """Return the times taken in turns, as `pudle.reports.compare.judge.compare` wants them."""
        return _frame(read_json(self.rounds_path)["rounds"])


def make(base: str, head: str, *, root: Path, home: Path, request: Request, limit: TimeLimit, tell: Tell) -> CommitPair:
    """Measure two commits of the repository at `root`.

    Parameters
    ----------
    base, head : str
        Full hashes.
    root : Path
        Root of a repository: this suite's, or a plug-in's.
    home : Path
        Folder for results.
    request : Request
    limit : TimeLimit
        How sure the times have to be, which decides how many rounds are run.
    tell : callable
        Called with a line about each step.

    Raises
    ------
    PudleError
        If a commit cannot be built, or a side yields no results.
    """
    pair = CommitPair.of(home, base, head, request.profile)
    commits = {"base": base, "head": head}
    with _locked(pair.folder):
        # Always anew: the store's names do not cover every file that an estimator might import.
        for name in commits:
            shutil.rmtree(pair.folder / name, ignore_errors=True)
        pair.rounds_path.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            sides = {}
            for name, commit in commits.items():
                tell(f"building {name} {commit[:8]}")
                sides[name] = stack.enter_context(_built(root, commit, pair, name))
            for name, side in sides.items():
                tell(f"scores of {name}")
                side.score(request)
            tell("memory of both")
            with ThreadPoolExecutor(len(sides)) as pool:
                list(pool.map(_Side.measure_memory, sides.values()))
            rounds = _take_turns(sides, pair, limit, tell)
        write_atomically(pair.rounds_path, json.dumps({"rounds": rounds.astype(object).where(rounds.notna(), None)
                                                       .to_dict("records")}))  # fmt: skip
    return pair


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout:
        raise PudleError(
            f"another comparison is writing to {folder}: wait for it to end, or choose another --home"
        ) from None


@dataclass(frozen=True)
class _Side:
    """One commit, built: its checkout, its interpreter and where its results go."""

    name: str
    commit: str
    tree: Path
    python: Path
    folder: Path

    def environment(self) -> dict[str, str]:
        # The checkout must not shadow what was built from it, nor the caller's path either.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return kept | ONE_THREAD | {"PYTHONSAFEPATH": "1", "PUDLE_SELECTION": str(self.folder / "selection.json")}

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run this commit's Python and return what became of it."""
        return subprocess.run([str(self.python), *map(str, arguments)], cwd=cwd or self.tree, env=self.environment(),
                              capture_output=True, text=True)  # fmt: skip

    def score(self, request: Request) -> None:
        """Fill the store, by this commit's own `pudle run`."""
        known, cases = request.estimators, request.cases
        if known or cases:
            told = self.run("-c", KNOWN, json.dumps([request.profile, known, cases]))
            if told.returncode:
                raise PudleError(f"{self.name} {self.commit[:8]} yields no scores: {_last(told)}")
            # What an import prints comes before.
            known, cases = json.loads(told.stdout.splitlines()[-1])
        if (request.only and not known) or (request.cases and not cases):
            return  # Nothing of what is asked for exists here: on head it is all new, or from base it all vanished.
        command: list[str | Path] = ["-c", GATED_ONLY, "run", "--scores-only", "--profile", request.profile, "--home",
                                     self.folder.parent, "--device", request.device]  # fmt: skip
        command += [f"--estimator={spec}" for spec in known] + [f"--case={glob}" for glob in cases]
        command += ["--only"] if request.only else []
        done = self.run(*command)
        # A broken estimator ends a run with an error as well, but leaves a record that says so.
        if not (self.folder / "selection.json").exists() or not any(records_in(self.folder / "store")):
            raise PudleError(f"{self.name} {self.commit[:8]} yields no scores: {_last(done)}")

    def measure_memory(self) -> None:
        """Let asv measure peak memory over this side's selection."""
        if not (self.folder / "selection.json").exists():
            return
        found = self.run("-c", "import pudle.bench; print(list(pudle.bench.__path__)[0])")
        configuration = self.folder / "asv.conf.json"
        content = {
            "version": 1, "project": "pudle", "repo": str(self.tree), "branches": ["HEAD"],
            "environment_type": "existing", "benchmark_dir": found.stdout.strip(),
            "results_dir": str(self.folder / "results"), "html_dir": str(self.folder / "html"),
            "env_dir": str(self.folder / "env"),
        }  # fmt: skip
        write_atomically(configuration, json.dumps(content, indent=1))
        asv = ("-m", "asv")
        # asv rewrites its list of machines in place, so that another asv at that moment finds it empty and gives up.
        with FileLock(self.folder.parent.parent / "machine.lock"):
            self.run(*asv, "machine", "--yes", "--config", configuration, cwd=self.folder)
        cuda = read_json(self.folder / "selection.json").get("device") == "cuda"
        for _ in range(TRIES):
            done = self.run(*asv, "run", "--config", configuration, "-E", f"existing:{self.python}", "--set-commit-hash",
                            self.commit, "--bench", "peakmem_", "--launch-method", "spawn" if cuda else "forkserver",
                            "--show-stderr", cwd=self.folder)  # fmt: skip
            (self.folder / "asv.log").write_text(done.stdout + done.stderr)
            shutil.rmtree(self.folder / "env", ignore_errors=True)
            if any((self.folder / "results").glob(f"*/{self.commit[:8]}*.json")):
                return
        raise PudleError(f"asv measured no memory of {self.name} ({_last(done)}): see {self.folder / 'asv.log'}")

    def cells(self) -> list[tuple[str, str, int]]:
        """Return the cells that can be timed: those without a fault at their depth."""
        if not (self.folder / "selection.json").exists():
            return []
        selection = read_json(self.folder / "selection.json")
        records = {(record["case"]["name"], record["estimator"]): record for _, record in records_in(self.folder / "store")}
        cells = itertools.product([case["name"] for case in selection["cases"]], selection["estimators"],
                                  selection["timed_depths"])  # fmt: skip
        return [(case, spec, depth) for case, spec, depth in cells
                if (case, spec) in records and at_depth(records[case, spec], depth)["status"] == "ok"]  # fmt: skip


@contextlib.contextmanager
def _built(root: Path, commit: str, pair: CommitPair, name: str) -> Iterator[_Side]:
    """Check a commit out, build it and install it; clear it all away in the end."""
    place = pair.folder / f"{name}-build"
    tree, environment = place / "tree", place / "env"
    _clear(root, place, tree)
    try:
        git(root, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        wheel = _wheel(tree, place / "wheel", f"{name} {commit[:8]}")
        venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(environment)
        python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        _pip(f"{name} {commit[:8]}", "--python", python, "install", "--no-deps", "--quiet", "--ignore-installed", wheel)
        project = wheel.name.partition("-")[0]
        own = Path(_ask(python, "import sysconfig; print(sysconfig.get_paths()['purelib'])"))
        (own / "zz_shared.pth").write_text("\n".join(_shared(project)) + "\n")
        yield _Side(name, commit, tree, python, pair.side(name))
    finally:
        _clear(root, place, tree)


def _clear(root: Path, place: Path, tree: Path) -> None:
    if tree.exists():
        subprocess.run(["git", "-C", str(root), "worktree", "remove", "--force", str(tree)], capture_output=True)
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run(["git", "-C", str(root), "worktree", "prune"], capture_output=True)


def _wheel(tree: Path, folder: Path, what: str) -> Path:
    backend = "setuptools"
    with contextlib.suppress(OSError, tomllib.TOMLDecodeError, KeyError):
        backend = tomllib.loads((tree / "pyproject.toml").read_text())["build-system"]["build-backend"]
    build = ("wheel", "--no-deps", "--quiet", "--wheel-dir", folder)
    # With the tools that are here a build takes seconds and no network; where they are missing or too old, pip gets others.
    try:
        if find_spec(backend.partition(".")[0]) is None:
            raise PudleError(f"{backend} is not installed")
        _pip(what, *build, "--no-build-isolation", tree)
    except PudleError:
        _pip(what, *build, tree)
    return next(folder.glob("*.whl"))


def _pip(what: str, *arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)],
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        raise PudleError(f"{what} cannot be built and installed: {_last(done)}")


def _ask(python: Path, question: str) -> str:
    return subprocess.run([str(python), "-c", question], capture_output=True, text=True, check=True).stdout.strip()


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return next(reversed([line for line in (done.stderr or done.stdout).splitlines() if line.strip()]), "no output")


def _shared(project: str) -> Iterator[str]:
    """Yield the lines of a path file that adds what is installed here, but for the project itself.

    A virtual environment's system packages would be those of the interpreter beneath this environment, not this one's.
    """
    editable = re.compile(rf"_*editable_*[._-]*{re.escape(project)}(-|\.pth$)", re.IGNORECASE)
    for folder in dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib")):
        yield folder
        for path in sorted(Path(folder).glob("*.pth")):
            if editable.match(path.name):
                continue
            for line in path.read_text().splitlines():
                if line.startswith(("import ", "import\t")):
                    yield line
                elif line.strip() and not line.startswith("#"):
                    yield str((Path(folder) / line.strip()).resolve())


class _Worker:
    """A process inside one side's environment that times cells on request."""

    def __init__(self, side: _Side, patience: float) -> None:
        self.patience = patience
        script = Path(__file__).with_name("compare_worker.py")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([str(side.python), str(script)], cwd=side.folder, env=side.environment(),
                                        stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)  # fmt: skip
        self.answer()

    def ask(self, **request: Any) -> float:
        """Return seconds.

        Raises
        ------
        _Unmeasured
            If the estimate fails, takes too long or takes the process with it.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise _Unmeasured("the process ended") from None
        answer = self.answer()
        if "error" in answer:
            raise _Unmeasured(answer["error"])
        return float(answer["seconds"])

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            self.end()
            raise _Unmeasured(f"not finished after {self.patience:g} s")
        line = self.process.stdout.readline()
        if not line:
            raise _Unmeasured(f"the process ended with exit code {self.process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class _Unmeasured(Exception):
    """A time that could not be taken; the text says why."""


def _take_turns(sides: dict[str, _Side], pair: CommitPair, limit: TimeLimit, tell: Tell) -> pd.DataFrame:
    """Time the cells that both sides have, and those again, for twice as many rounds, that seem to be slower.

    For these only the second time counts, in new processes: a cell picked for its ratio is picked for its bad luck as well,
    and some of that is a process's own (where its memory happens to lie).
    """
    mine = sides["base"].cells()
    others = set(sides["head"].cells())
    cells = [cell for cell in mine if cell in others]
    write_atomically(pair.folder / f"cells-{pair.profile}.json", json.dumps(cells, indent=1))
    rounds = rounds_needed(len(cells), limit.significance)
    tell(f"times of {len(cells)} cells, {rounds} rounds")
    first = _time(sides, cells, rounds)
    if first.empty:
        return first
    verdicts = judge_times(first, limit)
    suspects = [(row["case"], row["estimator"], row["depth"]) for row in verdicts if row["change"] > limit.ratio]
    if not suspects:
        return first
    tell(f"times of {len(suspects)} cells again")
    again = _time(sides, suspects, 2 * rounds)
    settled = set(suspects)
    kept = [(row.case, row.estimator, row.depth) not in settled for row in first.itertuples()]
    return pd.concat([first[kept], again], ignore_index=True)


def _time(sides: dict[str, _Side], cells: list[tuple[str, str, int]], rounds: int) -> pd.DataFrame:
    workers: dict[str, _Worker] = {}
    rows: list[dict[str, Any]] = []
    patience = max(float(read_json(side.folder / "selection.json")["timeout"]) for side in sides.values()) if cells else 0.0
    try:
        for cell in cells:
            place = dict(zip(("case", "estimator", "depth"), cell, strict=True))
            done: dict[str, float] = {}
            try:
                for name, side in sides.items():
                    if name not in workers:
                        workers[name] = _Worker(side, patience)
                    done[name] = workers[name].ask(cell=cell)
                # Both sides take as many calls to a sample, whichever is slower.
                calls = min(max(FEWEST, math.ceil(SAMPLE / max(done["base"], 1e-9))), MOST)
                for turn in range(rounds):
                    # Whoever is second finds the caches as the other left them: each is first every other time.
                    order = tuple(sides) if turn % 2 == 0 else tuple(reversed(sides))
                    taken = {name: workers[name].ask(calls=calls) for name in order}
                    rows.append(place | {"round": turn, "reason": ""} | taken)
            except _Unmeasured as error:
                # Without a number of base, what fails is no regression.
                rows.append(place | {"round": -1, "reason": str(error), "base": done.get("base"), "head": None})
                for worker in workers.values():
                    worker.end()
                workers.clear()
    finally:
        for worker in workers.values():
            worker.end()
    return _frame(rows)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["case", "estimator", "depth", "round", "base", "head", "reason"])
    return frame.astype({"base": "float64", "head": "float64"})
