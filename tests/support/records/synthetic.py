"""Results whose numbers are known because they are made here, laid out in files as a run does."""

import hashlib
import io
import itertools
import json
import math
from urllib.parse import quote

import numpy as np

from pudle.files import write_record
from pudle.measuring.scoring import ERRORS
from pudle.measuring.stored_files import SCHEMA

DEPTHS = [1, 10, 50, 100, 150, 200, 250, 300]
SEEDS = [0, 1, 2]
RHO = {0: 0.95, 1: 0.955, 2: 0.96}
BOUND = 1e-12
COMMIT = "c" * 40
#: What all records have.
COMMON = {"schema": SCHEMA, "key": "0" * 16}
CLAIMS = {
    "alternating": ("direct", ["lasso"]),
    "backprop": ("unrolled", None),
    "analytic": ("implicit", None),
    "truncated(window=10)": ("truncated", ["lasso"]),
}
#: Errors that theory predicts on the lasso loss.
CURVES = {
    "alternating": lambda depth, rho: 0.5 * rho**depth,
    "backprop": lambda depth, rho: 0.1 * depth * rho ** (2 * depth),
    "analytic": lambda depth, rho: 0.2 * rho ** (2 * depth),
    "truncated(window=10)": lambda depth, rho: 0.3 * rho**depth,
}


def edit(path, **changes):
    """Write a stored file anew, with other values of some fields."""
    content = json.loads(path.read_text())
    del content["digest"]
    write_record(path, content | changes)


def case(name="synthetic-ista-lasso", **changes):
    return {
        "name": name,
        "dataset": "synthetic(n=10)",
        "algorithm": "ista(step=0.2)",
        "loss": "lasso",
        "seeds": SEEDS,
        "depths": DEPTHS,
        "targets": ["exact"],
        "dtype": "float64",
    } | changes


def provenance(**changes):
    return {
        "pudle": "0.1.0",
        "python": "3.11.0",
        "torch": "2.0",
        "numpy": "2.0",
        "asv": "0.6.6",
        "blas": "mkl",
        "machine": "here",
        "cpu": "Abacus",
        "cores": 2,
        "memory_gib": 4.0,
        "threads": 1,
        "device": "cpu",
        "commit": COMMIT,
        "dirty": False,
        "date": "2026-01-02T00:00:00+00:00",
    } | changes


def scores(
    curve,
    support=lambda depth: 0.0 if depth >= 50 else 1.0,
    seeds=SEEDS,
    targets=("exact",),
    depths=DEPTHS,
):
    rows = []
    for seed, depth, target in itertools.product(seeds, depths, targets):
        true = curve(depth, RHO.get(seed))
        error = max(true, BOUND)
        rows.append(
            {
                "seed": seed,
                "depth": depth,
                "target": target,
                **dict.fromkeys(ERRORS, error),
                "absolute_error": 2 * error,
                "cosine_error": error**2 / 2,
                "support_error": support(depth),
                "at_floor": true <= BOUND,
                "status": "ok",
                "reason": "",
                "diagnostics": {},
            }
        )
    return rows


def failed_scores(status, reason):
    blank = dict.fromkeys(ERRORS)
    return [
        row | blank | {"status": status, "reason": reason} for row in scores(CURVES["backprop"])
    ]


def references(seeds=SEEDS, target="exact", **changes):
    return [
        {
            "seed": seed,
            "target": target,
            "status": "certified",
            "reason": "",
            "bound": BOUND,
            "gradient_norm": 1.0,
            "kkt_residual": 1e-16,
            "smallest_eigenvalue": (1 - RHO[seed]) / 0.2,
            "condition_number": 20.0,
            "dual_margin": 1e-4,
            "smallest_amplitude": 1e-4,
            "code_error": 1e-14,
            "zero_codes": 0.125,
            "uncertified": 0,
            "samples": 10,
            "step": 0.2,
            "rho": RHO[seed],
            "iterations": 50,
        }
        | changes
        for seed in seeds
    ]


def record(the_case, estimator, **changes):
    claim = CLAIMS.get(estimator, ("direct", None))
    return (
        COMMON
        | {
            "case": the_case,
            "estimator": estimator,
            "computes": claim[0],
            "consistent_for": claim[1],
            "status": "ok",
            "reason": "",
            "scores": scores(CURVES.get(estimator, CURVES["alternating"])),
            "references": references(),
            "provenance": provenance(),
        }
        | changes
    )


