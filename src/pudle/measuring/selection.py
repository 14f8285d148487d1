"""The selection of one run: which cases, estimators and experiments it measures, frozen into a file."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import registry, specs
from ..errors import InvalidArgument
from ..files import converted, read_json, write_atomically
from .case import Case, slug


@dataclass(frozen=True)
class Selection:
    """All that one run measures. Discovery reads it from a file, so that names never shift between commits.

    Attributes
    ----------
    profile : str
        Name of the profile; results are kept per profile.
    cases : tuple of Case
    estimators : tuple of str
        Specs.
    tracked_depths, timed_depths : tuple of int
        Depths at which asv tracks the accuracy, and those at which costs are measured where they are scored.
    costs : tuple of str
        Costs to measure, of `pudle.measuring.costs.BENCHMARKS`.
    timeout, experiment_timeout : float
        Seconds that one estimator may take on one case, and that one experiment may take.
    device : str
        ``cpu`` or ``cuda``.
    windows : tuple of int
        Windows of the error surface of `truncated` over depth and window; without any, no surface is measured.
    jacobian_error : bool
        Whether to measure the error of the unrolled Jacobian over depth.
    experiments : tuple of str
        Names of the experiments to carry out, see `pudle.measuring.experiment`.
    """

    profile: str
    cases: tuple[Case, ...]
    estimators: tuple[str, ...]
    tracked_depths: tuple[int, ...]
    timed_depths: tuple[int, ...]
    timeout: float = 600.0
    costs: tuple[str, ...] = ("memory_bytes", "seconds", "seconds_torch")
    device: str = "cpu"
    windows: tuple[int, ...] = ()
    jacobian_error: bool = False
    experiments: tuple[str, ...] = ()
    experiment_timeout: float = 4 * 3600.0

    @property
    def pairs(self) -> list[tuple[Case, str]]:
        """Every case with every estimator."""
        return [(case, estimator) for case in self.cases for estimator in self.estimators]

    def case(self, name: str) -> Case:
        """Return the case of that name."""
        cases = {case.name: case for case in self.cases}
        if name not in cases:
            raise InvalidArgument(f"unknown case {name!r}: the selection holds {', '.join(cases)}")
        return cases[name]

    def write(self, path: Path) -> None:
        """Write the selection as JSON, atomically."""
        write_atomically(path, json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Selection:
        """Read a selection that `write` wrote; a file that holds anything else raises UnreadableResult."""
        return converted(path, read_json(path), cls)


def select(
    profile: Selection,
    *,
    estimators: Iterable[str] = (),
    only: bool = False,
    cases: Collection[str] = (),
    datasets: Iterable[str] = (),
    experiments: Collection[str] = (),
    device: str = "cpu",
) -> Selection:
    """Return the selection of a profile, narrowed and widened by the options of `pudle run`.

    Installed plug-ins are added to the profile's estimators. Without named experiments, those of the profile stay, unless
    `only`, cases or datasets narrow the selection. With named experiments, cases stay only if it is narrowed as well.
    Patterns that match nothing, specs that name nothing, and `only` without estimators raise InvalidArgument.
    """
    named = tuple(specs.text(registry.make_estimator(spec)) for spec in estimators)
    if only and not named:
        raise InvalidArgument("--only needs at least one --estimator SPEC to measure")
    chosen = named if only else (*profile.estimators, *plugins(), *named)
    kept = {case.name: case for case in (*profile.cases, *(case for spec in datasets for case in _cases_on(spec, profile)))}
    if cases:
        kept = _matching(cases, kept, "--case", f"case of profile {profile.profile}: known are {', '.join(kept)}")
    narrowed = bool(only or cases or datasets)
    carried_out = () if narrowed else profile.experiments
    if experiments:
        known = registry.list_experiments()
        hint = f"experiment: `pudle list experiments` lists all {len(known)} of them"
        carried_out = tuple(_matching(experiments, known, "--experiment", hint))
        kept = kept if narrowed else {}
    chosen = tuple(dict.fromkeys(chosen))
    measured = tuple(kept.values())
    return dataclasses.replace(profile, cases=measured, estimators=chosen, experiments=carried_out, device=device)


def _matching(patterns: Collection[str], known: dict[str, Any], option: str, hint: str) -> dict[str, Any]:
    """Return the known items whose name matches a pattern; each pattern must match a name."""
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise InvalidArgument(f"{option} {pattern!r} matches no {hint}")
    return {name: item for name, item in known.items() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}


def _cases_on(spec: str, profile: Selection) -> list[Case]:
    """Return the cases on a dataset that the user adds: ISTA, every loss, and the profile's seeds and depths."""
    made = registry.make_dataset(spec)
    # Drawn once, so that an empty folder or an unreadable file is refused before anything is measured.
    made.problem()
    dataset = specs.text(made)
    like = dataclasses.replace(profile.cases[0], dataset=dataset, algorithm="ista", loss=made.losses[0], targets=("exact",))
    return [dataclasses.replace(like, name=f"{slug(dataset)}-ista-{loss}", loss=loss) for loss in made.losses]


def plugins() -> tuple[str, ...]:
    """Return the specs of the installed plug-in estimators that need no arguments; name the others on stderr."""
    found = []
    for name, cls in registry.list_estimators().items():
        if cls.__module__.partition(".")[0] == "pudle":
            continue
        try:
            found.append(specs.text(cls()))
        except TypeError:
            print(f"plug-in {name} needs arguments: name it with --estimator '{name}(...)'", file=sys.stderr)
    return tuple(found)
