"""Tolerances and depths of the checks; tolerances are relative to the Euclidean norm of the
expected value.
"""

#: The same numbers reached by the same operations in another order: a few hundred roundings of
#: float64.
SAME = 1e-12
#: Two float64 programs for one expression with a modest condition number: an intermediate value in
#: float32 shows.
EXACT = 1e-9
#: A difference quotient in float64: rounding divided by the step, and the kinks within the step.
QUOTIENT = 1e-6
#: The same on drawn problems, where kinks lie within the step and the gradient may be a difference
#: of larger terms.
QUOTIENT_DRAWN = 1e-3
#: An implicit system solved iteratively, to a tolerance that the estimator chooses.
SOLVED = 1e-6
#: float32 has 6e-8 relative precision; sixty layers and the sum over the samples cost two digits.
SINGLE = 2e-5
#: The same on drawn problems, whose gradients may be differences of larger terms.
SINGLE_DRAWN = 1e-2
#: A difference quotient of a loss known to 6e-8, with a step that balances truncation: the cube
#: root of the precision.
SINGLE_QUOTIENT = 5e-2
#: Error left after `DEEP` layers on the regular problems, where backpropagation through all layers
#: is below 1e-7. A window of 50 layers still shows its floor, above 1e-5 for most problems.
VANISHED = 1e-6
#: Standard errors that the mean of a random gradient may be off by.
STANDARD_ERRORS = 4.0
#: Standard error, as a share of the gradient's norm, that is small enough to show a biased mean.
RESOLVING = 0.1
#: Below this distance, a float32 value in the computation is the likeliest cause.
ROUNDED = 1e-5

#: Two layers, where the first and the last differ in kind, and enough layers for most supports to
#: change.
SHALLOW = (2, 12)
#: All depths up to here are checked one by one.
EVERY = 130
#: And these, where an estimator may have a limit of its own.
FAR = (257, 401, 500, 1000)
#: Deep enough for an implicit system on the support to be regular and for the codes to have nearly
#: converged.
SETTLED = 60
#: For means over draws, which cost the most.
AVERAGED = 8
DEEP = 250
#: Fewest and most draws of a random gradient. A bias of a few percent shows only after hundreds of
#: draws.
SEEDS, MOST_SEEDS = 16, 400
#: Layers after which no more draws are made once the mean is resolved: a method with hundreds of
#: runs per draw is slow.
LAYERS = 20_000
