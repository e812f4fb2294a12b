"""The standard library's ``multiprocessing.dummy.connection``, under this package's name too."""

import sys
from multiprocessing.dummy import connection

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.dummy.connection import *  # noqa: F403

sys.modules[__name__] = connection
