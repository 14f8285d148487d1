"""Random strongly convex problems in whose derivatives terms cancel, with exact constants, and
their gradients in extended precision.
"""

from dataclasses import dataclass

import mpmath
import numpy as np
import torch

import pudle

#: What cancels: in the derivative of the outer loss in theta, in that in z, in the slope of the
#: inner objective, in its Hessian, and in its cross derivative.
KINDS = ("direct", "outer", "slope", "hessian", "cross")
#: Digits of extended precision.
DIGITS = 60


@dataclass(frozen=True, eq=False)
class Canceling:
    """A strongly convex problem with terms that cancel.

    ``g = |X z - y - U theta|^2 / 2n + curvature |z|^2 / 2 + mean softplus(L z)
    + weight (|K z|^2 - |K z|^2) / 2 + cross_weight (theta R z - theta R z)`` and
    ``f = |B z - w|^2 / 2m + theta P z + |V theta - u|^2 / 2k``,

    where `L` may have no rows, and terms that are there twice are computed in two ways.
    """

    arrays: dict
    theta: np.ndarray
    curvature: float
    weight: float = 0.0
    cross_weight: float = 0.0
    #: Whether the constants tell the sizes of the terms of Hessian and cross derivative.
    sized: bool = True

    def problem(self, dtype=torch.float64):
        """Return it as a problem of the suite."""
        data = {name: torch.as_tensor(array) for name, array in self.arrays.items()}

        def objective(z, theta):
            X, y, U, L, K, R = (data[name].to(theta) for name in "XyULKR")
            value = (X @ z - y - U @ theta).square().sum() / (2 * len(X))
            value = value + self.curvature * z.square().sum() / 2
            if len(L):
                value = value + torch.nn.functional.softplus(L @ z).mean()
            if self.weight:
                value = value + self.weight * (K @ z).square().sum() / 2
                value = value - self.weight * (K.flip(0) @ z).square().sum() / 2
            if self.cross_weight:
                value = value + self.cross_weight * (theta @ (R @ z))
                value = value - self.cross_weight * ((theta @ R) @ z)
            return value

        def loss(z, theta):
            B, w, P, V, u = (data[name].to(theta) for name in "BwPVu")
            fit = (V @ theta - u).square().sum() / (2 * len(V))
            return (B @ z - w).square().sum() / (2 * len(B)) + theta @ P @ z + fit

        return pudle.StronglyConvex(
            theta=torch.as_tensor(self.theta, dtype=dtype),
            objective=objective,
            loss=loss,
            initial=torch.zeros(self.arrays["X"].shape[1], dtype=dtype),
            modulus=lambda theta: self.curvature,
            constants=self.constants,
        )

    def constants(self, state, theta, adjoint, radius):
        """Return the constants, all but those of softplus without any slack."""
        z, theta, v = (each.double().numpy() for each in (state, theta, adjoint))
        a, n, m, k = self.arrays, *(len(self.arrays[name]) for name in "XBV")
        X, y, U, L, K, R, B, w, P, V, u = (np.abs(a[name]) for name in "XyULKRBwPVu")
        rows, size, length = max(len(L), 1), np.abs(z), np.abs(theta)
        wide = X.T @ X / n + self.curvature * np.eye(len(z)) + L.T @ L / (4 * rows)
        wide = wide + self.weight * K.T @ K
        cross = X.T @ U / n + 2 * self.cross_weight * R.T
        slope = X.T @ (X @ size + y + U @ length) / n + self.curvature * size
        slope += L.T @ (1 + L @ size / 4) / rows + self.weight * K.T @ K @ size
        slope += 2 * self.cross_weight * R.T @ length
        lengths = np.linalg.norm(L, axis=1)
        third = np.linalg.norm(lengths**2 * np.abs(a["L"] @ v), 1) / (6 * 3**0.5 * rows)
        largest = np.linalg.norm(a["X"], 2) ** 2 / n + self.curvature
        sizes = {}
        if self.sized:
            sizes = {
                "hessian_terms": np.linalg.norm(wide, 2),
                "cross_terms": np.linalg.norm(cross, 2),
            }
        return pudle.Constants(
            gradient=largest + (np.linalg.norm(a["L"], 2) ** 2 / (4 * rows) if len(L) else 0),
            hessian=third,
            outer=np.linalg.norm(a["B"], 2) ** 2 / m,
            cross=0.0,
            cross_norm=np.linalg.norm(a["X"].T @ a["U"], 2) / n,
            terms=np.linalg.norm(slope),
            outer_terms=np.linalg.norm(B.T @ (B @ size + w) / m + P.T @ length),
            direct=np.linalg.norm(a["P"], 2),
            direct_terms=np.linalg.norm(P @ size + V.T @ (V @ length + u) / k),
            **sizes,
        )

    def gradient(self, start):
        """Return the exact gradient, rounded once, by Newton's method from some state."""
        with mpmath.workdps(DIGITS):
            a = {name: exact(array) for name, array in self.arrays.items() if array.size}
            theta, z, n = exact(self.theta), exact(start), len(self.arrays["X"])
            X, U, B, P, V = (a[name] for name in "XUBPV")
            rows = len(self.arrays["L"])
            for _ in range(60):
                slope = X.T * (X * z - a["y"] - U * theta) / n + self.curvature * z
                hessian = X.T * X / n + self.curvature * mpmath.eye(len(z))
                if rows:
                    shares = (a["L"] * z).apply(lambda score: 1 / (1 + mpmath.exp(-score)))
                    slope += a["L"].T * shares / rows
                    scale = mpmath.diag([share * (1 - share) / rows for share in shares])
                    hessian += a["L"].T * scale * a["L"]
                step = mpmath.lu_solve(hessian, slope)
                z = z - step
                if mpmath.norm(step) <= mpmath.mpf(10) ** (-DIGITS // 2) * (1 + mpmath.norm(z)):
                    break
            else:
                raise AssertionError("Newton's method has not converged")
            outer = B.T * (B * z - a["w"]) / rows_of(B) + P.T * theta
            direct = P * z + V.T * (V * theta - a["u"]) / rows_of(V)
            # The cross derivative of the objective in z and theta is -X^T U / n.
            gradient = direct + U.T * (X * mpmath.lu_solve(hessian, outer)) / n
            return gradient

    def error(self, gradient, true):
        """Return the distance of a gradient from the exact one."""
        with mpmath.workdps(DIGITS):
            return float(mpmath.norm(exact(gradient.double().flatten().numpy()) - true))


def exact(array):
    """Return an array as a matrix of mpmath, a vector as a column."""
    return mpmath.matrix(np.asarray(array, float).tolist())


def rows_of(matrix):
    """Return the number of rows."""
    return matrix.rows


def drawn(seed):
    """Return a random problem whose terms cancel by 1e2 to 1e14, one kind after the other."""
    random = np.random.default_rng([seed, 48])
    kind, ratio = KINDS[seed % len(KINDS)], 10 ** random.uniform(2, 14)
    p, q, n, m, k = random.integers((2, 1, 8, 3, 4), (7, 6, 30, 12, 40))
    # Single precision holds it, so that both precisions have the same exact gradient.
    theta = random.standard_normal(q).astype(np.float32).astype(float)
    shapes = {"X": (n, p), "U": (n, q), "B": (m, p), "P": (q, p), "V": (k, q)}
    shapes |= {"K": (p, p), "R": (q, p), "L": (n if random.integers(2) else 0, p)}
    shapes |= {"y": n, "w": m, "u": k}
    arrays = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    curvature = 10 ** random.uniform(-3, 0)
    problem = Canceling(arrays, theta, curvature, sized=bool(random.integers(2)))
    small = random.choice([1.0, 1 / ratio])
    if kind == "direct":
        arrays["u"] = arrays["V"] @ theta + arrays["u"] / ratio
        for name in "BwP":
            arrays[name] = arrays[name] * small
    elif kind == "outer":
        state = pudle.reference(problem.problem(), target="limit").codes.numpy().ravel()
        arrays["P"] = arrays["P"] / ratio
        arrays["w"] = arrays["B"] @ state + arrays["w"] / ratio
        arrays["u"] = arrays["V"] @ theta + (arrays["u"] - arrays["V"] @ theta) * small
    elif kind == "slope":
        basis = np.linalg.qr(arrays["X"], mode="complete")[0]
        outside = basis[:, p:] @ random.standard_normal(n - p)
        arrays["y"] = arrays["y"] + ratio * outside
    elif kind == "hessian":
        return Canceling(arrays, theta, curvature, weight=ratio, sized=problem.sized)
    else:
        return Canceling(arrays, theta, curvature, cross_weight=ratio, sized=problem.sized)
    return problem
