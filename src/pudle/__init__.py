"""Benchmarks of hypergradients: gradient estimators for bilevel losses that depend on an unrolled
inner algorithm.

The public names are imported on first use, from where the stub beside this file says, so that
``import pudle`` does not import torch.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
