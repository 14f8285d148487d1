"""What the kinds of results have in common: a key, a file, and a record with its origin."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ... import names
from ...errors import UnreadableResult
from ...files import plain
from ...workers import Outcome
from .. import sources
from ..provenance import provenance
from ..stored_files import SCHEMA, Record

if TYPE_CHECKING:
    from ...estimator import GradientEstimator
    from ..case import Case
    from ..store import ResultPlace, Store
    from .reference import CaseReference

T = TypeVar("T", covariant=True)
R = TypeVar("R", bound=Record, covariant=True)


class Result(ABC, Generic[T]):
    """Something that is measured once and kept in one file of a store.

    Those that are equal are the same result: concrete ones are frozen dataclasses, whose fields say
    what the result is of.

    Attributes
    ----------
    rooms : tuple of str
        The rooms of this package, folders or files, that it rests on.
    """

    rooms: ClassVar[tuple[str, ...]]

    @abstractmethod
    def label(self, case_labels: Mapping[str, str]) -> str:
        """Return its label in a line of progress; `case_labels` has the labels of cases by name."""

    @property
    @abstractmethod
    def objects(self) -> tuple[object, ...]:
        """The objects that it is computed with, whose sources and data count."""

    @property
    def required_objects(self) -> tuple[object, ...]:
        """The objects that a worker must have for it, also those that do not count."""
        return self.objects

    @abstractmethod
    def context(self, store: Store) -> object:
        """Return all else that it depends on, as plain values and records."""

    @abstractmethod
    def file(self, key: str) -> str:
        """Return its file below the store's folder, under a key."""

    @abstractmethod
    def read(self, store: Store) -> T | None:
        """Return its record from the store, None where that is missing, damaged or not up to date;
        nothing is measured.
        """

    @abstractmethod
    def measure(self, store: Store) -> T:
        """Measure it, write it to the store, and return it; called in a worker."""

    @property
    def references(self) -> Sequence[CaseReference]:
        """The references that it reads."""
        return ()

    def key(self, store: Store) -> str:
        """Return the digest, 16 digits, of all that it depends on: format, sources, the
        fingerprints of its objects, and its context.

        Reads source files, those only once per process, and the data that options name.
        """
        data = [_fingerprint(part) for part in self.objects]
        parts = SCHEMA, sources.digest(self.rooms, *self.objects), data, self.context(store)
        text = json.dumps(parts, sort_keys=True, default=plain)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def files_at(self, path: Path) -> list[Path]:
        """Return the files that it consists of, that at `path` last, because it is written last."""
        return [path]


def _fingerprint(part: object) -> str:
    fingerprint: Callable[[], str] = getattr(part, "fingerprint", str)
    return fingerprint()


class RecordedResult(Result[R]):
    """A result that is kept as a record in JSON.

    Attributes
    ----------
    record : type
        Type of the record.
    """

    # The type of a class variable cannot be a parameter of the class.
    record: ClassVar[type[Any]]

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, object]:
        """The fields of its record that say what it is of."""

    def read(self, store: Store) -> R | None:
        return self.read_at(store.place(self))

    def read_at(self, place: ResultPlace) -> R | None:
        """Return the record at a place, None where it is missing, damaged, or has another key."""
        with suppress(UnreadableResult):
            record: R = self.record.read(place.path)
            if record.key == place.key:
                return record
        return None

    def write(self, store: Store, /, **content: object) -> R:
        """Write its record, with key and provenance, to the store atomically, and return it;
        without a content it says only its status and reason.

        ChangedSources says that its key is no longer among those that the store takes.
        """
        place = store.unchanged_place(self)
        origin = provenance(store.device, store.profile, store.commit, store.dirty)
        record: R = self.record(key=place.key, provenance=origin, **self.identity, **content)
        record.write(place.path)
        return record

    def write_failure(self, store: Store, outcome: Outcome[object]) -> R:
        """Write, and return, the record of an attempt that brought no result, with its status and
        reason.
        """
        return self.write(store, status=outcome.status, reason=outcome.reason)


class EstimatorResult(RecordedResult[R]):
    """A result of an estimator (a spec) on a case."""

    case: Case
    estimator: str

    @property
    def estimator_object(self) -> GradientEstimator:
        """The estimator."""
        return names.make_estimator(self.estimator)

    @property
    def objects(self) -> tuple[object, ...]:
        return (*self.case.objects, self.estimator_object)
