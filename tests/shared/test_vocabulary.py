"""The words are those of files and options, and what is said of them is whole."""

from __future__ import annotations

from typing import get_args

import pytest

from imitation_refinement.learning.config import ADAPTATION_DEFAULTS, AdaptConfig, PretrainConfig, RefineConfig
from imitation_refinement.results import metrics
from imitation_refinement.results.paper import PAPER_TABLE_1, PAPER_TABLE_3
from imitation_refinement.vocabulary import (
    Architecture,
    Distance,
    Kind,
    Measure,
    Method,
    Supervision,
    Variant,
    Word,
)
from imitation_refinement.xrd.peaks import TOLERANCE

WORDS = (Architecture, Method, Supervision, Variant, Distance, Measure)


@pytest.mark.parametrize("words", WORDS)
def test_a_word_is_its_value_and_is_called_something_of_its_own(words: type[Word]) -> None:
    labels = [member.label for member in words]  # type: ignore[attr-defined]
    assert all(labels) and len(set(labels)) == len(labels)
    for member in words:
        assert words(str(member)) is member and f"{member}" == member.value


def test_every_distance_has_its_function() -> None:
    assert list(metrics.DISTANCES) == list(Distance)
    assert {which.sign for which in Distance} == {-1, 1}
    for which in Distance:
        better, worse = ([[0.0, 1.0, 2.0, 1.0]], [[2.0, 1.0, 0.0, 1.0]])
        theory = [[0.0, 1.0, 2.0, 1.1]]
        near, far = (metrics.DISTANCES[which](x, theory)[0] for x in (better, worse))
        assert which.sign * near > which.sign * far


def test_methods_that_options_name() -> None:
    adapted = {str(m) for m in Method if m.kind is Kind.ADAPTED}
    assert set(get_args(AdaptConfig.model_fields["method"].annotation)) == adapted == set(ADAPTATION_DEFAULTS)
    pretrained = {str(m) for m in Method if m.kind is Kind.CLASSIFIER} - {Method.RAW} | {"prototypical"}
    assert set(get_args(PretrainConfig.model_fields["method"].annotation)) == pretrained


def test_terms_of_the_loss_have_weights() -> None:
    terms = RefineConfig().weights
    for variant in Variant:
        weights = RefineConfig(variant=variant).weights
        changed = {term for term in terms if weights[term] != terms[term]}
        assert changed == {variant.removes, variant.adds} - {""}
    assert [v for v in Variant if v.named_form] == [Variant.PLAIN, Variant.WITH_IDEAL, Variant.WITH_DIVERSITY]


def test_rows_of_the_paper_are_of_these_words() -> None:
    ours = {f"{c}-{word}" for c in Architecture for word in (*Method, *Supervision)}
    assert set(PAPER_TABLE_1) <= ours
    assert {m for m in Method if m.paper_baseline} == {
        Method(name.split("-")[1]) for name in PAPER_TABLE_1 if name.split("-")[1] in ("dwt", "adda", "gta")
    }
    assert all(set(row) <= set(Distance) for row in PAPER_TABLE_3.values())


def test_measures_say_what_the_code_does() -> None:
    for measure in (Measure.PEAK_PRECISION, Measure.PEAK_RECALL):
        assert f"within {TOLERANCE}°" in measure.meaning
    assert {m.before for m in Measure if m.before}.isdisjoint({str(m) for m in Measure})
