"""scikit-learn with two jobs finds exactly what it finds with one, through each backend of joblib."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from joblib import Memory, Parallel, delayed, parallel_config
from sklearn.cluster import KMeans
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesRegressor,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

X, Y = make_classification(400, 12, n_informative=6, n_classes=3, random_state=0)
X_REAL, Y_REAL = make_regression(300, 10, noise=3.0, random_state=0)
TREE = DecisionTreeClassifier(max_depth=4, random_state=0)
PIPELINE = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))


def grid_search(jobs: int) -> Any:
    grid = {"max_depth": [2, 4, 6], "min_samples_leaf": [1, 5]}
    found = GridSearchCV(TREE, grid, cv=4, n_jobs=jobs, return_train_score=True).fit(X, Y)
    return found.best_params_, timeless(found.cv_results_), found.predict(X)


def randomized_search(jobs: int) -> Any:
    drawn = {"logisticregression__C": np.logspace(-3, 2, 30)}
    found = RandomizedSearchCV(PIPELINE, drawn, n_iter=8, cv=3, random_state=1, n_jobs=jobs).fit(X, Y)
    return found.best_params_, timeless(found.cv_results_)


def own_score(estimator: Any, x: Any, y: Any) -> float:
    return float((estimator.predict(x) == y).sum())


def multimetric(jobs: int) -> Any:
    scoring = {"own": own_score, "accuracy": "accuracy"}
    found = cross_validate(PIPELINE, X, Y, cv=5, scoring=scoring, return_train_score=True, n_jobs=jobs)
    return timeless(found)


def timeless(results: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in results.items() if not name.endswith("_time")}


def forest(jobs: int) -> Any:
    grown = RandomForestClassifier(60, oob_score=True, random_state=3, n_jobs=jobs).fit(X, Y)
    return grown.predict_proba(X), grown.oob_score_, grown.feature_importances_


def bagging(jobs: int) -> Any:
    bag = BaggingClassifier(TREE, 20, oob_score=True, random_state=2, n_jobs=jobs).fit(X, Y)
    # Each job sums its own trees: the sum of all may differ in its last bit.
    return [tree.predict_proba(X) for tree in bag.estimators_], bag.estimators_samples_, bag.oob_score_


def together(jobs: int) -> Any:
    parts = [("tree", TREE), ("line", PIPELINE)]
    voting = VotingClassifier(parts, voting="soft", n_jobs=jobs).fit(X, Y)
    stacking = StackingClassifier(parts, cv=3, n_jobs=jobs).fit(X, Y)
    return voting.predict_proba(X), stacking.predict_proba(X)


def importance(jobs: int) -> Any:
    return permutation_importance(TREE.fit(X, Y), X, Y, n_repeats=4, random_state=0, n_jobs=jobs).importances


WORK: dict[str, Callable[[int], Any]] = {
    "cross_val_score": lambda jobs: cross_val_score(PIPELINE, X, Y, cv=5, n_jobs=jobs),
    "cross_val_predict": lambda jobs: cross_val_predict(
        PIPELINE, X, Y, cv=5, method="predict_proba", n_jobs=jobs
    ),
    "cross_validate": multimetric,
    "grid search": grid_search,
    "randomized search": randomized_search,
    "learning curve": lambda jobs: learning_curve(
        TREE, X, Y, cv=3, n_jobs=jobs, shuffle=True, random_state=0
    )[:3],
    "validation curve": lambda jobs: validation_curve(
        TREE, X, Y, param_name="max_depth", param_range=[1, 3, 5], cv=3, n_jobs=jobs
    ),
    "permutation test": lambda jobs: permutation_test_score(
        TREE, X, Y, cv=3, n_permutations=12, random_state=0, n_jobs=jobs
    ),
    "forest": forest,
    "extra trees": lambda jobs: (
        ExtraTreesRegressor(40, random_state=1, n_jobs=jobs).fit(X_REAL, Y_REAL).predict(X_REAL)
    ),
    "isolation forest": lambda jobs: (
        IsolationForest(n_estimators=40, random_state=1, n_jobs=jobs).fit(X).predict(X)
    ),
    "bagging": bagging,
    "voting and stacking": together,
    "one against the rest": lambda jobs: (
        OneVsRestClassifier(LogisticRegression(), n_jobs=jobs).fit(X, Y).decision_function(X)
    ),
    "importance": importance,
}


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_two_jobs_find_what_one_finds(name: str, backend: str) -> None:
    expected = WORK[name](1)
    with parallel_config(backend=backend):
        found = WORK[name](2)
    np.testing.assert_equal(found, expected)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_large_arrays_are_mapped(backend: str) -> None:
    many = np.random.default_rng(0).random((2000, 200))
    with parallel_config(backend=backend, max_nbytes="100K"):
        found = Parallel(n_jobs=2)(delayed(kind_and_sum)(many, n) for n in range(8))
    assert {kind for kind, _ in found} == {"memmap"}
    assert [total for _, total in found] == [float(many.sum() + n) for n in range(8)]


def kind_and_sum(array: Any, number: int) -> tuple[str, float]:
    return type(array).__name__, float(array.sum() + number)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_a_search_within_a_search(backend: str) -> None:
    inner = GridSearchCV(TREE, {"max_depth": [2, 4]}, cv=2, n_jobs=2)
    expected = cross_val_score(inner, X, Y, cv=3, n_jobs=1)
    with parallel_config(backend=backend):
        assert np.array_equal(cross_val_score(inner, X, Y, cv=3, n_jobs=2), expected)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_errors_come_back(backend: str) -> None:
    with parallel_config(backend=backend), pytest.raises(ValueError, match="max_depth"):
        cross_val_score(DecisionTreeClassifier(max_depth=-1), X, Y, n_jobs=2, error_score="raise")


def test_results_are_kept(tmp_path: Any) -> None:
    kept = make_pipeline(StandardScaler(), RidgeCV(), memory=Memory(tmp_path, verbose=0))
    scores = [cross_val_score(kept, X_REAL, Y_REAL, n_jobs=2) for _ in range(2)]
    assert np.array_equal(*scores)


def test_clusters_do_not_depend_on_the_backend() -> None:
    with parallel_config(backend="loky", n_jobs=2):
        many = KMeans(3, n_init=4, random_state=0).fit(X)
    assert np.array_equal(many.labels_, KMeans(3, n_init=4, random_state=0).fit(X).labels_)
