"""The selection and the run that every asv cell looks its result up in.

There is a benchmark class for each case, whose parameters are the estimators and depths that are
measured on it: a cell exists only where somebody asked for it.
"""

import contextlib
import functools
import os
import re
import secrets
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch

from pudle.algorithms import kernels
from pudle.errors import PudleError, SpecError
from pudle.estimator import Estimate
from pudle.files import read_record
from pudle.measuring.case import DTYPES, Case
from pudle.measuring.history import configure
from pudle.measuring.meters import problem_and_algorithm
from pudle.measuring.provenance import installed_commit
from pudle.measuring.results.cost import PRELOADED, EstimateCost
from pudle.measuring.results.score import ScoreRecord, Scores
from pudle.measuring.run import Run
from pudle.measuring.scored_path import Returned, at_unseen_theta
from pudle.measuring.selection import SELECTION_VARIABLE, Selection
from pudle.measuring.store import Store, locked
from pudle.measuring.stored_files import BROKEN, MeasurementStatus
from pudle.names import make_estimator
from pudle.workers import Pool

from .cases import PROFILES

#: The checkout that holds this file, in a plain `asv run`.
ROOT = Path(__file__).resolve().parents[1]
#: Seconds that filling the store may take before the first cell: those of a whole run.
MOST_FILLING = 7 * 24 * 3600.0


@functools.cache
def selection() -> Selection:
    """Return the selection of the file that the environment variable `PUDLE_SELECTION` names, by
    default that of the profile `quick`, and set torch to one thread for the rest of the process.

    The file is read once per process. asv gives the same file to the discovery of benchmarks, to
    every cell, and to both sides of a comparison. UnreadableResult says that it is missing or
    damaged.
    """
    # With two threads on two busy cores, small kernels run many times slower.
    torch.set_num_threads(1)
    path = os.environ.get(SELECTION_VARIABLE)
    return read_record(Path(path), Selection) if path else PROFILES["quick"]


@functools.cache
def store() -> Store:
    """Return the store beside the selection's file, whose records get no commit; that of a plain
    `asv run` lies in ``.asv`` of the checkout that holds this file, and its commit is known if it
    is the one that is installed.

    It is found once per process, and nothing is made or written.
    """
    chosen, label, path = selection(), ("", False), os.environ.get(SELECTION_VARIABLE)
    folder = Path(path or "").parent
    if not path:
        folder = ROOT / ".asv" / chosen.profile
        with contextlib.suppress(PudleError):
            label = installed_commit(ROOT)
    return Store(folder / "store", chosen.profile, chosen.device, *label)


def record(case: Case, estimator: str) -> ScoreRecord:
    """Return the stored record of an estimator on a case; nothing is measured.

    NotImplementedError makes asv skip the cell: for an estimator that this commit lacks.
    RuntimeError makes it fail, where the store has no such record.
    """
    if reason := lacking(estimator):
        raise NotImplementedError(reason)
    stored = Scores(case, estimator).read(store())
    if stored:
        return stored
    raise RuntimeError(f"{estimator} is not measured on {case.name}: see what `pudle run` says")


def lacking(estimator: str) -> str:
    """Return why this commit has no such estimator, an empty text if it has; a user's file that the
    spec names is imported.
    """
    try:
        make_estimator(estimator)
    except SpecError as error:
        return str(error)
    return ""


def require_ok(measurement: MeasurementStatus) -> None:
    """Skip a cell with a finding instead of a number (NotImplementedError), and fail a cell where
    something broke (RuntimeError); do nothing for ``ok``.
    """
    status, reason = measurement
    if status != "ok":
        raise (RuntimeError if status in BROKEN else NotImplementedError)(f"{status}: {reason}")


