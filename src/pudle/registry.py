"""Find estimators, datasets, algorithms and so on by name: all are entry points, whether built in or from a plug-in.

The registry knows none of the classes that it returns, so that every room can ask it; `pudle` itself has the types.
"""

from __future__ import annotations

import functools
from importlib.metadata import entry_points
from typing import Any

from . import specs
from .errors import PudleError, first_line


@functools.cache
def entries(group: str) -> dict[str, Any]:
    """Return ``{name: object}`` for the entry points in the group ``pudle.<group>``, sorted by name.

    Two installed packages that claim one name, and a plug-in that cannot be imported, raise PudleError, which names them.
    """
    found: dict[str, Any] = {}
    for point in sorted(entry_points(group=f"pudle.{group}"), key=lambda point: point.name):
        owner = point.dist.name if point.dist else "an installed package"
        try:
            entry = point.load()
        except Exception as error:
            raise PudleError(
                f"plug-in {point.name!r} of {owner} cannot be loaded from {point.value} "
                f"({type(error).__name__}: {first_line(error)}): repair or uninstall {owner}"
            ) from error
        if found.setdefault(point.name, entry) is not entry:
            raise PudleError(f"two installed packages provide {point.name!r} in pudle.{group}: uninstall one of them")
    return found


def list_estimators() -> dict[str, Any]:
    """Return every registered estimator as ``{name: class}``."""
    return dict(entries("estimators"))


def list_datasets() -> dict[str, Any]:
    """Return every registered dataset as ``{name: class}``."""
    return dict(entries("datasets"))


def list_profiles() -> dict[str, Any]:
    """Return every profile as ``{name: selection}``; `pudle run --profile NAME` measures the selection."""
    return dict(entries("profiles"))


def list_studies() -> dict[str, dict[str, Any]]:
    """Return every study as ``{name: {name: experiment}}``; each entry point of ``pudle.experiments`` is a study.

    Two studies with experiments of one name raise PudleError.
    """
    owners: dict[str, str] = {}
    for study, experiments in entries("experiments").items():
        for name in experiments:
            if owners.setdefault(name, study) != study:
                raise PudleError(f"the studies {owners[name]} and {study} both have an experiment {name!r}: rename one")
    return dict(entries("experiments"))


def list_experiments() -> dict[str, Any]:
    """Return every experiment of every study as ``{name: experiment}``."""
    return {name: experiment for study in list_studies().values() for name, experiment in study.items()}


def make_estimator(spec: str) -> Any:
    """Make an estimator from a spec such as ``"truncated(window=10)"``, whose name may be an alias from the literature.

    Raises
    ------
    SpecError
        If the spec is malformed or its name is unknown (the text suggests the nearest name).
    """
    classes = entries("estimators")
    aliases = {alias: cls for cls in classes.values() for alias in getattr(cls, "aliases", ())}
    return specs.build(spec, classes, "estimator", aliases)


def make_dataset(spec: str) -> Any:
    """Make a dataset from a spec such as ``"sparse_gaussian(n_samples=1000, seed=0)"``."""
    return specs.build(spec, entries("datasets"), "dataset")


def make_algorithm(spec: str) -> Any:
    """Make an inner algorithm from a spec such as ``"ista(step=0.2)"``."""
    return specs.build(spec, entries("algorithms"), "algorithm")


def make_thresholding(spec: str) -> Any:
    """Make a thresholding rule from a spec such as ``"decaying(decay=0.99)"``."""
    return specs.build(spec, entries("thresholding"), "thresholding rule")


def make_optimizer(spec: str) -> Any:
    """Make an optimizer from a spec such as ``"adam(learning_rate=1e-3, epsilon=1e-8)"``."""
    return specs.build(spec, entries("optimizers"), "optimizer")


def make_schedule(spec: str) -> Any:
    """Make a learning-rate schedule from a spec such as ``"step(every=100, factor=0.1)"``."""
    return specs.build(spec, entries("schedules"), "schedule")
