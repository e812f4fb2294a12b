"""The standard library's ``multiprocessing.reduction``, under this package's name too."""

import sys
from multiprocessing import reduction

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.reduction import *  # noqa: F403

sys.modules[__name__] = reduction
