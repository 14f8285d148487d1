"""
What a window costs
===================

Backpropagation through all layers is accurate, and takes the most time.
Truncated backpropagation goes back through the last layers alone, its window,
and holds constant what came before. What does it save, and what does it lose?
"""

# %%
# Errors
# ------
# On the model of PUDLE, with the reconstruction loss. An estimator is named by
# a spec, which has its options in parentheses.

import tempfile

import pudle

WINDOWS = [5, 10, 20, 50, 100]
NAMES = [
    "alternating",
    *(f"truncated(window={window})" for window in WINDOWS),
    "backprop",
]


def measure(**options):
    """Return the median over the seeds by metric, estimator and depth."""
    with tempfile.TemporaryDirectory() as home:
        results = pudle.benchmark(
            "sparse_gaussian(n_samples=500)",
            "ista(step=0.2)",
            NAMES,
            losses=["reconstruction"],
            home=home,
            progress=False,
            **options,
        )
    groups = results.table.groupby(["metric", "estimator", "depth"])
    return groups["value"].median()


depths = [1, 5, 10, *range(20, 401, 20)]
errors = measure(depths=depths, seeds=3, costs=False)["relative_error"]

# %%
# Times
# -----
# By default a benchmark measures the time of one gradient as well, and its
# peak of memory.

seconds = measure(depths=[400], seeds=1)["seconds"]
shares = (100 * seconds / seconds["backprop"]).droplevel("depth")
print(shares[NAMES].round())

# %%
# Look
# ----
# Each window follows full backpropagation for a while, and then stays where it
# is: more layers no longer help, a larger window does.

import matplotlib.pyplot as plt

plt.rcParams.update(
    {"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}
)
PINKS = ["#cf7fab", "#b8578f", "#964377", "#732f5b", "#4d1c3c"]
colors = dict(zip(NAMES, ["#d55e00", *PINKS, "#0072b2"], strict=True))
windows = [f"window {window}" for window in WINDOWS]
titles = ["codes constant", *windows, "all layers"]

figure, at = plt.subplots(figsize=(8, 5.6), layout="constrained")
for name, title in zip(NAMES, titles, strict=True):
    at.plot(errors[name], color=colors[name], linewidth=2.8)
    last = errors[name, 400]
    about = f"{title}: {shares[name]:.0f} % of time"
    at.text(407, last, about, color=colors[name], weight="bold", va="center")
at.set(xlabel="depth (layers)", yscale="log", xlim=(0, 400), ylim=(3e-6, 10))
at.set_ylabel("relative error of the gradient")
at.set_title(
    "Each window ends at an error of its own, whatever the depth", loc="left"
)
at.grid(alpha=0.25)
plt.show()

# %%
# Constant codes are a window of no layer. On the lasso loss, where the path
# through the codes matters less and less, windows end at no such error: give
# ``losses=["lasso"]``. :doc:`/results/windows` has both for other data.
