"""Build and measure two commits of a repository, and keep their results and times in one folder."""

import contextlib
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import filterfalse
from pathlib import Path
from typing import Any

from ... import names
from ...errors import MissingResults, PudleError, SpecError, UnreadableResult
from ...files import read_record
from ...text import count, printable
from ...workers import (
    BUILT_IN,
    ONE_THREAD,
    Outcome,
    Owners,
    Pool,
    Process,
    run,
    run_at_end,
)
from ..options import Options
from ..provenance import git
from ..results.score import ScoreRecord
from ..selection import Selection
from ..store import locked, read_stored
from ..stored_files import CommitRounds
from . import script
from .turns import ROUNDS, Cell, time_in_turns

#: Share of a time limit that the scores and memory of one side may take; times take what is left.
SHARE = 0.35
#: Minutes that are enough for a few estimators on a few cases, also where a machine is busy.
ENOUGH = 10
#: The name of a folder of two commits.
PAIR = re.compile("[0-9a-f]{12}-[0-9a-f]{12}")
#: Calls for a time, which commits count that have no sampler of their own.
CALLS = 3


@dataclass(frozen=True)
class CommitSide:
    """One built commit: its name in errors, its checkout, the folder that it is installed in, and
    the folder of its results.
    """

    label: str
    tree: Path
    site: Path
    folder: Path

    @property
    def selection(self) -> Path:
        """The file of this side's selection; there is none where there is nothing to measure."""
        return self.folder / "selection.json"

    @property
    def log(self) -> Path:
        """The file of all that the processes of this side print."""
        return self.folder.parent.with_suffix(".log")

    def _start(self) -> Process:
        """Start a worker that runs this commit's package in one thread, in its checkout.

        Its PYTHONPATH is the folder of the installed package alone. Its output goes into the log,
        which is opened anew: what that held is lost.
        """
        # Neither the checkout nor the caller's path may shadow the package that was built from it.
        env = os.environ | ONE_THREAD | {"PYTHONPATH": str(self.site), "PYTHONSAFEPATH": "1"}
        if (self.site / __name__.partition(".")[0]).is_dir():
            # What is compiled of this suite's own commits goes with the build. A plug-in's commits
            # share the installed suite, and so its compiled kernels, which the user's cache keeps.
            env |= {"NUMBA_CACHE_DIR": str(self.site)}
        command = [sys.executable, "-c", "from pudle.workers import work; work()"]
        with self.log.open("w") as log:
            return Process(command, [log.fileno()] * 2, cwd=self.tree, env=env)

    def last_words(self) -> str:
        """Return the last line that the processes of this side have printed, 200 characters at
        most; empty if there is none.
        """
        printed = self.log.read_text(errors="replace") if self.log.is_file() else ""
        return printable(printed.strip().rpartition("\n")[2])[:200]

    def pool(self) -> Pool:
        """Return a pool of one worker, which calls this commit's own functions, and is started at
        its first job.
        """
        return Pool(1, self._start)

    def call(self, pool: Pool, timeout: float, *call: Any) -> Outcome[Any]:
        """Let the worker call a function with arguments, and return the outcome, which is ok or a
        timeout; PudleError, which names the log, says that it ended in any other way.
        """
        outcome = pool.call(timeout, *call)
        if outcome.status not in ("ok", "timeout"):
            raise PudleError(
                f"{self.label} cannot be measured: {outcome.reason}; {self.log} has what it printed"
            )
        return outcome

    def timer(self, pool: Pool) -> Callable[[Cell], float]:
        """Return a timer of cells in a pool of this side, which does nothing else: it returns the
        seconds of one estimate, or raises PudleError.

        The time limit of each is that of the side's selection, which is read now.
        """
        timeout = read_record(self.selection, Selection).timeout

        def ask(cell: Cell) -> float:
            """Return the seconds of a cell, timed by the commit itself in a process for its owner;
            PudleError says why there are none.
            """
            outcome = pool.call_for(
                owners(cell), timeout, script.seconds, self.selection, cell, CALLS
            )
            if outcome.status != "ok":
                raise PudleError(outcome.reason)
            return outcome.result

        return ask


def owners(cell: Cell) -> Owners:
    """Return whose code a cell runs besides that of the two commits, as the spec of its estimator:
    one that is none of this package runs in a process of its own. Nothing is imported.
    """
    _, estimator, _ = cell
    return BUILT_IN if names.is_built_in("estimators", estimator) else frozenset([estimator])


