"""How far an estimate is from a reference, or why that cannot be said."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from ..estimator import Estimate
from ..references.records import SCORED, Reference
from ..validation import plain_tensor

NAN = float("nan")
#: What is larger, or whose error is, has diverged: floats do not hold its square.
LARGEST = 1e150


@dataclass(frozen=True)
class Score:
    """Errors of one estimate against one reference; NaN unless the status is ``ok``.

    Attributes
    ----------
    relative_error : float
        ``|g - g_ref| / |g_ref|``, never below the reference's bound.
    absolute_error : float
        ``|g - g_ref|``, never below the bound times ``|g_ref|``.
    cosine_error : float
        ``1 - cos(g, g_ref)``, never below half the squared bound.
    code_error : float
        Mean over samples of ``|z_T - z_ref|``, never below the bound on the reference codes.
    support_error : float
        Share of samples whose codes have other signs than the reference's.
    at_floor : bool
        Whether the relative error stands at the reference's bound because the true error is
        smaller.
    unfinished : int
        Number of samples that a solver had not solved at this depth, as far as it is known.
    status : str
        One of `pudle.measuring.stored_files.STATUSES`.
    reason : str
        Why there is no score; empty where there is one.
    """

    relative_error: float = NAN
    absolute_error: float = NAN
    cosine_error: float = NAN
    code_error: float = NAN
    support_error: float = NAN
    at_floor: bool = False
    unfinished: int = 0
    status: str = "ok"
    reason: str = ""

    def __repr__(self) -> str:
        if self.status != "ok":
            return f"Score({self.status}: {self.reason})"
        numbers = ", ".join(
            f"{name}={getattr(self, name):.3g}"
            for name in ERRORS
            if not math.isnan(getattr(self, name))
        )
        floor = ", at the bound of the reference" if self.at_floor else ""
        unfinished = f", {self.unfinished} samples unfinished" if self.unfinished else ""
        return f"Score({numbers}{floor}{unfinished})"


#: Names of the errors of a score, for stores and reports: a new one is a field above and a row in
#: docs/schema.md.
ERRORS = tuple(field.name for field in fields(Score) if field.name.endswith("_error"))


def failed(status: str, reason: str) -> Score:
    """Return a score without a number."""
    return Score(status=status, reason=reason)


def score(estimate: Estimate, reference: Reference) -> Score:
    """Score an estimate against a reference that is certified, or the limit of an algorithm.

    Nothing is raised for an estimate that is wrong; three cases get a status and no number: a
    reference that is uncertified or has a zero gradient gives its own status, an estimate that is
    not finite or whose error exceeds 1e150 is ``diverged``, and one of the wrong type or shape is
    an ``error``. Errors are computed in float64 on the CPU.
    """
    if reference.status not in SCORED:
        return failed(reference.status, reference.reason)
    tensors = []
    for name in ("gradient", "codes"):
        # A class of estimates may give other tensors than it was made with.
        tensor, expected = plain_tensor(getattr(estimate, name)), getattr(reference, name)
        kind = type(tensor).__name__
        if type(tensor) is torch.Tensor:
            usable = (
                tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_meta
            )
            kind = "" if usable else f"one of {tensor.dtype}, {tensor.layout} on {tensor.device}"
        if kind:
            return failed(
                "error", f"{name} is not a dense tensor of floats but {kind}: repair the estimator"
            )
        if tensor.shape != expected.shape:
            shapes = f"{tuple(tensor.shape)} where {tuple(expected.shape)} is due"
            return failed("error", f"{name} has shape {shapes}: repair the estimator")
        tensors.append(tensor.detach().to("cpu", torch.float64))
        if bad := int((~tensors[-1].isfinite()).sum()):
            reason = f"{bad} of {tensor.numel()} entries of the {name} are NaN or infinite"
            return failed("diverged", reason)
    gradient, codes = tensors
    size, norm = float(gradient.norm()), float(reference.gradient.norm())
    error = float((gradient - reference.gradient).norm()) / norm
    code_error = float((codes - reference.codes).flatten(1).norm(dim=1).mean())
    if not max(size, error, error * norm, code_error) <= LARGEST:
        return failed(
            "diverged", f"gradient or codes exceed {LARGEST:g}: their errors have no meaning"
        )
    reported = max(error, reference.bound)
    # |a/|a| - b/|b||^2 / 2 equals 1 - cos without its cancellation; a zero estimate is orthogonal
    # to everything.
    cosine = (
        float((gradient / size - reference.gradient / norm).square().sum()) / 2 if size else 1.0
    )
    said: object = estimate.diagnostics
    unfinished = said.get("unfinished") if isinstance(said, Mapping) else 0
    return Score(
        relative_error=reported,
        absolute_error=reported * norm,
        cosine_error=max(cosine, reference.bound**2 / 2),
        code_error=max(code_error, reference.certificate.code_error),
        support_error=float(
            (codes.sign() != reference.codes.sign()).flatten(1).any(1).double().mean()
        ),
        at_floor=error <= reference.bound,
        unfinished=unfinished if isinstance(unfinished, int) else 0,
    )
