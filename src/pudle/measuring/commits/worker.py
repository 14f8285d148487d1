"""Times estimates on request. Runs as a script inside the environment of one commit, so it imports that commit's suite.

The benchmark is the commit's own ``Time``, set up and called as asv does; only who calls it, and when, differs. Requests
and answers are one line of JSON each, on standard input and output.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time


def main() -> None:
    # What an estimator prints must not pass for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from ...bench.timing import Time

    benchmark = None
    cell: tuple = ()
    answer: dict[str, float | str]
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "cell" in request:
                cell = tuple(request["cell"])
                benchmark = Time()
                benchmark.setup(*cell)
                # Twice: the first call pays for what later ones find warm.
                measure(benchmark, cell, 1)
                answer = {"seconds": measure(benchmark, cell, 1)}
            else:
                answer = {"seconds": measure(benchmark, cell, request["calls"])}
        except Exception as error:  # noqa: BLE001  # whatever a commit's code raises is what there is to report
            answer = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
        print(json.dumps(answer), file=answers)


def measure(benchmark, cell: tuple, calls: int) -> float:
    """Return the seconds of the fastest of a number of calls, with the garbage collector at rest.

    What else runs on the machine only ever adds to a time, so that the fastest is the least disturbed.
    """
    gc.collect()
    gc.disable()
    try:
        return min(_once(benchmark, cell) for _ in range(calls))
    finally:
        gc.enable()


def _once(benchmark, cell: tuple) -> float:
    start = time.perf_counter()
    benchmark.time_estimate(*cell)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
