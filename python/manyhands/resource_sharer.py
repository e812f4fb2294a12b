"""The standard library's ``multiprocessing.resource_sharer``, under this package's name too."""

import sys
from multiprocessing import resource_sharer

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.resource_sharer import *  # noqa: F403

sys.modules[__name__] = resource_sharer
