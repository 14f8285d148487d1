"""The reference of one seed of a case, which its scores are measured against."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...errors import UnreadableResult, UnsupportedProblem
from ...files import read_arrays, write_atomically
from ...references.records import MINIMIZER_TARGETS, Certificate, Reference
from ..case import Case
from .result import Result

if TYPE_CHECKING:
    from ..store import Store

#: What gradients and references rest on.
GRADIENTS = (
    "algorithms",
    "data",
    "declared",
    "estimator",
    "kernel_choice",
    "peers",
    "problems",
    "references",
    "streams",
    "threads",
    "measuring/case",
)
ARRAYS = ("gradient", "codes")


@dataclass(frozen=True)
class CaseReference(Result[Reference]):
    """The reference of a seed and a target. Cases that differ in the algorithm or in the depths
    share it, unless the target is the limit of the algorithm.
    """

    case: Case
    seed: int
    target: str

    rooms = GRADIENTS

    def label(self, case_labels: Mapping[str, str]) -> str:
        return f"reference of {case_labels[self.case.name]}, seed {self.seed}"

    @property
    def objects(self) -> tuple[object, ...]:
        dataset, algorithm = self.case.objects
        return (dataset, algorithm) if self.target == "limit" else (dataset,)

    @property
    def required_objects(self) -> tuple[object, ...]:
        # The algorithm says whether the target fits it.
        return self.case.objects

    def context(self, store: Store) -> object:
        # It is computed on the CPU, whatever the store's device.
        case, algorithm = self.case, self.case.algorithm if self.target == "limit" else ""
        return case.dataset, case.loss, case.dtype, algorithm, self.seed, self.target

    def file(self, key: str) -> str:
        return f"references/{key}.npz"

    def read(self, store: Store) -> Reference | None:
        """Return the stored reference, None where it is missing or damaged, or belongs to another
        key.
        """
        place = store.place(self)
        with suppress(UnreadableResult, ValueError, TypeError, KeyError, RecursionError):
            arrays = read_arrays(place.path, (*ARRAYS, "scalars"))
            scalars = json.loads(str(arrays["scalars"]))
            # A whole file may have been copied to another's place.
            if scalars.pop("key") == place.key:
                scalars["certificate"] = Certificate(**scalars["certificate"])
                for name in ARRAYS:
                    scalars[name] = torch.from_numpy(arrays[name]).to(torch.float64)
                return Reference(**scalars)
        return None

    def write(self, store: Store, reference: Reference) -> None:
        """Write the reference to its file in the store, atomically, or raise ChangedSources."""
        place = store.unchanged_place(self)
        scalars = vars(reference) | {"certificate": asdict(reference.certificate)}
        arrays = {name: scalars.pop(name).numpy() for name in ARRAYS}
        scalars["key"] = place.key
        buffer = io.BytesIO()
        np.savez(buffer, scalars=np.array(json.dumps(scalars)), **arrays)
        write_atomically(place.path, buffer.getvalue())

    def measure(self, store: Store) -> Reference:
        """Return the reference from the store; it is computed and stored first if it is missing.

        UnsupportedProblem says that the case cannot be scored against the target, even if a case
        with another algorithm can, which shares its reference.
        """
        rule = self.case.make_algorithm().thresholding
        if self.target in MINIMIZER_TARGETS and not rule.proximal:
            raise UnsupportedProblem(
                f"{rule.name} thresholding leads to no minimizer of the inner problem, which"
                f" target={self.target!r} rests on: use the target gstar, gtilde or limit"
            )
        stored = self.read(store)
        if stored is None:
            stored = self.case.make_reference(self.seed, self.target)
            self.write(store, stored)
        return stored
