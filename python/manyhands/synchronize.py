"""The standard library's ``multiprocessing.synchronize``, under this package's name too."""

import sys
from multiprocessing import synchronize

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.synchronize import *  # noqa: F403

sys.modules[__name__] = synchronize
