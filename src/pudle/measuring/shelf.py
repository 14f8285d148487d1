"""What a run knows of its store: the place and the record of each result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

from .results.cost import EstimateCost
from .results.result import RecordedResult, Result
from .results.score import Scores
from .store import ResultPlace, Store
from .stored_files import BROKEN, Record

R = TypeVar("R", bound=Record)


@dataclass(eq=False)
class Shelf:
    """The places and the records of results in a store, each looked up once, then kept in memory.

    A place is a file and its key, as they are when they are first asked for, at the beginning of a
    run: a result whose sources or data change meanwhile is refused, see `store_for`.

    Attributes
    ----------
    store : Store
    records : dict
        The record of each result that was asked for, None where there is none that is whole and up
        to date. A run adds those that it measures.
    """

    store: Store
    records: dict[RecordedResult[Record], Record | None] = field(default_factory=dict)
    _places: dict[Result[object], ResultPlace] = field(init=False, default_factory=dict)

    def place(self, result: Result[object]) -> ResultPlace:
        """Return the file of a result, whether or not it exists, and its key, as they were when
        first asked for.
        """
        if result not in self._places:
            self._places[result] = self.store.place(result)
        return self._places[result]

    def file(self, result: Result[object]) -> str:
        """Return the file of a result as seen from the store's folder."""
        return self.place(result).path.relative_to(self.store.folder).as_posix()

    def record(self, result: RecordedResult[R]) -> R | None:
        """Return the record of a result, None where there is none that is whole and up to date.

        The store is read at the first call for a result; afterwards the answer stays, unless
        `records` is changed.
        """
        if result not in self.records:
            self.records[result] = result.read_at(self.place(result))
        # What lies there is what the result read, or wrote.
        return cast(R | None, self.records[result])

    def is_missing(self, result: RecordedResult[Record]) -> bool:
        """Tell whether there is no record, or one of something that broke: it is tried again."""
        record = self.record(result)
        return record is None or record.status in BROKEN

    def is_measurable(self, cost: EstimateCost) -> bool:
        """Tell whether the score at the depth of a cost is ok at all seeds and targets."""
        record = self.record(Scores(cost.case, cost.estimator))
        return record is not None and record.at(cost.depth).status == "ok"

    def store_for(self, results: Iterable[Result[object]]) -> Store:
        """Return the store for writing these results alone, under the keys that they have here: one
        that has another key by then is refused with ChangedSources.
        """
        return replace(self.store, planned=frozenset(self.place(result).key for result in results))
