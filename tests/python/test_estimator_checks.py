"""scikit-learn's own checks of an estimator, for every estimator; nothing is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

import thresher

ESTIMATORS = [
    thresher.Lasso(),
    thresher.ElasticNet(),
    thresher.Ridge(),
    thresher.LassoCV(cv=3),
    thresher.ElasticNetCV(cv=3),
    thresher.ElasticNetCV(cv=3, l1_ratio=[0.5, 1.0]),
    thresher.RidgeCV(),
    thresher.RidgeCV(cv=3),
]


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS)
def test_passes_scikit_learns_check(estimator, check):
    check(estimator)
