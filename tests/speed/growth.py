"""Growth of the time and the memory of one `backprop` gradient with the problem's sizes; `make
growth` runs it.

It prints a table with fitted exponents, and draws `docs/images/growth.svg`. Times are the least of
some rounds of processor time on one thread, in float32.
"""

import time
import timeit

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


#: Tasks by what varies. Exponents are fitted to all of them.
TASKS = {
    "n": {n: task(n=n, depth=50) for n in (1000, 2000, 4000, 8000, 16000)},
    "T": {depth: task(depth=depth) for depth in (12, 25, 50, 100, 200, 400)},
    "p": {p: task(n=250, p=p) for p in (100, 200, 400, 800)},
    "s": {s: task(s=s) for s in (1, 2, 5, 10, 20)},
}


def measure():
    """Yield the axis, the size, the path, the quantity and its value."""
    for axis, tasks in TASKS.items():
        for size, chosen in tasks.items():
            for name, choice in PATHS.items():
                work = project(choice, chosen, torch.float32)
                # Libraries load or compile for the first one.
                work()
                seconds = timeit.repeat(work, timer=time.process_time, repeat=ROUNDS, number=1)
                yield axis, size, name, "seconds", min(seconds)
                if axis in ("n", "T"):
                    yield axis, size, name, "MiB", peak_growth(work) / 1024


def draw(data):
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    sns.set_theme(style="whitegrid", font_scale=0.9)
    figure = sns.relplot(
        data.assign(panel=data.quantity + " by " + data.axis),
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    data = pd.DataFrame(measure(), columns=["axis", "size", "path", "quantity", "value"])
    print("| varies | quantity | path | exponent | values |\n|---|---|---|---|---|")
    for place, group in data.groupby(["axis", "quantity", "path"], sort=False):
        # The slope of a straight line through the logarithms.
        exponent = np.polyfit(np.log(group["size"]), np.log(group.value), 1)[0]
        values = [f"{row[2]}: {row.value:.3g}" for row in group.itertuples()]
        print(f"| {' | '.join(place)} | {exponent:.2f} | {', '.join(values)} |")
    draw(data)
