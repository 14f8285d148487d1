"""The estimators that take part: single ones, and families whose number of windows or terms is
searched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import names
from ..errors import InvalidArgument, MissingDependency
from ..estimator import GradientEstimator
from ..peers import Peer
from .draws import spec_of

#: Claims for which no error can be required: their errors are those of a random draw, or of no
#: gradient.
NOT_ADVISED = ("stochastic", "heuristic")


@dataclass(frozen=True)
class Family:
    """Estimators that differ in one whole number, such as the window of `truncated`."""

    name: str
    option: str
    #: Whether a number of at least the depth is the same as no limit.
    windows: bool = False

    def member(self, number: int) -> str:
        """Return the spec of one of them."""
        return f"{self.name}({self.option}={number})"


@dataclass(frozen=True)
class Candidate:
    """An estimator, as a spec or an object, and its number in a family."""

    estimator: Any
    family: Family | None = None
    number: int = 0

    @property
    def name(self) -> str:
        """The spec of the estimator."""
        return spec_of(self.estimator)

    @property
    def kind(self) -> str:
        """The name of the family, or of the estimator that has none."""
        return self.family.name if self.family else self.name

    @property
    def made(self) -> Any:
        """The estimator itself."""
        is_spec = isinstance(self.estimator, str)
        return names.make_estimator(self.estimator) if is_spec else self.estimator

    def distinct(self, depths: Sequence[int]) -> list[int]:
        """Return the depths at which it is not full backpropagation: a window of the depth or more
        is.
        """
        windows = self.family is not None and self.family.windows
        return [depth for depth in depths if depth > self.number or not windows]


def candidates(
    estimators: Iterable[str | GradientEstimator] = (),
) -> tuple[list[Any], list[Family]]:
    """Return the single estimators (specs or objects) and the families that take part.

    Without `estimators` these are all built-in ones and installed plug-ins whose claim is
    deterministic, but not other packages' twins of them. A name whose class needs one whole number,
    such as ``truncated``, stands for its family.
    """
    classes = names.list_estimators()
    named = list(estimators) or [
        name
        for name, cls in classes.items()
        if not issubclass(cls, Peer) and cls.computes not in NOT_ADVISED
    ]
    single: list[Any] = []
    families: list[Family] = []
    for each in named:
        if isinstance(each, GradientEstimator):
            single.append(each)
        elif each in classes and (option := searched_option(classes[each])):
            families.append(Family(each, option, classes[each].computes == "truncated"))
        elif each in classes and not estimators:
            single += _made_by_default(each)
        else:
            made = names.make_estimator(each)
            if made.computes in NOT_ADVISED:
                raise InvalidArgument(
                    f"estimator {each!r} is {made.computes}: no error can be stated for it; leave"
                    " it out"
                )
            single.append(names.text(made))
    return list(dict.fromkeys(single)), families


def searched_option(cls: type) -> str | None:
    """Return the option of a class that is searched: the only one without a default, if it is a
    whole number.
    """
    missing = dataclasses.MISSING
    needed = (
        [each for each in names.options(cls) if each.default is each.default_factory is missing]
        if (dataclasses.is_dataclass(cls))
        else []
    )
    return needed[0].name if len(needed) == 1 and needed[0].type in (int, "int") else None


def _made_by_default(name: str) -> list[str]:
    """Return the spec of an estimator with its default options; none where it needs options or
    lacks a package.
    """
    try:
        names.make_estimator(name)
    except (InvalidArgument, MissingDependency):
        return []
    return [name]
