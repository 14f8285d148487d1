"""Where tasks are carried out: the interface, and the processes of this machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from .pool import Job, Pool
from .tasks import Task, carry_out, concluded, prepare_worker


class Executor(ABC):
    """Carries out tasks; nothing else knows where they run."""

    @abstractmethod
    def run(self, tasks: Sequence[Task]) -> Generator[tuple[Task, Any], None, None]:
        """Yield every task with its result, in the order in which they end.

        What a task cannot do costs itself alone, and of that the parts that are left: its record says so.
        """


class LocalProcesses(Executor):
    """Processes of this machine, of one thread each; they end when the context is left."""

    def __init__(self, workers: int) -> None:
        self.pool = Pool(workers, prepare_worker)

    def run(self, tasks: Sequence[Task]) -> Generator[tuple[Task, Any], None, None]:
        jobs = [Job(task, partial(carry_out, task.kind, task.arguments), task.timeout) for task in tasks]
        # Two times measured at once would disturb each other.
        for task, outcome in self.pool.run(jobs, most=1 if tasks and tasks[0].kind == "time" else None):
            yield task, concluded(task, outcome)

    def __enter__(self) -> LocalProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.__exit__()
