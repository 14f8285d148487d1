"""Results of two sides of a comparison, for tests to change before they are written and judged."""

import itertools

import numpy as np
from support.records import synthetic

from pudle.files import write_record
from pudle.measuring.stored_files import SCHEMA, Round
from pudle.reports.compare import summary

ESTIMATORS = ("alternating", "backprop", "truncated(window=10)")
CASES = ("gaussian-ista-lasso", "patches-ista-lasso")
DEPTHS, TIMED = (10, 100, 400), (10, 100)
#: Bytes above a process that estimates nothing.
MEMORY = 12.0 * 2**20
REPEATS = 10


def case(name):
    return synthetic.case(name, algorithm="ista", depths=DEPTHS)


def curve(estimator):
    """Return errors that differ little between the seeds."""
    ratio = 0.9 if estimator == "backprop" else 0.95
    return lambda depth, rho: 0.3 * rho * ratio**depth


def blank():
    """Return the contents of an unchanged side."""
    records = {
        (name, spec): synthetic.record(
            case(name),
            spec,
            computes="direct",
            consistent_for=None,
            scores=synthetic.scores(curve(spec), lambda depth: 0.0, depths=DEPTHS),
        )
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
    made = content["records"].values(), content["cases"], content["estimators"]
    synthetic.write(folder.parent, *made, timed=TIMED)
    listed = []
    for number, (cell, samples) in enumerate(content["samples"].items()):
        time = {"metric": "seconds", "samples": samples, "value": float(np.median(samples))}
        memory = {"metric": "memory_bytes", "value": content["memory"][cell]}
        for cost in (time, memory):
            place = f"{cell[0]}/costs/{cost['metric']}-{number}.json"
            listed.append((cost["metric"], *cell, place))
            cost |= dict(zip(("case", "estimator", "depth"), cell, strict=True))
            cost |= {"schema": SCHEMA, "key": "0" * 16, "status": "ok", "reason": ""}
            write_record(folder / "store" / place, cost | {"provenance": synthetic.provenance()})
    synthetic.write_run(folder, costs=listed)
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
        place = dict(zip(("case", "estimator", "depth"), cell, strict=True))
        for _ in range(rounds):
            disturbed = np.where(draw.random(2) < 0.05, 3.0, 1.0)
            base, head = 1e-3 * cell[2] * np.exp(noise * draw.standard_normal(2)) * disturbed
            rows.append(Round(**place, base=base, head=head * ratio(cell)))
    return rows


def only(comparison):
    """Return the only regression."""
    (line,) = summary.lines(comparison)
    return line
