"""Problems that are given as objects, in the place of a dataset."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..errors import UnsupportedProblem
from ..names import text
from ..problems import Problem
from .dataset import Dataset


@dataclass(frozen=True, eq=False)
class GivenProblems(Dataset):
    """A dataset that hands out problems which exist, in their own precision and on their own
    device: a spec names it, and makes none.

    Attributes
    ----------
    draw : callable
        Returns the problem of a seed with a loss.
    losses : tuple of str
        The losses that these problems have.
    label : str
        Their name for people.
    number : int
        What tells them apart from others of that name.
    """

    draw: Callable[[int, str], Problem] = field(repr=False, metadata={"spec": False})
    # A dataset's losses are those of its class; these depend on the problems.
    losses: tuple[str, ...] = field(metadata={"spec": False})  # type: ignore[misc]
    label: str
    number: int
    seed: int = 0

    name = "given"

    @classmethod
    def of(cls, source: Dataset | Problem, device: str = "cpu") -> GivenProblems:
        """Return the dataset of one problem, whatever the seed, or of what a dataset draws on a
        device.

        A problem stays on its own device; its loss is called ``own`` where it has no name. What is
        drawn for a seed and a loss is kept, and returned at each later call. The losses of a
        dataset are those that it has.
        """
        if isinstance(source, Problem):
            loss = getattr(source, "loss", None)
            losses = (loss if isinstance(loss, str) else "own",)
            return cls(lambda *_: source, losses, type(source).__name__, id(source))

        @functools.cache
        def draw(seed: int, loss: str) -> Problem:
            return source.reseeded(seed).problem(loss, device=device)

        return cls(draw, source.losses, text(source), id(source))

    def problem(
        self,
        loss: str = "",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Problem:
        """Return the problem of the seed, if it has the loss: the object itself, whatever the dtype
        and the device asked for.

        Raises
        ------
        UnsupportedProblem
            If it has not; without a loss, that of the problem serves.
        """
        if loss and loss not in self.losses:
            raise UnsupportedProblem(
                f"{self.label} has the loss {self.losses[0]}, not {loss}: make another problem"
                " with it"
            )
        return self.draw(self.seed, loss)
