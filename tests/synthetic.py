"""Results whose truth is known because they are made here, laid out in files as a run does."""

from __future__ import annotations

import itertools
import json
import math

DEPTHS = [1, 10, 50, 100, 150, 200, 250, 300]
SEEDS = [0, 1, 2]
RHO = {0: 0.95, 1: 0.955, 2: 0.96}
BOUND = 1e-12
COMMIT = "c" * 40
CLAIMS = {"alternating": ("direct", ["lasso"]), "backprop": ("unrolled", None), "analytic": ("implicit", None),
          "truncated(window=10)": ("truncated", ["lasso"])}  # fmt: skip
#: Errors that theory predicts on the lasso loss.
CURVES = {
    "alternating": lambda depth, rho: 0.5 * rho**depth,
    "backprop": lambda depth, rho: 0.1 * depth * rho ** (2 * depth),
    "analytic": lambda depth, rho: 0.2 * rho ** (2 * depth),
    "truncated(window=10)": lambda depth, rho: 0.3 * rho**depth,
}


def case(name="synthetic-ista-lasso", **changes):
    return {"name": name, "dataset": "synthetic(n=10)", "algorithm": "ista(step=0.2)", "loss": "lasso",
            "seeds": SEEDS, "depths": DEPTHS, "targets": ["exact"], "dtype": "float64"} | changes  # fmt: skip


def provenance(**changes):
    return {"pudle": "0.1.0", "python": "3.11.0", "torch": "2.0", "numpy": "2.0", "asv": "0.6.6", "blas": "mkl",
            "machine": "here", "cpu": "Abacus", "cores": 2, "memory_gib": 4.0, "threads": 1, "device": "cpu",
            "commit": COMMIT, "dirty": False, "date": "2026-01-02T00:00:00+00:00"} | changes  # fmt: skip


def scores(curve, support=lambda depth: 0.0 if depth >= 50 else 1.0, seeds=SEEDS, targets=("exact",)):
    rows = []
    for seed, depth, target in itertools.product(seeds, DEPTHS, targets):
        true = curve(depth, RHO[seed])
        error = max(true, BOUND)
        rows.append({"seed": seed, "depth": depth, "target": target, "relative_error": error, "absolute_error": 2 * error,
                     "cosine_error": error**2 / 2, "code_error": error, "support_error": support(depth),
                     "at_floor": true <= BOUND, "status": "ok", "reason": "", "diagnostics": {}})  # fmt: skip
    return rows


def failed_scores(status, reason):
    blank = dict.fromkeys(("relative_error", "absolute_error", "cosine_error", "code_error", "support_error"))
    return [row | blank | {"status": status, "reason": reason} for row in scores(CURVES["backprop"])]


def references(seeds=SEEDS, target="exact", **changes):
    return [{"seed": seed, "target": target, "status": "certified", "reason": "", "bound": BOUND, "gradient_norm": 1.0,
             "kkt_residual": 1e-16, "smallest_eigenvalue": (1 - RHO[seed]) / 0.2, "condition_number": 20.0,
             "dual_margin": 1e-4, "smallest_amplitude": 1e-4, "code_error": 1e-14, "zero_codes": 0.125, "uncertified": 0,
             "samples": 10, "step": 0.2, "rho": RHO[seed], "iterations": 50} | changes for seed in seeds]  # fmt: skip


def record(the_case, estimator, **changes):
    claim = CLAIMS.get(estimator, ("direct", None))
    return {"schema": 1, "key": "0" * 16, "profile": "quick", "case": the_case, "estimator": estimator,
            "computes": claim[0], "consistent_for": claim[1], "status": "ok", "reason": "",
            "scores": scores(CURVES.get(estimator, CURVES["alternating"])), "references": references(), "seconds": 1.0,
            "provenance": provenance()} | changes  # fmt: skip


def failure(the_case, estimator, status, reason):
    return record(the_case, estimator, status=status, reason=reason, scores=[], references=[], seconds=None)


def write(home, records, cases=None, estimators=None, profile="quick"):
    """Lay out a store and its selection."""
    folder = home / profile
    cases = cases or list({item["case"]["name"]: item["case"] for item in records}.values())
    estimators = estimators or list(dict.fromkeys(item["estimator"] for item in records))
    selection = {"profile": profile, "cases": cases, "estimators": estimators, "tracked_depths": [10], "timed_depths": [10]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "selection.json").write_text(json.dumps(selection))
    for number, item in enumerate(records):
        path = folder / "store" / item["case"]["name"] / f"{number}-{item['key']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(item, allow_nan=False))
    return home


def write_asv(home, estimators, seconds, memory=None, baseline=2.0**20, names=("synthetic-ista-lasso",), **changes):
    """Lay out a result file as asv does: rows with their trailing nulls dropped, NaN bare."""
    depths = [100, 200]
    columns = ["result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25",
               "stats_q_75", "stats_number", "stats_repeat", "samples", "profile"]  # fmt: skip
    params = [
        [repr(name) for name in names],
        [repr(estimator) for estimator in estimators],
        [repr(depth) for depth in depths],
    ]
    known = isinstance(seconds, list)
    quarter = [None if value is None or math.isnan(value) else 0.9 * value for value in seconds] if known else None
    upper = [None if value is None else value / 0.9 * 1.1 for value in quarter] if known else None
    time_row = [seconds, params, "v", 5, 1.0, quarter, upper, quarter, upper, [1] * len(seconds) if known else None]
    while time_row[-1] is None:
        time_row.pop()
    rows = {"timing.Time.time_estimate": time_row}
    if memory is not None:
        rows["memory.Memory.peakmem_estimate"] = [memory, params, "v", 5]
        rows["memory.Baseline.peakmem_nothing"] = [[baseline] * len(names), [params[0]], "v", 5]
    content = {"commit_hash": COMMIT, "env_name": "existing", "date": 1, "params": {"machine": "here"}, "python": "3.11",
               "requirements": {}, "env_vars": {}, "result_columns": columns, "results": rows, "durations": {},
               "version": 2} | changes  # fmt: skip
    folder = home / "quick" / "results" / "here"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "machine.json").write_text('{"machine": "here", "version": 1}')
    path = folder / f"{content['commit_hash'][:8]}-existing.json"
    path.write_text(json.dumps(content))
    return path
