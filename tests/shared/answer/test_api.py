"""The three calls of a notebook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import imitation_refinement as ir
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.series import Series
from imitation_refinement.data.patterns import write_xy
from imitation_refinement.errors import InputError
from tests.shared.answer.conftest import measured


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, imitation_refinement as ir; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'refine_all'"):
        _ = ir.refine_all  # type: ignore[attr-defined]


def test_read_identify_plot(model_folder: Path, library: Library, tmp_path: Path) -> None:
    x, y = measured("NaCl", 1.54056)
    write_xy(tmp_path / "salt.xy", x, y)
    with pytest.raises(InputError, match="does not say its wavelength"):
        ir.read(tmp_path / "salt.xy")
    pattern = ir.read(tmp_path / "salt.xy", "CuKa1")
    assert pattern.pattern_id == "salt" and pattern.wavelength == 1.54056
    assert np.allclose(pattern.intensity, y)
    answer = ir.identify(pattern, model=model_folder)
    assert answer.candidates[0].formula == "NaCl" and len(answer.plot().axes) > 1
    other = ir.identify(pattern, model=model_folder, elements="-Na")
    assert "NaCl" not in {one.formula for one in other.candidates}
    (path := tmp_path / "library.parquet").touch()
    library.select(library.formula != "NaCl").write(path)
    assert "NaCl" not in {one.formula for one in ir.identify(pattern, model=model_folder, library=path).candidates}
    series = ir.identify([pattern, pattern], model=model_folder, at=[2, 1], quantity="time (h)")
    assert isinstance(series, Series) and list(series.at) == [1, 2]


def test_one_of_several_is_named(tmp_path: Path) -> None:
    x, y = measured("NaCl")
    table = {"pattern_id": ["a", "b"], "two_theta": [x, x], "intensity": [y, 2 * y], "wavelength": [1.5406] * 2}
    pq.write_table(pa.table(table), tmp_path / "two.parquet")
    with pytest.raises(InputError, match=r"has 2 patterns: a, b. Name one of them, as read\(path, pattern_id='a'\)"):
        ir.read(tmp_path / "two.parquet")
    assert ir.read(tmp_path / "two.parquet", pattern_id="b").intensity.max() == 2 * y.max()
