"""The demonstration: rank the functions of a source tree, serially, with manyhands and with multiprocessing.

`python -m manyhands demo [DIR]` and `python -m manyhands.demo [DIR]` both come to `main`. The rooms: `sources` finds
the files, `analysis` measures one of them and knows nothing of processes, `runs` does all files with a given engine,
`report` shows it. Nothing here is imported by the rest of manyhands.
"""

from __future__ import annotations

from .command import main

__all__ = ["main"]
