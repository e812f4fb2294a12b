"""The standard library's ``multiprocessing.dummy`` (threads with the interface of processes), under this name too."""

import sys
from multiprocessing import dummy

sys.modules[__name__] = dummy
