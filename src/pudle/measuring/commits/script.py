"""Script of two commits side by side: run by path with one commit's Python, so that `pudle` is that
commit's.

Usage: ``script.py lacking REQUEST`` prints what is lacking, ``script.py measure REQUEST HOME``
measures, and ``script.py time SELECTION`` times estimates on request. A REQUEST is
the arguments of `Side.measure` as JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import functools
import gc
import json
import sys
import timeit
from pathlib import Path
from typing import Any

from pudle import names
from pudle.errors import PudleError, first_line
from pudle.measuring import costs, meter
from pudle.measuring.run import execute
from pudle.measuring.selection import Selection, select
from pudle.workers import listen

MAKERS = {
    "estimators": names.make_estimator,
    "datasets": names.make_dataset,
    "algorithms": names.make_algorithm,
}


def lacking(request: dict[str, Any]) -> dict[str, str]:
    """Return the reason for each name that cannot be loaded, and for each requested spec or pattern
    that names nothing.
    """
    reasons: dict[str, str] = {}
    for group in names.KINDS:
        reasons |= names.entries(group).broken
    for name, make in MAKERS.items():
        for spec in request.get(name, ()):
            try:
                make(spec)
            except Exception as error:  # noqa: BLE001
                # A plug-in may raise anything, and is then missing on this side.
                # A list of all that is known is too long for a verdict.
                reasons[spec] = (first_line(error) or repr(error)).partition(": known are ")[0]
    cases = [case.name for case in names.list_profiles()[request["profile"]].cases]
    # The names of cases on other datasets are not known before they are drawn.
    for pattern in () if request.get("datasets") else request.get("cases", ()):
        if not fnmatch.filter(cases, pattern):
            nearest = names.nearest(pattern, cases)
            reasons[pattern] = (
                f"--case {pattern!r} matches no case of profile {request['profile']}{nearest}"
            )
    return reasons


def measure(request: dict[str, Any], home: Path) -> None:
    """Measure what the commit has of what is requested, if it has some of each kind."""
    absent, profile = lacking(request), names.list_profiles()[request.pop("profile")]
    for name in (*MAKERS, "cases"):
        wanted = request.get(name, ())
        request[name] = [each for each in wanted if each not in absent]
        if wanted and not request[name] and (name != "estimators" or request.get("only")):
            return
    # No verdict depends on the rest of a profile, and times are taken in turns.
    profile = dataclasses.replace(
        profile, windows=(), jacobian_error=False, experiments=(), costs=("memory_bytes",)
    )
    execute(select(profile, home=home, **request), home=home)


def time_on_request(selection: Selection) -> None:
    """Answer a cell (case, estimator, depth) with the seconds of one call, and a number with those
    of the fastest of so many more; a text says what failed.
    """
    connection, clock = listen(), meter.clock(selection.device)
    while True:
        request, calls = connection.recv(), 1
        try:
            if isinstance(request, int):
                calls = request
            else:
                case, estimator, depth = request
                problem, algorithm = costs.drawn(selection.case(case), selection.device)
                made = names.make_estimator(estimator)
                estimate = functools.partial(made.estimate, problem, algorithm, depth)
                # The first call fills caches that later calls find full: its time does not count.
                estimate()
            gc.collect()
            # Other processes on the machine only ever add to a time, so the fastest call is the
            # least disturbed one.
            answer: float | str = min(timeit.repeat(estimate, timer=clock, number=1, repeat=calls))
        except Exception as error:  # noqa: BLE001
            # Whatever a commit's code raises is a result to report.
            answer = f"{type(error).__name__}: {first_line(error)}"
        connection.send(answer)


def main(task: str, text: str, *home: str) -> None:
    """Carry out what the command line asks for."""
    if task == "time":
        time_on_request(Selection.read(Path(text)))
    elif task == "measure":
        measure(json.loads(text), Path(*home))
    else:
        # What a plug-in prints is no answer.
        with contextlib.redirect_stdout(sys.stderr):
            reasons = lacking(json.loads(text))
        print(json.dumps(reasons))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except PudleError as error:
        sys.exit(str(error))
