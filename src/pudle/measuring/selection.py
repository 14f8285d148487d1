"""The selection of one run: which cases, estimators and experiments it measures, frozen into a
file.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import names
from ..errors import InvalidArgument, PudleError, first_line
from ..files import read_record, write_record
from .case import Case
from .crossing import Axes
from .provenance import results_home

#: Environment variable that names the file of a frozen selection; without it a plain `asv run`
#: measures the quick profile.
SELECTION_VARIABLE = "PUDLE_SELECTION"


@dataclass(frozen=True)
class Selection:
    """All that one run measures. Discovery reads it from a file, so that names never shift between
    commits.

    Attributes
    ----------
    profile : str
        Name of the profile; results are kept per profile.
    cases : tuple of Case
    estimators : tuple of str
        Specs.
    tracked_depths, timed_depths : tuple of int
        Depths at which asv tracks the accuracy, and those at which costs are measured where they
        are scored.
    costs : tuple of str
        Costs to measure, see `pudle.measuring.costs.Cell`.
    torch_depths : tuple of int
        Those of the timed depths at which times are measured on the torch path as well, where
        kernels take its place otherwise. There a time is linear in the depth, so that a few of them
        tell it.
    timeout, experiment_timeout : float
        Seconds that one estimator may take on one case, and that one experiment may take.
    device : str
        ``cpu`` or ``cuda``.
    windows : tuple of int
        Windows of the error surface of `truncated` over depth and window; without any, no surface
        is measured.
    jacobian_error : bool
        Whether to measure the error of the unrolled Jacobian over depth.
    experiments : tuple of str
        Names of the experiments to carry out, see `pudle.measuring.experiment`.
    limited : tuple of triples of str
        An estimator, a pattern of names of cases, and a reason: an estimator that is named here is
        measured only on cases that match a pattern of its own.
    """

    profile: str
    cases: tuple[Case, ...]
    estimators: tuple[str, ...]
    tracked_depths: tuple[int, ...]
    timed_depths: tuple[int, ...]
    timeout: float = 600.0
    costs: tuple[str, ...] = ("memory_bytes", "seconds")
    torch_depths: tuple[int, ...] = ()
    device: str = "cpu"
    windows: tuple[int, ...] = ()
    jacobian_error: bool = False
    experiments: tuple[str, ...] = ()
    experiment_timeout: float = 4 * 3600.0
    limited: tuple[tuple[str, str, str], ...] = ()

    @property
    def pairs(self) -> list[tuple[Case, str]]:
        """Every case with every estimator that is measured on it."""
        return [
            (case, name)
            for case in self.cases
            for name in self.estimators
            if not self.left_out(case.name, name)
        ]

    def left_out(self, case: str, estimator: str) -> str:
        """Return why an estimator is not measured on a case, an empty text if it is."""
        limits = [limit for limit in self.limited if limit[0] == estimator]
        if not limits or any(fnmatch.fnmatch(case, pattern) for _, pattern, _ in limits):
            return ""
        return limits[0][2]

    def case(self, name: str) -> Case:
        """Return the case of that name."""
        cases = {case.name: case for case in self.cases}
        if name not in cases:
            raise InvalidArgument(f"unknown case {name!r}: the selection holds {', '.join(cases)}")
        return cases[name]

    def write(self, path: Path) -> None:
        """Write the selection, atomically."""
        write_record(path, self)

    @classmethod
    def read(cls, path: Path) -> Selection:
        """Read a selection that `write` wrote; any other file raises UnreadableResult."""
        return read_record(path, cls)


def select(
    profile: Selection,
    *,
    estimators: Iterable[str] = (),
    only: bool = False,
    datasets: Iterable[str] = (),
    algorithms: Iterable[str] = (),
    losses: Iterable[str] = (),
    depths: Iterable[int] = (),
    targets: Iterable[str] = (),
    seeds: int | None = None,
    samples: int | None = None,
    cases: Collection[str] = (),
    experiments: Collection[str] = (),
    device: str = "cpu",
    timeout: float | None = None,
    home: Path | None = None,
) -> Selection:
    """Return the selection of a profile, changed by the options of `pudle run`.

    `estimators`, and installed plug-ins, are added to the profile's unless `only`. Datasets,
    algorithms, losses, depths, targets and numbers of seeds and samples take the place of the
    profile's, see `pudle.measuring.crossing.Axes`; `cases` are patterns of names of those to keep,
    in the profile or as changed. Without named experiments, those of the profile stay, unless the
    options change anything else. With named experiments, cases stay only if the options change
    them. `timeout` replaces the profile's limit, and that of experiments where it exceeds theirs.
    `home` is the folder of the results, from which paths in names are seen. Patterns that match
    nothing, specs that name nothing, and `only` without estimators raise InvalidArgument.
    """
    named = tuple(map(_named, estimators))
    if only and not named:
        raise InvalidArgument("--only needs at least one --estimator SPEC to measure")
    chosen = named if only else (*profile.estimators, *plugins(), *named)
    axes = Axes(
        tuple(datasets),
        tuple(algorithms),
        tuple(losses),
        tuple(sorted(set(depths))),
        tuple(targets),
        seeds,
        samples,
    )
    # A published name selects its case also where the options change it, and so give it another
    # name.
    known_cases = {case.name: case for case in profile.cases}
    published = (
        bool(cases)
        and not axes.datasets
        and all(fnmatch.filter(known_cases, pattern) for pattern in cases)
    )
    chosen_cases = _matching(cases, known_cases, "--case", "") if published else known_cases
    kept = {
        case.name: case for case in axes.cross(tuple(chosen_cases.values()), home or results_home())
    }
    if cases and not published:
        hint = f"case of profile {profile.profile}: known are {', '.join(known_cases | kept)}"
        kept = _matching(cases, kept, "--case", hint)
    narrowed = bool(only or cases or axes)
    carried_out = () if narrowed else profile.experiments
    if experiments:
        known = names.list_experiments()
        hint = f"experiment: `pudle list experiments` lists all {len(known)} of them"
        carried_out = tuple(_matching(experiments, known, "--experiment", hint))
        kept = kept if narrowed else {}
    return dataclasses.replace(
        profile,
        cases=tuple(kept.values()),
        estimators=tuple(dict.fromkeys(chosen)),
        experiments=carried_out,
        device=device,
        tracked_depths=axes.depths or profile.tracked_depths,
        timed_depths=axes.depths or profile.timed_depths,
        torch_depths=profile.torch_depths and (axes.depths or profile.torch_depths),
        timeout=timeout or profile.timeout,
        experiment_timeout=max(timeout or 0.0, profile.experiment_timeout),
        # What a user names is measured wherever the user asks.
        limited=() if axes else tuple(limit for limit in profile.limited if limit[0] not in named),
    )


def _matching(
    patterns: Collection[str], known: dict[str, Any], option: str, hint: str
) -> dict[str, Any]:
    """Return the known items whose name matches a pattern; each pattern must match a name."""
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise InvalidArgument(f"{option} {pattern!r} matches no {hint}")
    return {
        name: item
        for name, item in known.items()
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    }


def _named(spec: str) -> str:
    """Return the canonical spec of an estimator that the user names, or refuse one that cannot be
    stored under it.
    """
    made = names.make_estimator(spec)
    try:
        made.fingerprint()
        return names.text(made)
    except Exception as error:
        raise InvalidArgument(
            f"estimator {spec!r} has no fingerprint ({first_line(error)}): repair its package"
        ) from error


def plugins() -> tuple[str, ...]:
    """Return the specs of the installed plug-in estimators that need no arguments; name the others
    on stderr.
    """
    found = []
    for name, cls in names.list_estimators().items():
        if cls.__module__.partition(".")[0] == "pudle":
            continue
        try:
            found.append(names.text(cls()))
        except (TypeError, PudleError):
            print(
                f"plug-in {name} needs arguments: name it with --estimator '{name}(...)'",
                file=sys.stderr,
            )
    return tuple(found)
