"""What each of two commits does itself: a worker of its Python calls these functions by name, which
are then that commit's own.
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
from .. import costs
from ..run import execute
from ..selection import Selection, select

#: What a request names by specs.
GROUPS = ("estimators", "datasets", "algorithms")


def lacking(request: Mapping[str, Any]) -> dict[str, str]:
    """Return the reason for each name that cannot be loaded, and for each requested spec or pattern
    that names nothing.

    A request is the arguments of `select`, and the name of a profile.
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


def measure(request: Mapping[str, Any], home: Path) -> None:
    """Measure scores and memory of what the commit has of what is requested, if it has some of each
    kind.
    """
    absent, options = lacking(request), dict(request)
    # No verdict depends on the rest of a profile, and times are taken in turns.
    profile = dataclasses.replace(
        names.list_profiles()[options.pop("profile")],
        windows=(),
        jacobian_error=False,
        experiments=(),
        costs=("memory_bytes",),
    )
    for group in (*GROUPS, "cases"):
        options[group] = [each for each in request.get(group, ()) if each not in absent]
        needed = group != "estimators" or request.get("only")
        if needed and request.get(group) and not options[group]:
            return
    # Both sides call files alike, as seen from their checkouts.
    execute(select(profile, home=Path(), **options), home=home)


_read, _timer = functools.cache(read_record), functools.cache(costs.timer)


def seconds(path: Path, cell: tuple[str, str, int], calls: int) -> float:
    """Return the seconds of a cell; other commits time so many `calls`."""
    case, *what = cell
    selection = _read(path, Selection)
    return _timer(selection.device)("seconds", selection.case(case), *what)
