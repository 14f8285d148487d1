"""The processes that share a training: each treats a part of every batch, and their gradients are
summed.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from ..errors import PudleError, first_line


@dataclass(frozen=True)
class Processes:
    """The `size` processes of a training, of which this is number `rank`; a training of its own by
    default.

    All of them have the whole problem and take the same steps. Messages go through the default
    group of ``torch.distributed``, which must exist if there are several.
    """

    rank: int = 0
    size: int = 1

    def part(self, samples: int) -> slice:
        """Return this process's part of a batch; parts differ by one sample at most."""
        return slice(samples * self.rank // self.size, samples * (self.rank + 1) // self.size)

    def sum_in_place(self, *tensors: Tensor) -> None:
        """Replace tensors, in place, by their sums over the processes, the same bits in each; one
        process sends nothing and leaves them as they are.

        All processes must call it in the same order. PudleError says that another one does not
        answer.
        """
        if self.size > 1:
            with _one_line_errors():
                for tensor in tensors:
                    distributed.all_reduce(tensor)

    def value_of_first(self, value: Any) -> Any:
        """Return the value that the first process has, which it sends to the others; its own in a
        single process. All processes must call it.
        """
        values = [value]
        if self.size > 1:
            with _one_line_errors():
                distributed.broadcast_object_list(values)
        return values[0]


def number_launched() -> int:
    """Return the number of processes that ``torchrun`` started, by its environment variables, one
    without it.
    """
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


@contextlib.contextmanager
def joined_processes(device: str, timeout: float) -> Iterator[tuple[Processes, str]]:
    """Join the processes that ``torchrun`` started, if it did, until the context is left; yield
    them and this process's device, a GPU of its own for ``cuda``.

    Who waits for the others more than `timeout` seconds, in a step or while one of them writes,
    takes them for lost (PudleError). Without torchrun nothing is joined.
    """
    if number_launched() == 1:
        yield Processes(), device
        return
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        torch.cuda.set_device(device)
    with _one_line_errors():
        distributed.init_process_group(
            "gloo" if device == "cpu" else "nccl", timeout=datetime.timedelta(seconds=timeout)
        )
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Raise PudleError for a message that did not arrive: another process has ended, or no longer
    answers.
    """
    try:
        yield
    except RuntimeError as error:
        raise PudleError(
            "another process of this training has ended or does not answer"
            f" ({first_line(error)}): start the training again with --resume, with any number of"
            " processes"
        ) from error
