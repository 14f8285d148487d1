"""What rounding does to numbers that torch computes, found by rounding them at random."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..problems.linearized import norm

#: Random roundings are so many times as large as those of the dtype, so that these are not seen
#: beside them; more would leave no digit of a number in half precision.
MAGNIFIED = 2.0**8
#: Random roundings of numbers that are few, whose sum may be small by chance, and how many are few.
DRAWS, FEW = 3, 100
#: Functions that round nothing themselves, and would make much of a rounding of a whole number, or
#: of one of two that are equal.
NOT_ROUNDED = {
    *"ceil clone eq floor frac gather ge gt le lt ne round searchsorted sign sort trunc".split()
}


# A class of torch's without types.
class RandomRounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Arithmetic whose operands are off by random roundings, other than of what is changed in place
    or seen through another tensor.

    It also rounds data that are converted to a lower precision, and all that is computed in one.

    References
    ----------
    Parker, "Monte Carlo arithmetic: exploiting randomness in floating-point arithmetic", 1997.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed, self._generators = seed, dict[torch.device, torch.Generator]()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Torch would import its compiler, for a second, and call it for each operation. It asks as
        # soon as the class exists, before mutmut could have changed the answer.
        return False  # pragma: no mutate

    def __torch_dispatch__(
        self, function: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        exact = function.is_view or function.overloadpacket.__name__ in NOT_ROUNDED
        if not (exact or function._schema.is_mutable):
            args = [*map(self._perturb, args)]
        return function(*args, **kwargs or {})

    def _perturb(self, operand: object) -> object:
        """Return a dense tensor of real numbers off by random relative roundings, 256 times those
        of its dtype, as a new tensor, and anything else as it is.

        Draws from a generator of its own for each device, with the seed of the object.
        """
        if not isinstance(operand, Tensor) or not operand.is_floating_point():
            return operand
        if operand.layout != torch.strided:
            return operand
        device = operand.device
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        share = min(MAGNIFIED * torch.finfo(operand.dtype).eps / 2, 0.25)
        random = torch.empty_like(operand)
        random.uniform_(1 - share, 1 + share, generator=self._generators[device])
        return random.mul_(operand)


def rounding_errors(
    compute: Callable[[], Sequence[Tensor]], computed: Sequence[Tensor]
) -> list[float]:
    """Estimate the norms of the errors that rounding makes in what a function has computed, one for
    each tensor of `computed`.

    They are what random roundings change, one to each operand, and a last rounding of the result.
    The function is called again with fixed seeds, three times where a tensor has fewer than 100
    entries, else once. Where it fails on numbers that are a little off, all are zero; one that is
    not finite is zero as well.
    """
    count = DRAWS if min(value.numel() for value in computed) < FEW else 1
    squares = [0.0] * len(computed)
    for draw in range(count):
        try:
            with RandomRounding(draw):
                rounded = compute()
        except Exception:  # noqa: BLE001  # whatever the user's functions raise
            return [0.0] * len(computed)
        for index, (rounded_value, value) in enumerate(zip(rounded, computed, strict=True)):
            squares[index] += norm(rounded_value.double() - value.double()) ** 2 / count
    last_roundings = [torch.finfo(value.dtype).eps / 2 * norm(value.double()) for value in computed]
    errors = [
        square**0.5 / MAGNIFIED + size for square, size in zip(squares, last_roundings, strict=True)
    ]
    # A number that is not finite after such roundings has not been measured.
    return [error if error < float("inf") else 0.0 for error in errors]
