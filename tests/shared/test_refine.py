"""A finished run on patterns that it has not seen."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from imitation_refinement.answer.journal import Journal
from imitation_refinement.answer.run_model import load_run, refine_pattern
from imitation_refinement.data.patterns import Pattern, read_patterns, write_xy
from imitation_refinement.errors import InputError
from imitation_refinement.files import writing
from imitation_refinement.learning.models import load_refiner, save_model
from imitation_refinement.refine import refine_files
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS
from pipelines.cli import _parser, main

ANGLES = np.linspace(3, 110, 3001)  # beyond the grid at both ends


def counts(seed: int = 0, scale: float = 5000.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    peaks = sum(h * np.exp(-(((ANGLES - c) / 0.8) ** 2)) for c, h in ((20, 1), (33, 0.4), (55, 0.7)))
    return rng.poisson(scale * (peaks + 0.05 + 0.1 * np.exp(-(((ANGLES - 30) / 10) ** 2)))).astype(float)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three patterns that can be used and two that can't."""
    write_xy(tmp_path / "in" / "a.xy", ANGLES, counts(), ["wavelength 1.5406 Å"])
    write_xy(tmp_path / "in" / "b.xy", ANGLES, counts(1, 3e5), ["wavelength 1.5406 Å"])
    write_xy(tmp_path / "in" / "short.xy", ANGLES[:500], counts()[:500], ["wavelength 1.5406 Å"])
    write_xy(tmp_path / "in" / "silent.xy", ANGLES, counts())
    (tmp_path / "in" / "text.xy").write_text("not a pattern\n")
    return tmp_path


def test_what_is_written(toy_run: Path, folder: Path) -> None:
    refined = refine_files([str(folder / "in")], folder / "out", "CuKa1", run=toy_run)
    assert [r.pattern.pattern_id for r in refined] == ["a", "b", "silent"]
    rows = pq.read_table(folder / "out" / "refined.parquet").to_pylist()
    assert [row["pattern_id"] for row in rows] == ["a", "b", "silent"]
    for row, given in zip(rows, (counts(), counts(1, 3e5), counts()), strict=True):
        angles, intensity = np.array(row["two_theta"]), np.array(row["intensity"])
        np.testing.assert_allclose(angles, ANGLES, atol=1e-6)
        inside = (angles >= 5) & (angles <= 90)
        np.testing.assert_allclose(intensity[~inside], given[~inside], rtol=1e-6)  # as it was measured
        assert not np.allclose(intensity[inside], given[inside], rtol=0.01)
        assert intensity.min() >= 0 and 0.2 * given.max() < intensity.max() < 2 * given.max()
        assert sum(row["probabilities"]) == pytest.approx(1) and min(row["probabilities"]) >= 0
        assert row["crystal_system"] == CRYSTAL_SYSTEMS[int(np.argmax(row["probabilities"]))]
        assert row["wavelength"] == pytest.approx(1.5406, abs=1e-4)
        written = read_patterns(folder / "out" / f"{row['pattern_id']}.xy")[0][0]
        np.testing.assert_allclose(written.intensity, intensity, rtol=1e-6)
        assert written.wavelength == row["wavelength"]
        assert (folder / "out" / f"{row['pattern_id']}.png").read_bytes().startswith(b"\x89PNG")
    rejected = pd.read_csv(folder / "out" / "rejected.csv")
    assert [Path(item).name for item in rejected["item"]] == ["text.xy", "short.xy"]
    assert rejected["reason"].str.contains("covers").tolist() == [False, True]
    assert rejected["remedy"].notna().all()
    summary = pd.read_csv(folder / "out" / "summary.csv")
    assert (summary["probability"] >= summary["second_probability"]).all()
    assert summary["crystal_system"].tolist() == [row["crystal_system"] for row in rows]
    schema = pq.read_schema(folder / "out" / "refined.parquet").metadata
    assert schema[b"crystal_systems"].decode().split(",") == list(CRYSTAL_SYSTEMS)
    assert b"no counting data" in schema[b"caveat"]


def test_what_was_cut_goes_on_and_a_full_disk_loses_nothing(
    toy_run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from imitation_refinement import refine

    refine_files([str(folder / "in")], folder / "undisturbed", "CuKa1", run=toy_run)
    expected = {p.name: p.read_bytes() for p in (folder / "undisturbed").iterdir() if p.suffix != ".png"}
    out, asked = folder / "out", []

    def counted(model: object, pattern: Pattern) -> object:
        asked.append(pattern.pattern_id)
        return refine_pattern(model, pattern)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(refine, "refine_pattern", counted)
    with monkeypatch.context() as small:
        small.setattr(refine, "write_table", writing_nothing(full))
        with pytest.raises(InputError, match=r"refined\.parquet: can't be written \(No space left on device\)"):
            refine_files([str(folder / "in")], out, "CuKa1", run=toy_run)
    assert sorted(asked) == ["a", "b", "short", "silent"] and not (out / "refined.parquet").exists()
    (out / ".a.xy.12345678.xy").touch()  # of one that was killed
    refine_files([str(folder / "in")], out, "CuKa1", run=toy_run)
    assert len(asked) == 4 and "4 of these patterns were refined before" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.suffix != ".png"} == expected

    with Journal(out / refine.JOURNAL, {}), pytest.raises(InputError, match="is being written by another command"):
        refine_files([str(folder / "in")], out, "CuKa1", run=toy_run)


