"""Dense products in one thread, so that their last bits do not depend on how many there are."""

import contextlib
import importlib
import threading
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

#: The number of threads belongs to the whole process: of several that change it at once, none would
#: find what it was.
_ALONE = threading.RLock()


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run dense products in one thread: among several, sums would be split, and the last bits
    depend on their number.

    Other threads of Python wait that come here meanwhile.
    """
    with _ALONE:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            # A diverged parameter is no reason for numpy to warn.
            with _libraries().limit(limits=1, user_api="blas"), np.errstate(all="ignore"):
                yield
        finally:
            torch.set_num_threads(threads)


@cache
def _libraries() -> ThreadpoolController:
    # Compiled code takes its products from scipy's library, which can only be limited once it is
    # loaded.
    importlib.import_module("scipy.linalg.cython_blas")
    return ThreadpoolController()
