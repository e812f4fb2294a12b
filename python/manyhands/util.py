"""The standard library's ``multiprocessing.util``, under this package's name too."""

import sys
from multiprocessing import util

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.util import *  # noqa: F403

sys.modules[__name__] = util
