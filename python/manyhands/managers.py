"""The standard library's ``multiprocessing.managers``, under this package's name too."""

import sys
from multiprocessing import managers

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.managers import *  # noqa: F403

sys.modules[__name__] = managers
