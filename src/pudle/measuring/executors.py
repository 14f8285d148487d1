"""Where tasks are carried out: the interface, the processes of this machine, and this very process."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from .pool import Job, Outcome, Pool
from .statuses import failure
from .tasks import Task, carry_out, concluded, one_thread, prepare_worker


class Executor(ABC):
    """Carries out tasks; nothing else knows where they run."""

    @abstractmethod
    def run(self, tasks: Sequence[Task]) -> Generator[tuple[Task, Any], None, None]:
        """Yield every task with its result, in the order in which they end.

        What a task cannot do costs itself alone, and of that the parts that are left: its record
        says so.
        """


class LocalProcesses(Executor):
    """Processes of this machine, of one thread each; they end when the context is left."""

    def __init__(self, workers: int, prepare: Callable[[], None] = prepare_worker) -> None:
        self.pool = Pool(workers, prepare)

    def run(self, tasks: Sequence[Task]) -> Generator[tuple[Task, Any], None, None]:
        jobs = [
            Job(task, partial(carry_out, task.kind, task.arguments), task.timeout) for task in tasks
        ]
        # Two times measured at once would disturb each other.
        for task, outcome in self.pool.run(
            jobs, most=1 if tasks and tasks[0].kind == "time" else None
        ):
            yield task, concluded(task, outcome)

    def __enter__(self) -> LocalProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.__exit__()


class _OutOfTime(Exception):
    """A task has used up its time."""


class ThisProcess(Executor):
    """This process, which has objects that no other could make; a task is out of time only between
    two of its parts.
    """

    def run(self, tasks: Sequence[Task]) -> Generator[tuple[Task, Any], None, None]:
        for task in tasks:
            with one_thread():
                result = self._result(task)
            yield task, result

    def _result(self, task: Task) -> Any:
        parts: list[Any] = []
        end = time.monotonic() + task.timeout

        def keep(part: Any) -> None:
            parts.append(part)
            if time.monotonic() > end:
                raise _OutOfTime

        try:
            return carry_out(task.kind, task.arguments, keep)
        except _OutOfTime:
            reason = (
                f"not finished after {task.timeout:g} s: give a larger timeout, fewer depths or"
                " fewer samples"
            )
            return concluded(task, Outcome(None, "timeout", reason, parts))
        except Exception as error:  # noqa: BLE001  # whatever breaks in a task is a result to report, with its reason
            return concluded(task, Outcome(None, *failure(error), parts))
