import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from imitation_refinement.answer.fusion import Fusion, Opinions, fit


def test_a_pool_by_hand() -> None:
    network, vote = np.log(softmax(np.arange(7.0))), np.full(7, 1 / 7)
    even = Fusion((1.0, 0.0, 0.0, 0.0))(Opinions(network, vote, 0.3))
    np.testing.assert_allclose(even, np.exp(network))
    vote = np.array([0.0, 0, 0, 0, 0, 0.25, 0.75])
    both = Fusion((1.0, -1.0, 0.0, 2.0))(Opinions(network, vote, 0.5))
    expected = np.exp(network / 2) * np.maximum(vote, 1e-3)
    np.testing.assert_allclose(both, expected / expected.sum())


def test_weights_that_made_the_answers_are_found_again() -> None:
    rng = np.random.default_rng(0)
    made, opinions, truth = Fusion((0.8, -0.5, 0.2, 0.9)), [], []
    for _ in range(4000):
        one = Opinions(log_softmax(2 * rng.standard_normal(7)), softmax(2 * rng.standard_normal(7)), rng.random())
        opinions.append(one)
        truth.append(rng.choice(7, p=made(one)))
    found = fit(opinions, np.array(truth))
    assert found.weights == pytest.approx(made.weights, abs=0.2)
    confident = np.mean([found(o).max() for o in opinions])
    right = np.mean([found(o).argmax() == t for o, t in zip(opinions, truth, strict=True)])
    assert confident == pytest.approx(right, abs=0.03), "fitted by likelihood, so calibrated"


def test_nothing_to_fit_on() -> None:
    with pytest.raises(ValueError, match="nothing to fit on"):
        fit([], np.array([], int))