def prepare() -> None:
    """Load into this process what every cell needs and would take a second to load itself: kernels,
    the problems' code, and the digests of sources that results are found by.

    A case or estimator that raises an error is passed over: it fails in its own cells.
    """
    kernels.prepare({DTYPES[case.dtype] for case in selection().cases})
    for case, estimator in selection().pairs:
        # What is broken fails in its own cells.
        with contextlib.suppress(Exception):
            problem_and_algorithm(case, selection().device)
            store().place(Scores(case, estimator))


# The process that asv forks all cells from imports the benchmarks first.
if "run_server" in sys.argv:
    prepare()


class _Cells:
    """What all benchmarks share: a cell is an estimator at a depth, on the case of the class."""

    case: ClassVar[Case]
    params: ClassVar[list[list[object]]]
    param_names: tuple[str, ...] = ("estimator", "depth")
    timeout = selection().timeout

    def setup_cache(self) -> None:
        """Fill the store before the first cell, as `pudle run` does, in as many processes as there
        are cores; asv calls it once for all classes, and says so by the name of this module.

        All of the selection is measured, because asv does not say which cells it is going to call.
        Estimators that this commit lacks are left out. In a plain `asv run` the selection, the
        lists of the run and asv's configuration are written as well: `pudle report` then shows the
        run, and `pudle run` continues it. PudleError says that another run holds the folder.
        """
        known = (spec for spec in selection().estimators if not lacking(spec))
        run = Run(replace(selection(), estimators=tuple(known)), store())
        with locked(run.folder, "run"):
            if SELECTION_VARIABLE not in os.environ:
                run.begin()
                # For `asv publish`, as after `pudle run`.
                configure(run.folder, ROOT, str(ROOT / "bench"))
            with Pool(os.cpu_count() or 1, module=PRELOADED) as pool:
                run.fill(pool)

    setup_cache.timeout = MOST_FILLING  # type: ignore[attr-defined]  # asv reads it there


class _Estimates(_Cells):
    """Base of times and memory: a cell is one estimate, whose cost is in the store as well."""

    metric: ClassVar[str]
    #: What the measured call has returned.
    estimate: Estimate | None = None
    _is_checked = False

    def setup(self, estimator: str, depth: int) -> None:
        """Make the estimator of a cell, the algorithm, and the problem at a theta that the
        estimator has not seen; asv calls this before every measured call.

        The cell is skipped if its score is no number or the store has no cost, and fails if one of
        the two broke.
        """
        require_ok(record(self.case, estimator).at(depth))
        self.cost = EstimateCost(self.metric, self.case, estimator, depth)
        stored = self.cost.read(store())
        if stored is None:
            raise NotImplementedError(f"{self.metric} is not measured at depth {depth}")
        require_ok(MeasurementStatus(stored.status, stored.reason))
        problem, self.algorithm = problem_and_algorithm(self.case, selection().device)
        self.estimator, self.estimate = make_estimator(estimator), None
        self.seed = secrets.randbits(63)
        self.problem = at_unseen_theta(problem, self.seed)

    def teardown(self, estimator: str, depth: int) -> None:
        """Fail the cell if its first measured call did not return what scores are of."""
        if self.estimate and not self._is_checked:
            self._is_checked = True
            returned = Returned.of(self.estimate)
            self.cost.require_scored(self.seed, returned, selection().device)


def add_case_classes(
    base: type[_Cells], depths: Iterable[int], module: dict[str, object], ending: str = ""
) -> None:
    """Add a class for each case to `module`, the names of a module, with the estimators and those
    of the depths that are measured on it; a case without any gets none.

    A class has the case's name, with underscores for other characters, and the `ending`.
    """
    selected, measured_depths = selection(), {*depths}
    for case in selected.cases:
        estimators = [
            name for name in selected.estimators if not selected.left_out(case.name, name)
        ]
        scored = [depth for depth in case.depths if depth in measured_depths]
        name = re.sub(r"\W", "_", case.name) + ending
        while name in module:
            name += "_"
        if estimators and scored:
            fields = {"case": case, "params": [estimators, scored], "__module__": base.__module__}
            module[name] = type(name, (base,), {**fields, "__doc__": base.__doc__})
