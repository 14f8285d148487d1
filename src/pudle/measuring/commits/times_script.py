"""Script that times estimates on request; it runs by path with one commit's Python, so `pudle` is
that commit's.

It sets up and calls the commit's own asv benchmark ``Time`` as asv does; only who calls it, and
when, differs. Requests come through the connection whose file descriptor is the argument: a cell
(case, estimator, depth) to choose it and time one call, or a number of calls to time. The answer is
the seconds, or a text that says what failed.
"""

from __future__ import annotations

import functools
import gc
import importlib
import timeit
from typing import Any


def main() -> None:
    # The benchmarks are data here, found by name as asv finds them.
    from pudle.workers import listen

    benchmarks = importlib.import_module("pudle.bench.timing")
    connection = listen()
    estimate: Any = None
    while True:
        request = connection.recv()
        try:
            calls = request
            if isinstance(request, tuple):
                calls = 1
                benchmark = benchmarks.Time()
                benchmark.setup(*request)
                estimate = functools.partial(benchmark.time_estimate, *request)
                # The first call fills caches that later calls find full, so its time does not
                # count.
                estimate()
            gc.collect()
            # Other processes on the machine only ever add to a time, so the fastest call is the
            # least disturbed one.
            answer: float | str = min(timeit.repeat(estimate, number=1, repeat=calls))
        except Exception as error:  # noqa: BLE001  # whatever a commit's code raises is a result to report
            answer = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        connection.send(answer)


if __name__ == "__main__":
    main()
