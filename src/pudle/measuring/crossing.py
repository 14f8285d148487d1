"""Cases made of axes that take the place of a profile's: datasets x algorithms x losses, depths,
seeds, samples, targets.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import names
from ..errors import InvalidArgument, PudleError, first_line
from ..problems import Problem
from ..references.certified import MINIMIZER_TARGETS, default_target
from .case import Case, short, spec_slug


@dataclass(frozen=True)
class Axes:
    """What takes the place of a profile's axes; an axis without values stays the profile's.

    Attributes
    ----------
    datasets, algorithms : tuple of str
        Specs. A dataset that is named without an algorithm is run with ISTA, or with the step that
        its problem brings.
    losses : tuple of str
        Outer losses; without any, a dataset that is named has all of its own.
    depths : tuple of int
    targets : tuple of str
        Targets of the references; without any, ``exact`` where the minimizer is known and sought,
        else ``limit``.
    seeds : int, optional
        Number of seeds: 0 to seeds - 1.
    samples : int, optional
        Number of samples of every dataset that has the option ``n_samples``.
    """

    datasets: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    depths: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    seeds: int | None = None
    samples: int | None = None

    def __bool__(self) -> bool:
        return self != Axes()

    def cross(self, cases: Sequence[Case], home: Path) -> tuple[Case, ...]:
        """Return a profile's cases with these axes in place of theirs; pairs that do not fit are
        there, to be reported.

        A case that the profile has, at whatever depths, keeps its name there. Any other gets one
        that says what it is; paths in it are seen from `home`, the folder of the results.

        Raises
        ------
        InvalidArgument
            If a spec names nothing, a dataset cannot be drawn, no dataset has a loss, or none has
            the option ``n_samples``.
        """
        if not self:
            return tuple(cases)
        algorithms = tuple(names.text(names.make_algorithm(spec)) for spec in self.algorithms)
        # All are made before the first is drawn: wrong usage shows at once.
        made = [self._sized(names.make_dataset(spec)) for spec in self.datasets]
        found = [case for dataset in made for case in self._on(dataset, algorithms, cases)]
        if not self.datasets:
            found = [
                self._moved(case, rule, loss)
                for case in cases
                for rule, loss in itertools.product(
                    algorithms or (case.algorithm,), self.losses or (case.loss,)
                )
            ]
        self._check(found)
        own, named = {_identity(case): case.name for case in cases}, dict[str, Case]()
        taken = set(own.values())
        changes: dict[str, Any] = {"depths": self.depths} if self.depths else {}
        changes |= {"seeds": tuple(range(self.seeds))} if self.seeds else {}
        for case in (dataclasses.replace(case, **changes) for case in found):
            name = own.get(_identity(case)) or self._name(case, home)
            # The profile's name for another case keeps its meaning.
            name = f"{name}-added" if name in taken and _identity(case) not in own else name
            named.setdefault(name, dataclasses.replace(case, name=name))
        return tuple(named.values())

    def _on(self, made: Any, algorithms: tuple[str, ...], cases: Sequence[Case]) -> Iterable[Case]:
        """Yield the cases on a dataset that the user names, with the profile's seeds and depths."""
        problem, dataset = _drawn(made), names.text(made)
        usual = problem.default_algorithm
        like = (
            cases[0]
            if cases
            else Case("none", dataset, usual, made.losses[0], seeds=(0, 1, 2), depths=(1, 10, 100))
        )
        for rule, loss in itertools.product(algorithms or (usual,), self.losses or made.losses):
            target = default_target(problem, names.make_algorithm(rule))
            yield dataclasses.replace(
                like, dataset=dataset, algorithm=rule, loss=loss, targets=self.targets or (target,)
            )

    def _moved(self, case: Case, rule: str, loss: str) -> Case:
        """Return a case of the profile with another algorithm, loss and number of samples."""
        leads = names.make_algorithm(rule).thresholding.proximal or not set(case.targets) & set(
            MINIMIZER_TARGETS
        )
        targets = self.targets or (case.targets if leads else ("limit",))
        dataset = (
            names.text(self._sized(names.make_dataset(case.dataset)))
            if self.samples
            else case.dataset
        )
        return dataclasses.replace(
            case, dataset=dataset, algorithm=rule, loss=loss, targets=targets
        )

    def _sized(self, made: Any) -> Any:
        """Return a dataset with the number of samples that is given, if it has such an option."""
        seeded = dataclasses.is_dataclass(made) and hasattr(made, "seed")
        if not seeded:
            raise InvalidArgument(
                f"dataset {made.name} has no option seed: make it a frozen dataclass with `seed:"
                " int = 0`"
            )
        return (
            dataclasses.replace(made, n_samples=self.samples)
            if self.samples and hasattr(made, "n_samples")
            else made
        )

    def _check(self, cases: Sequence[Case]) -> None:
        """Refuse a loss that no dataset here has, and a number of samples that none can have."""
        made = {case.dataset: names.make_dataset(case.dataset) for case in cases}
        losses = dict.fromkeys(loss for dataset in made.values() for loss in dataset.losses)
        for loss in self.losses:
            if loss not in losses:
                hint = f"{names.nearest(loss, losses)}: the datasets here have {', '.join(losses)}"
                raise InvalidArgument(f"--loss {loss!r} is unknown{hint}")
        if self.samples and not any(hasattr(dataset, "n_samples") for dataset in made.values()):
            raise InvalidArgument(
                f"--samples is no option of {', '.join(made)}: none has n_samples"
            )

    def _name(self, case: Case, home: Path) -> str:
        dataset, algorithm = (
            names.make_dataset(case.dataset),
            names.make_algorithm(case.algorithm),
        )
        parts = [spec_slug(case.dataset, home, names.path_options(dataset))]
        parts += [
            spec_slug(case.algorithm, home, names.path_options(algorithm)),
            case.loss,
            *self.targets,
        ]
        return short("-".join([*parts, *([f"{self.seeds}_seeds"] if self.seeds else [])]))


def _drawn(made: Any) -> Any:
    """Draw once, so that an empty folder or an unreadable file is refused before anything is
    measured.

    A dataset of a user's file is drawn twice: a process that draws another problem would score it
    by a wrong reference.
    """
    try:
        drawn = made.problem(made.losses[0])
        if names.origin(type(made)) and not _alike(drawn, made.problem(made.losses[0])):
            raise InvalidArgument(
                f"dataset {names.text(made)} gives another problem when it draws again with the"
                " same seed: draw from a generator that is made with it, such as"
                " torch.Generator().manual_seed(seed)"
            )
        return drawn
    except PudleError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InvalidArgument(
            f"dataset {names.text(made)} cannot be drawn ({reason}): repair it, or leave it out"
        ) from error


def _alike(one: Problem, other: Problem) -> bool:
    """Return whether two problems have the same parameter, the same first layer and the same loss
    after it.
    """
    layers = [
        names.make_algorithm(each.default_algorithm).run(each, 1).codes for each in (one, other)
    ]
    pairs = (
        (one.theta, other.theta),
        tuple(layers),
        (one.outer_loss(layers[0]), other.outer_loss(layers[1])),
    )
    return all(torch.equal(*pair) for pair in pairs)


def _identity(case: Case) -> tuple[Any, ...]:
    """Return all that a case is but its name and its depths, which are an axis of every table."""
    return tuple(
        value for name, value in dataclasses.asdict(case).items() if name not in ("name", "depths")
    )
