"""The standard library's ``multiprocessing.managers``, under this package's name too."""

import sys
from multiprocessing import managers

sys.modules[__name__] = managers
