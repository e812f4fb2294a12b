"""The standard library's ``multiprocessing.heap``, under this package's name too."""

import sys
from multiprocessing import heap

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.heap import *  # noqa: F403

sys.modules[__name__] = heap