def stored_scores(folder: Path) -> list[ScoreRecord]:
    """Return the scores that the run in a profile's folder lists and that can be read.

    UnreadableResult says that files are damaged and no score is left.
    """
    stored = read_stored(folder.parent, folder.name)
    if stored.damaged and not stored.scores:
        raise UnreadableResult("; ".join(stored.damaged))
    return [*stored.scores.values()]


def timed_cells(side: CommitSide) -> list[Cell]:
    """Return the cells of a side that can be timed: those whose status is ok at one of the timed
    depths of the side's selection. Reads its store.
    """
    cells: list[Cell] = []
    for record in stored_scores(side.folder):
        for depth in read_record(side.selection, Selection).timed_depths:
            if record.at(depth).status == "ok":
                cells.append((*record.identity, depth))
    return cells


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

    def read(self) -> CommitRounds:
        """Return the times measured in turns, whether the time limit left something out, and why
        each side lacks something; UnreadableResult says that the file is missing or damaged.
        """
        remedy = "delete it and run `pudle compare --run` again"
        return read_record(self.rounds_path, CommitRounds, remedy=remedy)

    def sweep_unfinished(self) -> None:
        """Remove the folders that other comparisons in this home have left that were killed: only
        one that has come to its end has times, and nothing else of it is read or used again. A
        comparison that is at work keeps its folder.
        """
        for folder in self.folder.parent.iterdir():
            is_complete = any(folder.glob("rounds-*.json"))
            if folder != self.folder and PAIR.fullmatch(folder.name) and not is_complete:
                # One that is at work holds its lock.
                with contextlib.suppress(PudleError), locked(folder, "comparison"):
                    shutil.rmtree(folder, ignore_errors=True)

    def measure(
        self,
        root: Path,
        log: Callable[[str], None],
        options: Options,
        *,
        minutes: float | None = None,
    ) -> None:
        """Measure both commits of the repository at `root`, this suite's or a plug-in's, and write
        their results and times into the pair's folder.

        Scores and memory of base are measured first, then those of head, which takes over the
        references of base where its own would be the same. Times are measured last, in turns, of
        the cells that both sides have. Each commit's code runs in processes of its own, with its
        own version of files of the repository that specs name. What a side lacks is left out, and
        so is what is not measured after about so many `minutes`, building aside. `log` gets one
        line about each step.

        What was measured before of this pair for this profile is removed first, as are the folders
        of comparisons that were killed. The repository's own checkout stays as it is.

        Raises
        ------
        PudleError
            If a commit cannot be built or measured, or the same commits are being compared already.
        SpecError
            If a spec, or a pattern of names of cases, names nothing at either commit.
        MissingResults
            If the minutes end before a side has a score.
        """
        seconds = math.inf if minutes is None else 60 * minutes
        sides: dict[str, tuple[CommitSide, Pool, dict[str, Any]]] = {}
        lacking: dict[str, dict[str, str]] = {}
        with locked(self.folder, "comparison"), contextlib.ExitStack() as stack:
            self.rounds_path.unlink(missing_ok=True)
            self.sweep_unfinished()
            for name, commit in (("base", self.base), ("head", self.head)):
                # Nothing is reused: the keys of stored scores do not cover the packages that both
                # sides share. Other profiles have results and times of their own.
                shutil.rmtree(self.side(name), ignore_errors=True)
                label = f"{name} {commit[:8]}"
                log(f"building {label}")
                build = build_commit(root, commit, self.folder / f"{name}-build", label)
                side = CommitSide(label, *stack.enter_context(build), self.side(name))
                pool = stack.enter_context(side.pool())
                request = _request_at(side.tree, root, self.profile, options)
                sides[name] = side, pool, request
                lacking[name] = side.call(pool, math.inf, script.lacking, request).result
            requests = [request for _, _, request in sides.values()]
            unknown = _lacking_on_both(lacking["base"], lacking["head"], *requests)
            if unknown:
                raise SpecError(
                    f"on both commits: {'; '.join(dict.fromkeys(unknown))};"
                    f" `pudle list --profile {self.profile}` shows what is known here"
                )
            until, cut = time.monotonic() + seconds, False
            for name, (side, pool, request) in sides.items():
                log(f"scores and memory of {name}")
                work = (script.measure, request, side.folder.parent)
                late = side.call(pool, SHARE * seconds, *work).status == "timeout"
                if late and not stored_scores(side.folder):
                    raise MissingResults(_no_score(side, seconds))
                cut |= late
                references = side.folder / "store" / "references"
                if name == "base" and references.is_dir():
                    # Both sides share all packages but the project, and a key covers the project's
                    # own sources.
                    shutil.copytree(references, self.side("head") / "store" / "references")
            base, head = (timed_cells(side) for side, *_ in sides.values())
            # Those of an owner follow each other, because another needs a process of its own.
            cells = sorted(
                (cell for cell in base if cell in head), key=lambda cell: [*owners(cell)]
            )
            cells = [*filter(owners, cells), *filterfalse(owners, cells)]
            timers = {
                name: side.timer(stack.enter_context(side.pool()))
                for name, (side, *_) in sides.items()
                if cells
            }
            if cells:
                log(f"times of {count(len(cells), 'cell')}, {ROUNDS} rounds")
            rounds = time_in_turns(timers, cells, until)
            cut |= len({(row.case, row.estimator, row.depth) for row in rounds}) < len(cells)
            CommitRounds(rounds=rounds, partial=cut, lacking=lacking).write(self.rounds_path)


