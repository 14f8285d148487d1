"""The base of algorithms without a step size and a thresholding rule."""

from dataclasses import dataclass, field

from ..errors import InvalidArgument
from .algorithm import Algorithm
from .thresholding import Soft, Thresholding


@dataclass(frozen=True)
class Stepless(Algorithm):
    """An algorithm that takes neither a step size nor a thresholding rule."""

    step: float | None = field(default=None, repr=False, compare=False, metadata={"spec": False})
    thresholding: Thresholding = field(
        default=Soft(), repr=False, compare=False, metadata={"spec": False}
    )

    def __post_init__(self) -> None:
        # One is what `Iteration.step_size` returns.
        if self.step not in (None, 1.0) or self.thresholding != Soft():
            raise InvalidArgument(
                f"{self.name} has no step size and no thresholding rule: leave them out, or use"
                " ista or fista, which have both"
            )
