import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from probes.stats import benjamini_hochberg, holm

CASES = [
    [0.01, 0.04, 0.03, 0.005, 0.55],
    [0.5],
    [0.02, 0.02, 0.02],
    list(np.random.default_rng(0).random(50) ** 3),
]


@pytest.mark.parametrize("p", CASES)
def test_equal_to_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
    expected = multipletests(p, method="fdr_bh")[1]
    assert benjamini_hochberg(p) == pytest.approx(expected, abs=1e-12)


def test_undefined_p_values_stay_so_and_do_not_count():
    for rule in (holm, benjamini_hochberg):
        got = rule([0.01, np.nan, 0.04])
        assert np.isnan(got[1])
        assert got[[0, 2]] == pytest.approx(rule([0.01, 0.04]))
    assert holm([]).size == 0


def test_impossible_p_values_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.2])
