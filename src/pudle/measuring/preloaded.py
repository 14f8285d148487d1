"""What the workers of a run need, imported once by the process that they are copies of: of this
package, and of numba and torch what they import at their first use, which takes a second.
"""

from ..kernel_choice import chosen_path
from . import stages as stages
from .meters import take_first_gradients

take_first_gradients()
if chosen_path() == "numba":
    from numba.core.registry import cpu_target

    # As before the first function that is compiled or read from the cache.
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
