"""`python -m manyhands.demo`."""

from __future__ import annotations

import sys

from .command import main

# Spawned workers import this module again, under another name: only the program itself may run the command.
if __name__ == "__main__":
    sys.exit(main())
