"""The standard library's ``multiprocessing.dummy.connection``, under this package's name too."""

import sys
from multiprocessing.dummy import connection

sys.modules[__name__] = connection
