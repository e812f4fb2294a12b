"""A subclass of a process may take over its life, with the arguments that the standard library gives."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import bootstraps
import manyhands
import pytest

pytestmark = pytest.mark.standard


@pytest.mark.parametrize("kind", ["Positional", "Any"])
def test_it_is_called_as_the_standard_library_calls_it(ctx: Any, kind: str, tmp_path: Path) -> None:
    method = ctx.get_start_method()
    ours = isinstance(ctx, manyhands.context.BaseContext)
    classes = bootstraps.OURS if ours else bootstraps.STANDARD
    process = classes[method, kind](tmp_path / "said")
    process.start()
    process.join()
    if kind == "Positional" and method == "fork":
        # The forked child names the argument.
        assert process.exitcode == 1
        return
    assert process.exitcode == 0
    expected = "0 ['parent_sentinel']" if method == "fork" else "1 []"
    assert (tmp_path / "said").read_text() == f"{expected} run"


def test_a_call_with_wrong_arguments_is_told_alike() -> None:
    for arguments in [(None,) * 7, (None, print, "name", (), {}, True)]:
        said = []
        for kind in (multiprocessing.Process, manyhands.Process):
            with pytest.raises(TypeError) as caught:
                kind(*arguments)
            said.append(str(caught.value))
        assert said[0] == said[1]
