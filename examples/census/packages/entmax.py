"""entmax: sparse alternatives to softmax."""

import torch
from census import Known, Layer, Status, drawn
from entmax import entmax15, entmax_bisect, entmax_bisect_loss, sparsemax, sparsemax_loss
from torch import Tensor

SCORES, ALPHA, TARGETS = drawn(2, 6, seed=1), torch.tensor(1.6).double(), torch.tensor([2, 4])


def loss_by_hand(scores: Tensor, alpha: Tensor) -> Tensor:
    """The loss at probabilities that are kept fixed: they maximize it up to the target's score."""
    with torch.no_grad():
        scaled = (alpha - 1) * scores
        low, high = scaled.max(-1, True).values - 1, scaled.max(-1, True).values
        for _ in range(100):
            middle = (low + high) / 2
            p = (scaled - middle).relu() ** (1 / (alpha - 1))
            enough = p.sum(-1, True) >= 1
            low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
        p = (scaled - low).relu() ** (1 / (alpha - 1))
    entropy = (1 - (p**alpha).sum(-1)) / (alpha * (alpha - 1))
    return entropy + (p * scores).sum(-1) - scores[torch.arange(2), TARGETS]


def projection() -> Layer:
    """`sparsemax`, in the scores."""
    return Layer(sparsemax, [SCORES])


def three_halves() -> Layer:
    """`entmax15`, in the scores."""
    return Layer(entmax15, [SCORES])


def bisected() -> Layer:
    """`entmax_bisect`, in scores and alpha."""
    return Layer(entmax_bisect, [SCORES, ALPHA], {"tighten": entmax_bisect})


def loss() -> Layer:
    """`sparsemax_loss`, in the scores."""
    return Layer(lambda x: sparsemax_loss(x, TARGETS), [SCORES])


def loss_in_alpha() -> Layer:
    """`entmax_bisect_loss`, in scores and alpha."""
    text = (
        "The backward pass returns None for alpha by construction, without an error or a warning;"
        " the gradient in the scores is right. The docstring takes alpha as a tensor and does not"
        " say that it is a constant; unlike that of `entmax_bisect`, it promises no gradient in it."
    )
    layer = lambda scores, alpha: entmax_bisect_loss(scores, TARGETS, alpha)  # noqa: E731
    known = Known(Status.SILENT, text)
    return Layer(layer, [SCORES, ALPHA], {"tighten": layer}, known, loss_by_hand)


LAYERS = [projection, three_halves, bisected, loss, loss_in_alpha]
