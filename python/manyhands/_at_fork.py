"""What every fork of this process has to do for the engine, whoever forks."""

import os

from . import _manyhands

os.register_at_fork(
    before=_manyhands.before_fork,
    after_in_parent=_manyhands.after_fork_in_parent,
    after_in_child=_manyhands.after_fork_in_child,
)
