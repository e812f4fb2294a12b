"""The standard library's ``multiprocessing.reduction``, under this package's name too."""

import sys
from multiprocessing import reduction

sys.modules[__name__] = reduction
