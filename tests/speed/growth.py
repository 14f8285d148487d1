"""Growth of the time and the memory of one `backprop` gradient with the problem's sizes; `make
growth` runs it.

It prints a table with fitted exponents, and draws `docs/images/growth.svg`. Times are the least of
some rounds of processor time on one thread, in float32; all sizes take turns within a round.
"""

import multiprocessing
import sys
import time

import matplotlib.pyplot
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from contenders import Task, project
from paths import ROOT
from peak import peak_growth

PATHS = {"kernels": "numba", "torch path": "torch"}
ROUNDS = 5


def task(n=1000, p=100, s=5, depth=100):
    return Task(
        f"sparse_gaussian(n_samples={n}, n_features={p // 2}, n_components={p},"
        f" n_nonzero_coefs={s})",
        (depth,),
    )


COLUMNS = ["axis", "size", "path", "quantity", "value"]


def table(rows):
    return pd.DataFrame(rows, columns=COLUMNS)


#: Tasks by what varies. Exponents are fitted to all of them.
TASKS = {
    "n": {n: task(n=n, depth=50) for n in (1000, 2000, 4000, 8000, 16000)},
    "T": {depth: task(depth=depth) for depth in (12, 25, 50, 100, 200, 400)},
    "p": {p: task(n=250, p=p) for p in (100, 200, 400, 800)},
    "s": {s: task(s=s) for s in (1, 2, 5, 10, 20)},
}


def measure_times():
    rows = []
    for _ in range(ROUNDS + 1):
        for axis, tasks in TASKS.items():
            for size, chosen in tasks.items():
                for name, choice in PATHS.items():
                    work = project(choice, chosen, torch.float32)
                    begun = time.process_time()
                    work()
                    rows.append((axis, size, name, "seconds", time.process_time() - begun))
    return table(rows).groupby(COLUMNS[:-1], sort=False, as_index=False).min()


def measure_memory():
    """Measure each gradient's peak memory in a process of its own, beyond what the process held
    before.
    """
    rows = []
    for axis in ("n", "T"):
        for size, chosen in TASKS[axis].items():
            for name, choice in PATHS.items():
                work = project(choice, chosen, torch.float32)
                receiver, sender = multiprocessing.Pipe(duplex=False)
                first = project(choice, task(n=10), torch.float32)
                process = multiprocessing.get_context("fork").Process(
                    target=report_peak, args=(first, work, sender)
                )
                process.start()
                rows.append((axis, size, name, "MiB", receiver.recv()))
                process.join()
    return table(rows)


def report_peak(first, work, sender):
    """Send the growth of this process's peak in MiB, after a first small gradient for which
    libraries load or compile.
    """
    first()
    sender.send(peak_growth(work) / 1024)


def exponent(values):
    """Return the slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(values["size"]), np.log(values.value), 1)[0])


def draw(data):
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    sns.set_theme(style="whitegrid", font_scale=0.9)
    data = data.assign(panel=data.quantity + " by " + data.axis)
    figure = sns.relplot(
        data,
        kind="line",
        x="size",
        y="value",
        hue="path",
        style="path",
        markers=True,
        col="panel",
        col_wrap=3,
        height=3,
        facet_kws={"sharex": False, "sharey": False},
    ).set(xscale="log", yscale="log")
    figure.savefig(ROOT / "docs" / "images" / "growth.svg", metadata={"Date": None})


def main():
    torch.set_num_threads(1)
    data = pd.concat([measure_memory(), measure_times()], ignore_index=True)
    print("| varies | quantity | path | exponent | values |\n|---|---|---|---|---|")
    for (axis, quantity, path), group in data.groupby(["axis", "quantity", "path"], sort=False):
        values = ", ".join(
            f"{size}: {value:.3g}" for size, value in zip(group["size"], group.value, strict=True)
        )
        print(f"| {axis} | {quantity} | {path} | {exponent(group):.2f} | {values} |")
    draw(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
