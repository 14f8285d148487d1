"""Whether the gradient of any layer is right, and if not, what the mistake may be.

Modules from the lowest: `distances` (tolerances), `layer` (a layer as a function of one vector),
`differences`, `equation` and `linearity` (numbers to compare with), `mistakes` (gradients that
common mistakes lead to), `expected` (what a gradient is compared with), `evidence` (all that is
known of a layer and of one gradient), `verdicts` (records of verdicts and reasons), `tightening`,
`rules` (evidence to verdict), `sentences` (records to words), `audit` and `command`.

A layer is here any function of tensors that has a gradient, such as a module or a solver;
elsewhere it is an iteration of an algorithm. Its parts are the inputs and parameters whose
gradients are audited.
"""