def failure(the_case, estimator, status, reason):
    rows = failed_scores(status, reason)
    return record(the_case, estimator, status=status, reason=reason, scores=rows, references=[])


def write(home, records, cases=None, estimators=None, timed=(10,)):
    """Lay out a store, its selection, and the list of the records that hold, of which a later one
    replaces an earlier.
    """
    folder = home / "quick"
    cases = cases or list({item["case"]["name"]: item["case"] for item in records}.values())
    estimators = estimators or list(dict.fromkeys(item["estimator"] for item in records))
    selection = {
        "profile": "quick",
        "cases": cases,
        "estimators": estimators,
        "tracked_depths": [10],
        "timed_depths": timed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder / "selection.json", selection)
    listed = {}
    for number, item in enumerate(records):
        pair = (item["case"]["name"], item["estimator"])
        listed[pair] = f"{pair[0]}/{number}-{item['key']}.json"
        write_record(folder / "store" / listed[pair], item)
    chosen = [(*pair, place) for pair, place in listed.items() if pair[1] in estimators]
    write_run(folder, selection=selection, records=chosen)
    return home


def write_run(folder, **content):
    """Write down which records hold, beside what is listed already."""
    path = folder / "run.json"
    if not path.exists():
        write_record(path, {"schema": SCHEMA, "commit": COMMIT})
    edit(path, **content)


def write_costs(
    home,
    estimators,
    seconds,
    memory=None,
    names=("synthetic-ista-lasso",),
    torch=None,
):
    """Lay out times, of five samples each, and memory at two depths as a run does: None is a
    failure, NaN is skipped.
    """
    folder, listed = home / "quick", []
    measured = {"seconds": seconds, "memory_bytes": memory or [], "seconds_torch": torch or []}
    for metric, values in measured.items():
        cells = list(itertools.product(names, estimators, [100, 200])) if values else []
        for number, (cell, value) in enumerate(zip(cells, values, strict=True)):
            failed = "error" if value is None else "skipped" if math.isnan(value) else ""
            content = COMMON | dict(zip(("case", "estimator", "depth"), cell, strict=True))
            content |= {"metric": metric, "provenance": provenance()}
            if failed:
                content |= {"status": failed, "reason": "because of this"}
            else:
                shares = (0.8, 0.9, 1, 1.1, 1.2) if metric == "seconds" else ()
                content |= {"value": value, "samples": [share * value for share in shares]}
            listed.append((metric, *cell, f"{cell[0]}/costs/{metric}-{number}.json"))
            write_record(folder / "store" / listed[-1][-1], content)
    write_run(folder, costs=listed)
    return folder / "store" / listed[0][-1]


# -- experiments


def experiment(name, kind="learning", study="recovery", **changes):
    """Return the record of an experiment as a run stores it."""
    return (
        COMMON
        | {
            "kind": kind,
            "study": study,
            "name": name,
            "options": {},
            "provenance": provenance(),
        }
        | changes
    )


def reached(error):
    """Return what a training has reached at a relative error."""
    return {"dictionary_error": 10 * error, "relative_error": error, "loss": 2 * error}


def training(name, estimator="backprop", rate=0.1, start=0.5, steps=50, pace=0.01, **changes):
    """Return a training whose relative error is ``start exp(-rate step)``; a step takes `pace`
    seconds.
    """
    options = {
        "dataset": "sparse_gaussian(n_samples=10)",
        "loss": "lasso",
        "estimator": estimator,
        "algorithm": "ista",
        "depth": 25,
        "optimizer": "adam",
        "schedule": "constant",
        "epochs": steps,
        "batch": None,
        "seed": 0,
        "record_every": None,
        "chunk": None,
        "dtype": "float64",
    } | changes.pop("options", {})
    errors = [start * math.exp(-rate * step) for step in range(steps + 1)]
    rows = [
        {
            "epoch": step,
            "step": step,
            "seconds": pace * step,
            "support_recovery": 1 - error,
            **reached(error),
        }
        for step, error in enumerate(errors)
    ]
    summary = {f"start_{key}": value for key, value in reached(start).items()}
    summary |= reached(errors[-1])
    summary |= {"support_recovery": 1 - errors[-1], "steps": steps, "seconds": pace * steps}
    rows[0] |= {"loss": None, "support_recovery": None}
    return experiment(name, options=options, rows=rows, summary=summary) | changes


