"""Results of two sides of a comparison, for tests to change before they are written and judged."""

from __future__ import annotations

import itertools

import numpy as np

from pudle.files import write_record
from pudle.measuring.contents import SCHEMA
from pudle.reports.compare import summary

ESTIMATORS = ("alternating", "backprop", "truncated(window=10)")
CASES = ("gaussian-ista-lasso", "patches-ista-lasso")
SEEDS, DEPTHS, TIMED = (0, 1, 2), (10, 100, 400), (10, 100)
BOUND = 1e-12
#: Bytes above a process that estimates nothing.
MEMORY = 12.0 * 2**20
REPEATS = 10
#: What all records have, and what the provenance of scores says.
COMMON = {"schema": SCHEMA, "key": "0" * 16, "status": "ok", "reason": ""}
PROVENANCE = {
    "python": "3.11.4",
    "torch": "2.9",
    "numpy": "2.0",
    "machine": "here",
    "cpu": "Abacus",
    "threads": 1,
    "device": "cpu",
    "commit": "b" * 40,
    "dirty": False,
    "date": "2026-01-02",
}


def case(name):
    return {
        "name": name,
        "dataset": "synthetic(n=10)",
        "algorithm": "ista",
        "loss": "lasso",
        "seeds": list(SEEDS),
        "depths": list(DEPTHS),
        "targets": ["exact"],
        "dtype": "float64",
    }


def score(estimator, seed, depth):
    ratio = 0.9 if estimator == "backprop" else 0.95
    size = max((1 + 0.1 * seed) * 0.3 * ratio**depth, BOUND)
    return {
        "seed": seed,
        "depth": depth,
        "target": "exact",
        "relative_error": size,
        "absolute_error": 2 * size,
        "cosine_error": size**2 / 2,
        "code_error": size,
        "support_error": 0.0,
        "status": "ok",
        "reason": "",
    }


def blank():
    """Return the contents of an unchanged side."""
    reference = {"target": "exact", "status": "certified", "bound": BOUND, "gradient_norm": 2.0}
    records = {
        (name, spec): COMMON
        | {
            "case": case(name),
            "estimator": spec,
            "computes": "direct",
            "consistent_for": None,
            "seconds": 1.0,
            "provenance": dict(PROVENANCE),
            "scores": [score(spec, *place) for place in itertools.product(SEEDS, DEPTHS)],
            "references": [reference | {"seed": seed} for seed in SEEDS],
        }
        for name in CASES
        for spec in ESTIMATORS
    }
    cells = list(itertools.product(CASES, ESTIMATORS, TIMED))
    return {
        "cases": [case(name) for name in CASES],
        "estimators": list(ESTIMATORS),
        "records": records,
        "memory": dict.fromkeys(cells, MEMORY),
        "samples": {
            cell: [1e-3 * cell[2] * (1 + 0.01 * turn) for turn in range(REPEATS)] for cell in cells
        },
    }


def write(folder, content):
    """Write a side as a run leaves it, and return its folder."""
    folder.mkdir(parents=True)
    selection = {
        "profile": "quick",
        "cases": content["cases"],
        "estimators": content["estimators"],
        "tracked_depths": list(DEPTHS),
        "timed_depths": list(TIMED),
    }
    write_record(folder / "selection.json", selection)
    listed = {"commit": "b" * 40, "dirty": False, "selection": selection}
    listed |= {"records": [], "costs": []}

    def keep(kind, identity, place, record):
        path = folder / "store" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, record)
        listed[kind].append((*identity, place))

    names = [each["name"] for each in content["cases"]]
    for number, (pair, record) in enumerate(content["records"].items()):
        if pair[0] in names and pair[1] in content["estimators"]:
            keep("records", pair, f"{pair[0]}/{number}.json", record)
    for number, cell in enumerate(itertools.product(names, content["estimators"], TIMED)):
        samples = content["samples"].get(cell, [])
        time = {"samples": samples, "value": float(np.median(samples)) if samples else None}
        memory = {"samples": [], "value": content["memory"].get(cell)}
        for metric, cost in (("seconds", time), ("memory_bytes", memory)):
            cost |= dict(
                zip(("metric", "case", "estimator", "depth"), (metric, *cell), strict=True)
            )
            cost |= COMMON | {"provenance": {"machine": "here", "date": "2026-01-02"}}
            cost["status"] = "error" if cost["value"] is None else "ok"
            keep("costs", (metric, *cell), f"{cell[0]}/costs/{metric}-{number}.json", cost)
    write_record(folder / "run.json", listed)
    return folder


def scores(head, estimator="backprop", name=CASES[0], **place):
    """Yield the scores of one record, or those of one depth or seed in it."""
    for row in head["records"][name, estimator]["scores"]:
        if all(row[key] == value for key, value in place.items()):
            yield row


def turns(ratio=lambda cell: 1.0, noise=0.1, rounds=16, seed=0):
    """Return times of both sides in turns, with log-normal noise and an occasional round that the
    machine disturbs.
    """
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 20])))
    rows = []
    for cell in itertools.product(CASES, ESTIMATORS, TIMED):
        place = dict(zip(("case", "estimator", "depth"), cell, strict=True)) | {"reason": ""}
        for turn in range(rounds):
            disturbed = np.where(draw.random(2) < 0.05, 3.0, 1.0)
            base, head = 1e-3 * cell[2] * np.exp(noise * draw.standard_normal(2)) * disturbed
            rows.append(place | {"round": turn, "base": base, "head": head * ratio(cell)})
    return rows


def only(comparison):
    """Return the only regression."""
    (line,) = summary.lines(comparison)
    return line
