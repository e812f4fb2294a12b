"""The standard library's ``multiprocessing.shared_memory``, under this package's name too."""

import sys
from multiprocessing import shared_memory

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.shared_memory import *  # noqa: F403

sys.modules[__name__] = shared_memory
