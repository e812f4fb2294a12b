"""The standard library's ``multiprocessing.resource_sharer``, under this package's name too."""

import sys
from multiprocessing import resource_sharer

sys.modules[__name__] = resource_sharer
