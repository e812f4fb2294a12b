"""The table of what `make compatibility` runs: a row for each package.

A row says where the package's tests come from. Some packages have them in what they install, some only in their source
distribution; for those that ship none, and for what the tests of others do not reach, there are programs of our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Suite:
    """One run of pytest."""

    name: str
    #: Its version is shown in the table, and its source distribution is fetched where the tests come from there.
    package: str
    #: Where the paths are: in the source distribution, in site-packages, or in the folder ``programs``.
    origin: Literal["source", "installed", "programs"]
    paths: tuple[str, ...]
    #: Arguments for pytest.
    arguments: tuple[str, ...] = ()
    #: Against hangs, never a measure of speed.
    test_seconds: int = 120
    suite_seconds: int = 3600


SUITES = (
    Suite("loky", "loky", "source", ("tests",), ("--skip-high-memory",)),
    Suite("joblib", "joblib", "source", ("joblib/test",)),
    Suite("mpire", "mpire", "programs", ("mpire_maps.py",)),
    Suite("pebble", "pebble", "source", ("test",)),
    Suite("dask", "dask", "installed", ("dask/tests", "dask/bag/tests")),
    Suite("distributed", "distributed", "programs", ("dask_clusters.py",)),
    Suite(
        "scikit-learn",
        "scikit-learn",
        "installed",
        (
            "sklearn/ensemble/tests/test_forest.py",
            "sklearn/model_selection/tests/test_search.py",
            "sklearn/model_selection/tests/test_validation.py",
            "sklearn/utils/tests/test_parallel.py",
        ),
    ),
    Suite("scikit-learn programs", "scikit-learn", "programs", ("sklearn_jobs.py",)),
    Suite("debugpy", "debugpy", "programs", ("debugger_stops.py",)),
    Suite("coverage", "coverage", "programs", ("coverage_counts.py",)),
)
