"""The standard library's ``multiprocessing.synchronize``, under this package's name too."""

import sys
from multiprocessing import synchronize

sys.modules[__name__] = synchronize
