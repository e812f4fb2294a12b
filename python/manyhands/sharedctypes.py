"""The standard library's ``multiprocessing.sharedctypes``, under this package's name too."""

import sys
from multiprocessing import sharedctypes

sys.modules[__name__] = sharedctypes
