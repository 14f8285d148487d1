"""The truth that estimates are scored against: certified gradients, and what each estimator's gradient tends to."""
