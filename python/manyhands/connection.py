"""The standard library's ``multiprocessing.connection``, under this package's name too."""

import sys
from multiprocessing import connection

sys.modules[__name__] = connection
