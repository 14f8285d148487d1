"""
Error against depth
===================

An inner problem is solved by some layers of an iterative algorithm, and a
gradient is taken from where it stopped. How wrong is that gradient, and what
does another layer buy?

The model is that of PUDLE (Tolooshams and Ba, TMLR 2022): sparse combinations
of Gaussian atoms, coded by ISTA. The outer parameter is the dictionary.
"""

# %%
# Measure
# -------
# One call draws the model with three seeds, computes the exact gradient of
# each draw with a certificate, and measures how far three estimators are from
# it at every depth.

import tempfile

import pudle

ESTIMATORS = ["alternating", "backprop", "analytic"]

# Without `home`, results are kept in .asv, and a second call measures nothing.
with tempfile.TemporaryDirectory() as home:
    results = pudle.benchmark(
        "sparse_gaussian(n_samples=500)",
        "ista(step=0.2)",
        ESTIMATORS,
        depths=[1, 2, 5, 10, 20, 40, 60, 80, 100, 125, 150, 200, 250, 300],
        seeds=3,
        costs=False,
        home=home,
        progress=False,
    )

# %%
# From the same results: which estimator has an error of at most 1 % on every
# seed with the fewest layers?

print(results.answers(error=0.01)[["problem", "estimator", "depth"]])

# %%
# Look
# ----
# ``results.table`` has a row for every number that was measured.
# ``results.plot()`` draws it in one line; here every curve carries its name.
# Lines are medians, bands the range over the seeds.

import matplotlib.pyplot as plt
import numpy as np

plt.rcParams.update(
    {"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}
)
COLORS = {
    "alternating": "#d55e00",
    "backprop": "#0072b2",
    "analytic": "#008a63",
}

errors = results.table.query("metric == 'relative_error'")
figure, panels = plt.subplots(
    1, 2, figsize=(8, 5.6), sharey=True, layout="constrained"
)
for at, loss in zip(panels, ("lasso", "reconstruction"), strict=True):
    for name in ESTIMATORS:
        rows = errors[(errors["loss"] == loss) & (errors["estimator"] == name)]
        curve = rows.groupby("depth")["value"].agg(["min", "median", "max"])
        at.plot(curve["median"], color=COLORS[name], linewidth=2.8)
        band = curve["min"], curve["max"]
        at.fill_between(curve.index, *band, color=COLORS[name], alpha=0.13)
    at.set(yscale="log", xlim=(0, 300), ylim=(1e-9, 10))
    at.set(xlabel="depth (layers)", xticks=[0, 100, 200, 300])
    at.grid(alpha=0.25)


def fall(name):
    """Return how many digits the lasso's gradient wins from layer 150 on."""
    rows = errors[(errors["loss"] == "lasso") & (errors["estimator"] == name)]
    median = rows.groupby("depth")["value"].median()
    return np.log10(median[150] / median[300])


ratio = fall("backprop") / fall("alternating")
panels[0].set_ylabel("relative error of the gradient")
titles = [
    f"Lasso loss: backprop falls\n{ratio:.1f} times as fast",
    "Reconstruction loss: constant\ncodes never get there",
]
for at, title in zip(panels, titles, strict=True):
    at.set_title(title, loc="left")
for at, name, depth, error, about in [
    (panels[0], "alternating", 125, 9e-3, "alternating\n(codes constant)"),
    (panels[0], "backprop", 216, 5.5e-6, "backprop"),
    (panels[0], "analytic", 55, 3e-6, "analytic\n(implicit)"),
    (panels[1], "alternating", 120, 1.2, "alternating"),
    (panels[1], "backprop", 205, 1.4e-3, "backprop"),
    (panels[1], "analytic", 75, 2e-4, "analytic"),
]:
    at.text(depth, error, about, color=COLORS[name], weight="bold", size=12)
plt.show()

# %%
# Both are as theory predicts. The lasso loss is what the layers minimize, so
# that its gradient with constant codes is off by their error, and
# backpropagation's by about its square. The reconstruction loss is another
# one: without the path through the codes its gradient is wrong, however exact
# they are. :doc:`error_of_a_window` cuts that path short.
