"""TorchDEQ: deep equilibrium models."""

import torch
from census import Known, Layer, Status, drawn
from equilibrium import by_unrolling, step
from torchdeq import get_deq

DOCUMENTED = "https://github.com/locuslab/torchdeq/blob/main/torchdeq/core.py"


def equilibrium(known: Known | None = None, **options: object) -> Layer:
    deq = get_deq(**options)
    layer = lambda x: deq(lambda z: step(z, x), torch.zeros_like(x))[0][0]  # noqa: E731
    return Layer(layer, [drawn(3, 4)], {"step": step}, known, by_unrolling)


def implicit() -> Layer:
    """Equilibrium of a tanh layer, `ift=True`."""
    text = f"At most 40 steps and tolerances of 1e-3 and 1e-6 are the [defaults]({DOCUMENTED})."
    return equilibrium(Known(Status.APPROXIMATION, text), ift=True)


def tight() -> Layer:
    """Equilibrium of a tanh layer, `ift=True`, tolerances of 1e-12."""
    tolerances = {"f_tol": 1e-12, "b_tol": 1e-12, "f_max_iter": 300, "b_max_iter": 300}
    return equilibrium(ift=True, **tolerances)


def as_it_comes() -> Layer:
    """Equilibrium of a tanh layer, options as they come."""
    text = f"One step is differentiated, as [documented]({DOCUMENTED}): a phantom gradient."
    return equilibrium(Known(Status.APPROXIMATION, text))


LAYERS = [implicit, tight, as_it_comes]