def baseline(name, method, rate=0.3, **changes):
    """Return another package's training on the same data: without steps, loss and support."""
    made = training(name, rate=rate)
    kept = ("epoch", "seconds", "dictionary_error", "relative_error")
    rows = [{key: row[key] for key in kept} for row in made["rows"]]
    options = {"dataset": "sparse_gaussian(n_samples=10)"}
    summary = made["summary"] | {"method": method}
    return (
        made | {"kind": "baseline", "rows": rows, "options": options, "summary": summary} | changes
    )


def crops(side=64):
    """Return a clean image, waves of rising frequency with gray values in [0, 1], and a noisy
    one.
    """
    down, along = np.mgrid[0:side, 0:side] / side
    clean = 0.5 + 0.4 * np.sin(20 * along**2 * (1 + down))
    return clean, clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape)


def denoising(name, method, estimator="", left=0.5, shifted=True, side=64, filters=0, **changes):
    """Return a denoising that leaves a share of the noise, half of that with shifts, and its
    arrays.
    """
    clean, noisy = crops(side)
    arrays = {"clean": clean, "noisy": noisy, "denoised": clean + left * (noisy - clean)}
    if shifted:
        arrays["denoised_shifted"] = clean + left / 2 * (noisy - clean)
    if filters:
        arrays["filters"] = np.random.default_rng(1).standard_normal((filters, 8, 8))
    gain = -20 * math.log10(left)
    summary = {
        "method": method,
        "sigma": 0.1,
        "images": 68,
        "test_images": "photographs",
        "noisy_psnr": 20.0,
        "psnr": 20 + gain,
        "ssim": 1 - left / 2,
        "psnr_shifted": 26 + gain if shifted else None,
        "ssim_shifted": 1 - left / 4 if shifted else None,
        "training_seconds": 60.0 if estimator else 0.0,
        "steps": 100 if estimator else 0,
    }
    rows = [
        {
            "epoch": step / 10,
            "step": step,
            "seconds": 0.6 * step,
            "psnr": 20 + gain * (1 - math.exp(-step / 20)) if step % 10 == 0 else None,
        }
        for step in range(101)
    ]
    made = experiment(
        name,
        "denoising",
        "denoising",
        summary=summary,
        rows=rows if estimator else [],
        arrays=sorted(arrays),
    )
    trained = {"estimator": estimator, "seed": 0, "depth": 25}
    options = {"sigma": 0.1, **(trained if estimator else {"baseline": method})}
    return made | {"options": options} | changes, arrays


def interpretation(name="interpretation-backprop", atoms=3, samples=4):
    """Return an interpretation and its arrays: waves, and samples that are more and more noisy
    waves.
    """
    noise = np.random.default_rng(2).standard_normal((atoms, samples, 8, 8))
    waves = np.cos(np.arange(1, atoms + 1)[:, None, None] * np.mgrid[0:8, 0:8][1] / 2)
    shaped = waves[:, None] + 0.2 * np.arange(samples)[None, :, None, None] * noise
    arrays = {
        "atoms": waves,
        "samples": shaped,
        "weights": 1 / (1 + np.arange(samples)) + 0.01 * np.arange(atoms)[:, None],
    }
    return experiment(
        name,
        "interpretation",
        "interpretation",
        summary={"method": "backprop", "dataset": "image_patches"},
        options={"estimator": "backprop"},
        arrays=sorted(arrays),
    ), arrays


def write_every_kind(home):
    """Lay out a file of every kind that a report reads."""
    names = list(CURVES)[:2]
    write(home, [record(case(), estimator) for estimator in names])
    write_costs(home, names, [1.0, 2.0, 3.0, 4.0], memory=[2.0**21] * 4)
    write_experiments(
        home, [training("one", steps=5), denoising("two", "BM3D", side=16), interpretation("three")]
    )
    return home


def write_arrays(record, arrays):
    """Write the arrays of an experiment beside its record, which then has their digest."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    record.with_suffix(".npz").write_bytes(packed.getvalue())
    edit(record, arrays_digest=hashlib.sha256(packed.getvalue()).hexdigest())


def write_experiments(home, records):
    """Lay out experiments; a record is one, or one with its arrays. Returns the paths."""
    folder = home / "quick" / "store" / "experiments"
    paths, listed = [], {}
    for number, item in enumerate(records):
        content, arrays = item if isinstance(item, tuple) else (item, {})
        paths.append(folder / f"{quote(content['name'], safe='')}-{number:016x}.json")
        write_record(paths[-1], content)
        if arrays:
            write_arrays(paths[-1], arrays)
        listed[content["name"]] = f"experiments/{paths[-1].name}"
    write_run(home / "quick", experiments=listed)
    return paths