def test_what_was_refined_with_other_deviations_is_refined_again(
    toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from imitation_refinement import refine

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refine_again() -> None:
        refine_files([str(tmp_path / "a.xye")], tmp_path / "out", run=toy_run)

    def write(deviation: float) -> None:
        columns = np.column_stack([ANGLES, counts(), np.full(len(ANGLES), deviation)])
        np.savetxt(tmp_path / "a.xye", columns, header="wavelength 1.5406 Å", encoding="utf-8")

    write(9.0)
    with monkeypatch.context() as small:
        small.setattr(refine, "write_table", writing_nothing(full))
        for said in ("", "1 of these patterns were refined before"):
            with pytest.raises(InputError, match="No space left on device"):
                refine_again()
            assert said in capsys.readouterr().err
    write(30.0)
    refine_again()
    assert "refined before" not in capsys.readouterr().err


def writing_nothing(fail: Callable[..., None]) -> Callable[..., None]:
    """Writes a file whole or not at all, and fails."""

    def write(path: Path, *_: object) -> None:
        with writing(path):
            fail()

    return write


def test_a_wavelength_is_never_assumed(toy_run: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"silent\.xy: no pattern can be used.*rejected\.csv"):
        refine_files([str(folder / "in" / "silent.xy")], folder / "out", run=toy_run)
    (row,) = pd.read_csv(folder / "out" / "rejected.csv").to_dict("records")
    assert "does not say its wavelength" in row["reason"]
    assert [p.name for p in (folder / "out").iterdir()] == ["rejected.csv"]
    for bad in ("nonsense", "0", "nan"):
        with pytest.raises(InputError):
            refine_files([str(folder / "in" / "silent.xy")], folder / "out", bad, run=toy_run)


def test_the_files_own_wavelength_comes_first(toy_run: Path, folder: Path) -> None:
    (refined,) = refine_files([str(folder / "in" / "a.xy")], folder / "out", "1.9", run=toy_run)
    assert refined.pattern.wavelength == 1.5406


def test_scale_and_unit_do_not_matter(toy_run: Path) -> None:
    model = load_run(toy_run)
    y = counts()
    once = refine_pattern(model, Pattern("p", ANGLES, y, 1.5406))
    thousandfold = refine_pattern(model, Pattern("p", ANGLES, 1000 * y, 1.5406))
    np.testing.assert_allclose(thousandfold.intensity, 1000 * once.intensity, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(thousandfold.probabilities, once.probabilities, atol=1e-5)


def test_another_wavelength_gives_the_same_answer_on_its_own_angles(toy_run: Path) -> None:
    """The same d spacings, measured at 1.2 Å."""
    model = load_run(toy_run)
    smooth = 100 * np.exp(-(((ANGLES - 33) / 2) ** 2)) + 60 * np.exp(-(((ANGLES - 60) / 2) ** 2)) + 5
    copper = refine_pattern(model, Pattern("p", ANGLES, smooth, 1.5406))
    other = np.degrees(2 * np.arcsin(np.sin(np.radians(ANGLES / 2)) * 1.2 / 1.5406))
    shifted = refine_pattern(model, Pattern("p", other, smooth, 1.2))
    inside = (ANGLES > 6) & (ANGLES < 89)
    np.testing.assert_allclose(shifted.intensity[inside], copper.intensity[inside], atol=3)
    np.testing.assert_allclose(shifted.probabilities, copper.probabilities, atol=0.05)


def test_the_runs_refiners_by_name(toy_run: Path) -> None:
    selected = json.loads((toy_run / "results.json").read_text())["selected"]
    assert load_run(toy_run).name == selected
    assert load_run(toy_run, "vgg-non_targeted").name == "vgg-non_targeted"
    assert load_run(toy_run, "vgg-targeted").classifiers[0].config.architecture == "vgg"
    with pytest.raises(InputError, match=r"no refiner resnet.*densenet-targeted, vgg-non_targeted, vgg-targeted"):
        load_run(toy_run, "resnet")


def test_what_is_no_run(toy_run: Path, tmp_path: Path) -> None:
    for name, text in (("empty", None), ("text", "{"), ("list", "[]"), ("other", "{}")):
        run = tmp_path / name
        run.mkdir()
        if text is not None:
            (run / "results.json").write_text(text)
        with pytest.raises(InputError, match=f"{name}: is no finished run"):
            load_run(run)


def test_models_that_do_not_belong_together(toy_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "mixed"
    shutil.copytree(toy_run, run)
    shutil.copy(run / "models" / "vgg.safetensors", run / "models" / "densenet.safetensors")
    with pytest.raises(InputError, match="was not trained through"):
        load_run(run, "densenet-targeted")


def test_names_that_are_no_file_names(toy_run: Path, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "pattern_id": ["../../x", "a/b", "a b", ".."],
            "two_theta": [ANGLES] * 4,
            "intensity": [counts()] * 4,
            "wavelength": [1.5406] * 4,
        }
    )
    table.to_parquet(tmp_path / "p.parquet")
    refine_files([str(tmp_path / "p.parquet")], tmp_path / "out", run=toy_run)
    assert len(list((tmp_path / "out").glob("*.xy"))) == 4
    assert {p.name for p in tmp_path.iterdir()} == {"p.parquet", "out"}


def test_command_line(toy_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["refine", "--run", str(toy_run), "--output", str(folder / "out")]
    main([*run, "--model", "vgg-targeted", str(folder / "in" / "a.xy"), str(folder / "in" / "b.xy")])
    assert len(pq.read_table(folder / "out" / "refined.parquet")) == 2
    assert "2 refined patterns" in capsys.readouterr().err
    for arguments, named in (
        ([*run, str(folder / "in" / "silent.xy")], "no pattern can be used"),
        ([*run, str(folder / "nowhere.xy")], "nowhere.xy: there is no such file"),
        ([*run, "--wavelength", "CuKz9", str(folder / "in" / "a.xy")], "CuKz9"),
        ([*run, "--model", "x", str(folder / "in" / "a.xy")], "no refiner x"),
        (["refine", "--run", str(folder), "--output", str(folder / "o"), "x.xy"], "is no finished run"),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        err = capsys.readouterr().err.splitlines()
        assert [line for line in err if line.startswith("error: ")] == err[-1:] and named in err[-1]


def test_scans_and_axes_by_option(toy_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file with several scans one is to be chosen; identify answers to all of them."""
    q = 4 * np.pi * np.sin(np.radians(ANGLES / 2)) / 1.5406
    header = '*RAS_HEADER_START\n*MEAS_SCAN_AXIS_X "TwoTheta"\n*RAS_HEADER_END\n*RAS_INT_START\n'
    rows = ["".join(f"{x:.4f} {y:g}\n" for x, y in zip(ANGLES, counts(seed), strict=True)) for seed in (0, 1)]
    (tmp_path / "a.ras").write_text(
        "*RAS_DATA_START\n" + "".join(f"{header}{part}*RAS_INT_END\n" for part in rows) + "*RAS_DATA_END\n"
    )
    (tmp_path / "q.xy").write_text("".join(f"{x:.8f} {y}\n" for x, y in zip(q, counts(), strict=True)))
    run = ["refine", "--run", str(toy_run), "--output", str(tmp_path / "out"), "--wavelength", "1.5406"]
    with pytest.raises(SystemExit):
        main([*run, str(tmp_path / "a.ras")])
    assert "holds 2 scans: 1 (3 to 110°, 3001 points), 2" in capsys.readouterr().err
    main([*run, "--scan", "2", str(tmp_path / "a.ras")])
    (written,) = pq.read_table(tmp_path / "out" / "refined.parquet").to_pylist()
    assert written["pattern_id"] == "a scan 2" and (tmp_path / "out" / "a_scan_2.xy").exists()
    main([*run, "--axis", "q (1/Å)", str(tmp_path / "q.xy")])
    (written,) = pq.read_table(tmp_path / "out" / "refined.parquet").to_pylist()
    np.testing.assert_allclose(written["two_theta"], ANGLES, atol=1e-5)
    assert _parser().parse_args(["identify", "--output", "o", "a.ras"]).scan == "all"


def test_the_zero_error_of_the_training_is_mended_and_said(
    toy_run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(toy_run, folder / "run")
    path = run / "models" / f"{load_run(run).name}.safetensors"
    refiner, grid, about = load_refiner(path)
    moved = refiner.config.model_copy(update={"zero_error": 0.5}).build()
    moved.load_state_dict(refiner.state_dict())
    save_model(path, moved, grid, about)
    source = [str(folder / "in" / "a.xy")]
    (mended,) = refine_files(source, folder / "mended", run=run)
    assert f"moved by -{grid.step / 2:.3f}° in 2θ" in capsys.readouterr().err
    (kept,) = refine_files(source, folder / "kept", run=run, keep_angles=True)
    assert "moved" not in capsys.readouterr().err
    (plain,) = refine_files(source, folder / "plain", run=toy_run)
    np.testing.assert_allclose(kept.intensity, plain.intensity)
    near = (ANGLES > 16) & (ANGLES < 24)
    centres = [np.average(ANGLES[near], weights=r.intensity[near]) for r in (mended, kept)]
    assert centres[1] - centres[0] == pytest.approx(grid.step / 2, rel=0.25)
    assert "moved by" in (folder / "mended" / "a.xy").read_text()
    assert "peaks where they were measured" in (folder / "kept" / "a.xy").read_text()
