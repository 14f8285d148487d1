"""The momentum sequence of accelerated methods."""

from typing import TypeVar

from torch import Tensor

#: One number for all samples, or one for each.
Momentum = TypeVar("Momentum", float, Tensor, float | Tensor)


def following(momentum: Momentum) -> Momentum:
    """Return ``a_{t+1} = (1 + sqrt(1 + 4 a_t^2)) / 2``."""
    return (1 + (1 + 4 * momentum**2) ** 0.5) / 2


#: Share of the codes up to which steps count as rounding: close to a minimum every program would
#: otherwise restart at layers of its own. Well above what momentum makes of rounding in double
#: precision; in single precision rounding is larger.
MARGIN = 1e-12


def is_uphill(back: Tensor, moved: Tensor, codes: Tensor) -> Tensor:
    """Return for each sample whether ``(y - z')^T (z' - z) > 0`` by more than `MARGIN`, from y -
    z', z' - z and z'.
    """
    uphill = (back * moved).flatten(1).sum(1)
    return uphill > MARGIN * (codes.abs() * (back.abs() + moved.abs())).flatten(1).sum(1)