def _no_score(side: CommitSide, seconds: float) -> str:
    """Say that a side has no score after its share of a time limit, what it was at, and what to do:
    three times the limit, but at least `ENOUGH`.
    """
    last_words = side.last_words()
    at_work = f" (it printed last: {last_words})" if last_words else ""
    more = max(ENOUGH, math.ceil(3 * seconds / 60))
    return (
        f"{side.label} had no score after {SHARE * seconds:.0f} s, its share of {seconds / 60:g}"
        f" --minutes{at_work}, so that there is nothing to judge: give more, e.g. --minutes {more},"
        " or measure fewer estimators (--only), cases (--case) or depths (--depth)"
    )


def _lacking_on_both(
    base: Mapping[str, str],
    head: Mapping[str, str],
    base_request: Mapping[str, Any],
    head_request: Mapping[str, Any],
) -> list[str]:
    """Return head's reason for each requested spec or pattern that both sides lack.

    A file of the repository has another spec on each side: the two requests have the same specs in
    the same order.
    """
    reasons = []
    for group in (*script.GROUPS, "cases"):
        pairs = zip(base_request.get(group, ()), head_request.get(group, ()), strict=True)
        for base_spec, head_spec in pairs:
            if base_spec in base and head_spec in head:
                reasons.append(head[head_spec])
    return reasons


def _request_at(tree: Path, root: Path, profile: str, options: Options) -> dict[str, Any]:
    """Return a request of a profile, as plain values, whose specs name the files of a checkout that
    it has; other files stay as they are.

    Datasets are made here, to know which options are paths, and so their user's files imported.
    """

    def path_in_checkout(file: Path) -> Path:
        """Return a file of the repository as a path in the checkout, relative to its root, if that
        has it, and any other as an absolute path.
        """
        file = Path(os.path.abspath(file))
        versioned = file.relative_to(root) if file.is_relative_to(root) else None
        return versioned if versioned and (tree / versioned).is_file() else file

    request = {"profile": profile, **asdict(options)}
    for kind in script.GROUPS:
        specs = []
        for spec in getattr(options, kind):
            paths = []
            # A dataset that only a commit has is left as it is.
            with contextlib.suppress(SpecError):
                paths = names.path_options(names.make_dataset(spec)) if kind == "datasets" else []
            specs.append(names.move_paths(spec, path_in_checkout, paths))
        request[kind] = tuple(specs)
    return request


@contextlib.contextmanager
def build_commit(root: Path, commit: str, folder: Path, label: str) -> Iterator[tuple[Path, Path]]:
    """Check out a commit of the repository at `root` and install it in `folder`; both are removed
    on exit, also if this process is killed.

    Yields the checkout and the folder that the commit's packages are installed in. What `folder`
    held is removed first. pip needs a network only where the installed build tools do not do.
    PudleError, which calls the commit `label`, says that it cannot be built.
    """
    tree, site = folder / "tree", folder / "site"
    # pip may still be writing when this process was killed.
    retry = " || { sleep 0.1; " + 'rm -rf "$1"; }'
    remove = f'rm -rf "$1"{retry * 5}; git -C "$2" worktree prune'
    run(["sh", "-c", remove, "sh", folder, root])
    with run_at_end(remove, folder, root):
        git(root, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        install = ("install", "--no-deps", "--quiet", "--target", site, tree)
        try:
            # With the installed build tools a build takes seconds and no network.
            _pip(label, *install, "--no-build-isolation")
        except PudleError:
            # They are missing or too old: pip fetches what the project asks for.
            _pip(label, *install)
        yield tree, site


def _pip(label: str, *arguments: str | Path) -> None:
    """Run pip, or raise PudleError with the last line that it printed."""
    process = run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])
    if process.returncode:
        last = (process.stderr or process.stdout).strip().rpartition("\n")[2]
        raise PudleError(f"{label} cannot be built and installed: {last or 'no output'}")
