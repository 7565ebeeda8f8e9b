"""The stream: the same whoever draws it, each class as often, and what is kept out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from imitation_refinement.errors import InputError
from imitation_refinement.learning.stream import Stream, StreamFlaws, batches, formulas_of, without
from imitation_refinement.xrd.bank import DERIVED, GIVEN, RANDOM, Bank
from imitation_refinement.xrd.crystal import CLASS_INDEX
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.preparation import measured_input

GRID = Grid(axis="log_q", points=512)
NONE = dict.fromkeys(("u", "microstrain", "axial", "zero_shift", "displacement", "transparency"), (0.0, 0.0))
NONE |= dict.fromkeys(("monochromator", "strain", "scale", "redrawn", "line_texture", "b_iso"), (0.0, 0.0))
SHARES = {"ka2_share": 0.0, "texture_share": 0.0, "air_share": 0.0, "hump_share": 0.0, "fluorescence_share": 0.0}
SHARES |= {"impurity_share": 0.0, "spikes": 0.0, "cut_share": 0.0}


def test_a_sample_depends_on_seed_and_number_alone(toy_bank: Bank) -> None:
    stream = Stream(toy_bank, GRID, seed=5)
    x, rows = stream.batch(0, 28)
    again, others = Stream(toy_bank, GRID, seed=5).batch(14, 14)
    assert torch.equal(x[14:], again) and torch.equal(rows[14:], others)
    assert not torch.equal(x, Stream(toy_bank, GRID, seed=6).batch(0, 28)[0])
    assert np.bincount(toy_bank.label[rows]).tolist() == [4] * 7
    assert x.dtype == torch.float32 and x.shape == (28, 512) and torch.isfinite(x).all()
    assert (x.amax(1) == 1).all() and (x.amin(1) == 0).all()


def test_crystals_are_drawn_by_the_weight_of_their_origin(toy_bank: Bank) -> None:
    """A random one a quarter as often as a given one of its system, a derived one half; without, all is as it was."""
    random, derived = (replace(toy_bank, origin=np.full(len(toy_bank), kind, np.int8)) for kind in (RANDOM, DERIVED))
    every, flaws = Bank.join([toy_bank, random, random, derived]), StreamFlaws(random_weight=0.25, derived_weight=0.5)
    stream, n = Stream(every, GRID, flaws), 2100
    rows = np.array([stream._begun(number)[3] for number in range(n)])
    for kind, share in ((RANDOM, 0.25), (DERIVED, 0.25), (GIVEN, 0.5)):
        assert abs((every.origin[rows] == kind).mean() - share) < 4 * np.sqrt(share * (1 - share) / n), kind
    assert np.bincount(every.label[rows]).tolist() == [n // 7] * 7
    given = Stream(every, GRID, StreamFlaws(random_weight=0, derived_weight=0, impurity_share=0)).batch(0, 7)
    assert torch.equal(given[0], Stream(toy_bank, GRID, StreamFlaws(impurity_share=0)).batch(0, 7)[0])
    for weight in (0.15, 0):  # a system that has none but random ones
        alone = Stream(random, GRID, StreamFlaws(random_weight=weight)).batch(0, 7)
        assert set(random.label[alone[1]].tolist()) == set(range(7))


def test_workers_change_nothing(toy_bank: Bank) -> None:
    stream = Stream(toy_bank, GRID)
    alone, shared = (list(batches(stream, 7, 2, 6, workers)) for workers in (0, 2))
    assert len(alone) == len(shared) == 4
    for (x, y), (x2, y2) in zip(alone, shared, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)
    assert torch.equal(alone[0][0], stream.batch(14, 7)[0])


def test_samples_are_prepared_as_measured_patterns_are(toy_bank: Bank) -> None:
    stream = Stream(toy_bank, Grid(axis="log_q", points=3072))
    for number in range(20):
        found = stream.measurement(number)
        assert (found.counts == np.round(found.counts)).all()
        expected = measured_input(found.two_theta, found.counts, GRID.wavelength, stream.grid)
        np.testing.assert_allclose(stream.sample(number)[0], expected, atol=5e-5)


def test_without_flaws_lines_stand_where_bragg_says(toy_bank: Bank) -> None:
    flaws = StreamFlaws(**NONE, **SHARES, counts=(1e6, 1e6), background=(0.0, 0.0), w=(0.01, 0.01), size=(1e6, 1e6))
    cubic = toy_bank.select(toy_bank.label == CLASS_INDEX["cubic"]).select([0])
    grid = Grid(axis="log_q", points=8192)
    x, row = Stream(cubic, grid, flaws).sample(0)
    edge = cubic.lattice[0, 0, 0]
    sine = grid.wavelength * np.sqrt([1, 2, 3, 4, 5]) / (2 * edge)
    places = grid.index_of(np.degrees(2 * np.arcsin(sine)))
    assert row == 0
    for place in places:
        near = slice(int(place) - 40, int(place) + 41)
        assert abs(np.argmax(x[near]) + near.start - place) < 3


def test_strain_shifts_a_cubic_pattern_along_log_q(toy_bank: Bank) -> None:
    cubic = toy_bank.select(toy_bank.label == CLASS_INDEX["cubic"]).select([0])
    grid = Grid(axis="log_q", points=8192)
    options = {**SHARES, "counts": (1e6, 1e6), "background": (0.0, 0.0), "w": (0.01, 0.01), "size": (1e6, 1e6)}
    plain = Stream(cubic, grid, StreamFlaws(**NONE, **options)).sample(0)[0]
    larger = Stream(cubic, grid, StreamFlaws(**{**NONE, "scale": (0.05, 0.05)}, **options)).sample(0)[0]
    step = np.log(np.sin(np.radians(45)) / np.sin(np.radians(2.5))) / (grid.points - 1)
    shift = np.argmax(np.correlate(plain, larger, "full")) - (grid.points - 1)
    assert shift * step == pytest.approx(np.log(1.05), abs=2 * step)


def test_formulas_are_kept_out_however_they_are_written(toy_bank: Bank) -> None:
    names = toy_bank.formula.tolist()
    kept = without(toy_bank, [f"{names[0]}4", "no formula!", "Fe2O3", f"{names[3]}H2"])
    assert sorted(set(names) - set(kept.formula.tolist())) == sorted([names[0], names[3]])
    assert len(without(toy_bank, [])) == len(toy_bank)


def test_formulas_of_patterns(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("pattern,formula\na.xy,SiO2\nb.xy,\n")
    pq.write_table(pa.table({"formula": ["NaCl", None]}), tmp_path / "t.parquet")
    pq.write_table(pa.table({"name": ["NaCl"]}), tmp_path / "none.parquet")
    assert formulas_of(tmp_path) == ["SiO2"]
    assert formulas_of(tmp_path / "t.parquet") == ["NaCl"]
    with pytest.raises(InputError, match="says no formula"):
        formulas_of(tmp_path / "none.parquet")
    for values in (["unknown"], [1, 2]):
        pq.write_table(pa.table({"formula": values}), tmp_path / "none.parquet")
        with pytest.raises(InputError, match="says no formula"):
            formulas_of(tmp_path / "none.parquet")


def test_formulas_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"formula": ["NaCl", "halite (?)"]}), tmp_path / "t.parquet")
    assert formulas_of(tmp_path / "t.parquet") == ["NaCl"]
    assert "1 of 2 formulas are empty or can't be read, as 'halite (?)'" in capsys.readouterr().err
