"""The standard library's ``multiprocessing.connection``, under this package's name too."""

import sys
from multiprocessing import connection

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.connection import *  # noqa: F403

sys.modules[__name__] = connection
