"""Studies: named experiments, one module per study."""
