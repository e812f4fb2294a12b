"""The standard library's ``multiprocessing.sharedctypes``, under this package's name too."""

import sys
from multiprocessing import sharedctypes

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.sharedctypes import *  # noqa: F403

sys.modules[__name__] = sharedctypes
