"""The standard library's ``multiprocessing.resource_tracker``, under this package's name too."""

import sys
from multiprocessing import resource_tracker

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.resource_tracker import *  # noqa: F403

sys.modules[__name__] = resource_tracker
