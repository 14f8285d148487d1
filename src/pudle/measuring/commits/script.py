"""What each of two commits does itself: a worker of its Python calls these functions by name, which
are then that commit's own. So neither this module nor its functions, nor `pudle.workers` with its
`work` and `Outcome`, may change name or arguments: tests/measuring/commits/test_protocol.py.

A request is plain values, because the two commits may have different classes.
"""

import dataclasses
import fnmatch
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import names
from ...errors import first_line
from ...files import read_record
from ..execution import execute
from ..options import Options
from ..results.cost import MEMORY, TIME, EstimateCost, Timer, start_scorer
from ..selection import Selection, select

#: What a request names by specs.
GROUPS = ("estimators", "datasets", "algorithms")
Request = Mapping[str, Any]


def options_of(request: Request) -> Options:
    """Return the options in a request, which has the name of a profile beside them; what this
    commit's `Options` does not have is left out.
    """
    known = {field.name for field in dataclasses.fields(Options)}
    return Options(**{name: value for name, value in request.items() if name in known})


def lacking(request: Request) -> dict[str, str]:
    """Return the reason, by name, for each plug-in that cannot be loaded, and for each requested
    spec or pattern that names nothing.

    Imports all plug-ins and the user's files that specs name. Patterns of cases are not judged
    where datasets are requested, because names of cases on these are not known before they are
    drawn.
    """
    reasons: dict[str, str] = {}
    for group in names.KINDS:
        reasons |= names.entries(group).broken
    for group in GROUPS:
        for spec in request.get(group, ()):
            try:
                names.make(group, spec)
            except Exception as error:  # noqa: BLE001
                # A plug-in may raise anything, and is then missing on this side.
                # A list of all that is known is too long for a verdict.
                reasons[spec] = (first_line(error) or repr(error)).partition(": known are ")[0]
    cases = [case.name for case in names.list_profiles()[request["profile"]].cases]
    # The names of cases on other datasets are not known before they are drawn.
    for pattern in () if request.get("datasets") else request.get("cases", ()):
        if not fnmatch.filter(cases, pattern):
            reasons[pattern] = f"--case {pattern!r} matches no case{names.nearest(pattern, cases)}"
    return reasons


def measure(request: Request, home: Path) -> None:
    """Measure scores and memory of what the commit has of what is requested, and write them into
    the home; measure nothing if it has none of the requested datasets, algorithms or cases, or none
    of the only estimators.

    Times and experiments are left out.
    """
    absent, options = lacking(request), options_of(request)
    # No verdict depends on the rest of a profile, and times are taken in turns.
    profile = dataclasses.replace(
        names.list_profiles()[request["profile"]], experiments=(), costs=(MEMORY,)
    )
    present: dict[str, Any] = {}
    for group in (*GROUPS, "cases"):
        requested = getattr(options, group)
        present[group] = tuple(spec for spec in requested if spec not in absent)
        is_needed = group != "estimators" or options.only
        if is_needed and requested and not present[group]:
            return
    # Both sides call files alike, as seen from their checkouts.
    execute(select(profile, dataclasses.replace(options, **present), Path()), home=home)


_read = functools.cache(read_record)


@functools.cache
def _timer(device: str) -> Timer:
    """Return the timer of this process, which has run no estimator before."""
    return Timer(device, None if device.startswith("cuda") else start_scorer(device))


def seconds(path: Path, cell: tuple[str, str, int], calls: int) -> float:
    """Return the seconds of one estimate of a cell, whose case the selection at `path` names.

    The selection and the warmed-up estimate are kept for the process. Other commits time so many
    `calls`: this one measures as `Timer` does.
    """
    name, estimator, depth = cell
    selection: Selection = _read(path, Selection)
    timer: Timer = _timer(selection.device)
    (case,) = (case for case in selection.cases if case.name == name)
    return timer.seconds(EstimateCost(TIME, case, estimator, depth, selection.threads))
