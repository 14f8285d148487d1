"""Named tolerances. All are relative to the Euclidean norm of the true value unless their comment
says otherwise.
"""

# The same numbers reached by the same operations in another order: a few hundred roundings of
# float64.
SAME_ARITHMETIC = 1e-12

# Two independent float64 programs for one closed expression: roundings times a modest condition
# number.
CLOSED_FORM = 1e-10

# A derivative by a step into the complex plane has no cancellation, so that only roundings along
# the layers remain.
COMPLEX_STEP = 1e-11

# Central differences in float64 with steps near 1e-5: truncation h^2 = 1e-10 and cancellation eps /
# h = 1e-11, times the loss's own scale over that of its gradient.
CENTRAL_DIFFERENCES = 1e-7

# Central differences of the loss at an exact minimizer: the accuracy required of references.
EXACT_CENTRAL_DIFFERENCES = 1e-6

# The implicit function theorem at codes that have converged to rounding error.
CONVERGED = 1e-9

# An estimator that is itself a difference quotient cannot be better than central differences are.
DIFFERENCE_QUOTIENT = 1e-6

# float32 has 6e-8 relative precision; a dozen layers and the sum over the samples cost two digits.
SINGLE_PRECISION = 2e-5

# Codes of two solvers that are run far beyond their own stopping rules; absolute.
SOLVER_CODES = 1e-9

# The bound of a reference on a well-conditioned problem: far below the errors that scores resolve.
USEFUL_BOUND = 1e-10

# The closed form of the burn-in; absolute, on values up to 37.
BURN_IN = 1e-9

# Draws of the published experiment differ among themselves by about this much.
PUBLISHED = 0.25

# Plateaus measured on five hundred samples differ by this much from seed to seed.
PLATEAU = 0.15

# Linear solves of another library, run to a relative residual of 1e-13, times the condition number
# of the active systems.
PEER_SOLVE = 1e-10

# A thousand fixed-point iterations at the contraction factor of the small problem, 0.98 (measured:
# 1.7e-8 on the reconstruction loss).
PEER_ITERATIONS = 1e-7

# Codes of SPAMS, whose stopping rule is not exposed (measured: 5.5e-10); absolute.
SPAMS_CODES = 5e-9
