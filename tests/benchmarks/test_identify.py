"""What a model is worth, by the command that others run: its numbers again by hand, and inputs of all kinds."""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from imitation_refinement.answer.cell import Evidence
from imitation_refinement.answer.fusion import Fusion, Opinions
from imitation_refinement.answer.lattice import KINDS, LatticeVote, lattices_of
from imitation_refinement.answer.model import LIBRARY, RANKING, REFINER, Model, record_refiner, write_record
from imitation_refinement.answer.ranking import Ranking
from imitation_refinement.data.patterns import read_patterns, write_xy
from imitation_refinement.errors import InputError
from imitation_refinement.learning.config import ClassifierConfig, RootRefinerConfig
from imitation_refinement.learning.models import save_model
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, N_CLASSES
from imitation_refinement.xrd.grid import Grid
from tests.shared.answer.conftest import measured, small_library

ROOT = Path(__file__).parents[2]
# Pattern → formula and system as its row says them; SnO2's is of a material that nobody knows.
LABELLED = {
    "NaCl": ("NaCl", "cubic"),
    "TiO2": ("TiO2", "tetragonal"),
    "BaSO4": ("", "orthorhombic"),
    "SnO2": ("Tl3Hg7", "cubic"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model whose one network has learnt the names of the library's materials, and nothing else."""
    folder = tmp_path_factory.mktemp("model")
    library = small_library()
    library.write(folder / LIBRARY)
    Ranking.read().write(folder / RANKING)
    tiny = {"architecture": "strided", "depths": [1, 1], "widths": [8, 8], "embedding": 8, "positions": 8}
    network = ClassifierConfig.model_validate(tiny | {"norm": "group"}).build()
    save_model(folder / "network-1.safetensors", network, Grid(axis="log_q", points=256), {}, library.formula.tolist())
    n = len(Evidence)
    fused = Fusion((0.0,) * n, (1.0,) * n, (0.1,) * n, (0.5, 0.1), (0.0, 1.0, 0.1))
    lattice = LatticeVote(np.zeros((N_CLASSES, KINDS + 2)))
    write_record(folder, ["network-1.safetensors"], lattice, fused, {"samples_a_network": 0})
    grid = Grid(axis="log_q", points=256)
    refiner = RootRefinerConfig(widths=(8, 12), hidden=8, positions=8).build(grid)
    save_model(folder / REFINER, refiner.eval(), grid, {})
    record_refiner(folder)
    return folder


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labelled ones; one too short, one that can't be read, one without a label, and a calculated one."""
    folder = tmp_path_factory.mktemp("patterns")
    lines = ["pattern,wavelength_angstrom,formula,space_group,crystal_system"]
    for name, (formula, system) in LABELLED.items():
        write_xy(folder / f"{name}.xy", *measured(name, seed=3))
        group = {"NaCl": "225", "TiO2": "136"}.get(name, "")
        lines.append(f"{name}.xy,1.5406,{formula},{group},{system}")
    write_xy(folder / "short.xy", np.arange(30, 31.5, 0.02), np.random.default_rng(0).poisson(50, 75))
    (folder / "broken.xy").write_text("10 1\n11 x\n")
    write_xy(folder / "nobody.xy", *measured("ZnO", seed=3))
    write_xy(folder / "theory.xy", *measured("ZnS", noise=False))
    lines += ["short.xy,1.5406,ZnO,186,hexagonal", "broken.xy,1.5406,ZnS,216,cubic", "nobody.xy,1.5406,,,"]
    (folder / "manifest.csv").write_text("\n".join([*lines, "theory.xy,1.5406,ZnS,216,cubic", ""]))
    return folder


def run(*arguments: object, script: str = "identify") -> str:
    """What a benchmark prints, which is run as by its command line."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        importlib.import_module(script).main()
    return printed.getvalue()


@pytest.fixture(scope="module")
def judged(model: Path, patterns: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that was written, and what was printed."""
    out = tmp_path_factory.mktemp("judged")
    return out, run(patterns, "--model", model, "--parts", "--output", out)


def test_numbers_again(judged: tuple[Path, str]) -> None:
    out, said = judged
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    answers = pd.read_csv(out / "answers.csv", keep_default_na=False)
    assert found["calculated"] == ["theory"] and found["unlabelled"] == ["nobody"]
    assert set(found["refused"]) >= {"short"} and any("broken" in where for where in found["refused"])
    assert found["n"] == len(LABELLED) + 2  # those that are no answers are wrong, not missing
    systems = [f"p_{system}" for system in CRYSTAL_SYSTEMS]
    for protocol, names in (("known", [*LABELLED, "short"]), ("unseen", ["SnO2"])):
        for by, row in found["protocols"][protocol].items():
            if by == "majority":
                continue
            own = answers[(answers["protocol"] == protocol) & (answers["by"] == by)].set_index("pattern_id")
            assert list(own.index) == names
            p = own[systems].astype(float)
            first = p.idxmax(axis=1).str.removeprefix("p_").where(p.max(axis=1) > 0, "none")
            right = int((first == own["crystal_system"]).sum())
            share = row["system"]
            assert (share["right"], share["n"]) == (right, len(names) + 1)  # and the one that can't be read
            interval = binomtest(right, len(names) + 1).proportion_ci(method="wilson")
            assert (share["low"], share["high"]) == pytest.approx((interval.low, interval.high))
            assert row["surest"]["1"] == pytest.approx(right / (len(names) + 1))
    known = found["protocols"]["known"]
    assert known["search alone"]["system"]["right"] >= 3  # NaCl, TiO2, BaSO4 are there
    assert (known["majority"]["system"]["right"], known["majority"]["system"]["n"]) == (2, 6)
    assert found["phase"]["first"]["n"] == 3  # NaCl, TiO2, and the short pattern's ZnO
    assert found["phase"]["first"]["right"] == 2
    assert (out / "calibration.png").read_bytes().startswith(b"\x89PNG")
    for text in ("left out, calculated: no noise: 1 (theory)", "counted as wrong: short:", "phase in the library: 3"):
        assert text in said


def test_the_answer_to_a_refined_pattern_again(model: Path, patterns: Path, judged: tuple[Path, str]) -> None:
    made, systems = Model.read(model), [f"p_{system}" for system in CRYSTAL_SYSTEMS]
    (pattern,) = (p for p in read_patterns(patterns)[0] if p.pattern_id == "TiO2")
    zero_error = lattices_of(pattern.two_theta, pattern.intensity, 1.5406)[0].zero_error
    given = pattern.two_theta, made.refine(pattern, zero_error).intensity, 1.5406
    lattice = made.lattice(lattices_of(*given))
    expected = made.fusion(Opinions.of(made.ensemble.log_probabilities(*given), lattice, made.search(*given)))
    answers = pd.read_csv(judged[0] / "answers.csv")
    row = answers.query("protocol == 'known' and by == 'answer, refined' and pattern_id == 'TiO2'")
    assert row[systems].to_numpy()[0] == pytest.approx(expected, abs=2e-4)  # counts were kept as float32


def test_windows_cut_before_anything_is_seen(model: Path, tmp_path: Path) -> None:
    """Cut by the command as if it had been measured so."""
    x, y = measured("TiO2", seed=3)
    x = x.round(6)  # as it is written
    inside = (x >= 12) & (x <= 51)
    manifest = "pattern,wavelength_angstrom,formula,crystal_system\nTiO2.xy,1.5406,TiO2,tetragonal\n"
    for name, kept in (("whole", slice(None)), ("short", inside)):
        write_xy(tmp_path / name / "TiO2.xy", x[kept], y[kept])
        (tmp_path / name / "manifest.csv").write_text(manifest)
    run(tmp_path / "whole", "--model", model, "--window", 12, 51, "--output", tmp_path / "cut")
    run(tmp_path / "short", "--model", model, "--output", tmp_path / "own")
    one, other = (pd.read_csv(tmp_path / folder / "answers.csv") for folder in ("cut", "own"))
    assert set(one["pattern_id"]) == {"TiO2"}
    pd.testing.assert_frame_equal(one, other)


def test_pages_are_filled(judged: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = judged
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures: written by benchmarks/write_docs.py -->\nold\n<!-- /figures -->\nz\n")
    run("card", out, out, "--into", page, "--ids", tmp_path / "ids.csv", script="write_docs")
    text = page.read_text()
    assert text.startswith("a\n<!-- figures") and text.endswith("<!-- /figures -->\nz\n") and "old" not in text
    found = json.loads((out / "results.json").read_text())["protocols"]["known"]["answer"]["system"]
    assert f"| answer | {100 * found['share']:.1f} (" in text
    assert len(pd.read_csv(tmp_path / "ids.csv")) == 2 * (len(LABELLED) + 1)
    page.write_text("<!-- ablation: written by benchmarks/write_docs.py -->\n<!-- /ablation -->\n")
    run("ablation", out, out, "--against", "the same", out, out, "--into", page, script="write_docs")
    assert "| instead of the same: answer | +0.0 (+0.0 to +0.0) |" in page.read_text()
    with pytest.raises(InputError, match="has no place for figures"):
        run("card", out, out, "--into", page, script="write_docs")


def test_what_can_t_be_asked(model: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("pattern,wavelength_angstrom\na.xy,1.5406\n")
    write_xy(tmp_path / "a.xy", *measured("NaCl"))
    with pytest.raises(InputError, match="has no pattern of known crystal system"):
        run(tmp_path, "--model", model)
    with pytest.raises(InputError, match="--window: is no range of 2θ"):
        run(tmp_path, "--model", model, "--window", 51, 12)


def test_labels_that_are_said_need_no_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CIF that can't be used costs no pattern that says what it is of."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    (tmp_path / "bad.cif").write_text("data_x\n_cell_length_a ?\n")
    for name in ("a", "b"):
        write_xy(tmp_path / f"{name}.xy", *measured("TiO2"))
    rows = ["pattern,structure,wavelength_angstrom,formula,space_group,crystal_system"]
    rows += ["a.xy,bad.cif,1.5406,O4Ti2,136,", "b.xy,bad.cif,1.5406,,,", "c.xy,,1.5406,TiO2,136,"]
    (tmp_path / "manifest.csv").write_text("\n".join([*rows, ""]))
    found = importlib.import_module("worth").read_labelled(tmp_path)
    (row,) = found.rows
    assert (row["pattern_id"], row["formula"], row["crystal_system"]) == ("a", "TiO2", "tetragonal")
    assert row["space_group"] == 136 and len(row["two_theta"]) == len(measured("TiO2")[0])
    assert found.unlabelled == ["b"] and len(found.refused) == 1 and "c.xy" in str(found.refused[0])
