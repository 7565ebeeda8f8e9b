"""Two readers that must agree, and lines of the tube."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from imitation_refinement.data import readers
from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.readers import by_geddes, by_rietx, compare, packed, tube_lines, written, xml_root
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError

X, Y = 10 + 0.02 * np.arange(70), np.random.default_rng(0).poisson(200, 70).astype(float)


@pytest.fixture
def ras(tmp_path: Path) -> Path:
    rows = "".join(f"{x:.4f} {y:g} 1.0\n" for x, y in zip(X, Y, strict=True))
    head = '*RAS_DATA_START\n*RAS_HEADER_START\n*MEAS_SCAN_AXIS_X "TwoTheta"\n*RAS_HEADER_END\n'
    (tmp_path / "a.ras").write_text(f"{head}*RAS_INT_START\n{rows}*RAS_INT_END\n*RAS_DATA_END\n")
    return tmp_path / "a.ras"


def test_both_read_it(ras: Path) -> None:
    first, second = by_rietx(ras, "a", "ras", scan=0), by_geddes(ras)
    assert second is not None
    np.testing.assert_allclose(first.values, second[0])
    np.testing.assert_allclose(first.intensity, second[1])


def test_a_file_that_is_taken_for_another_form_is_refused(ras: Path) -> None:
    with pytest.raises(InputError, match="is taken for ras instead of gsas"):
        by_rietx(ras, "a", "gsas", scan=0)


@pytest.mark.parametrize(
    ("x", "y"),
    [(X[:-1], Y[:-1]), (X + 0.001, Y), (np.linspace(X[0], 11.4, 70), Y), (X, Y * (1 + 1e-5)), (X[:0], Y[:0])],
    ids=["points", "first angle", "last angle", "sum", "none"],
)
def test_where_two_readers_differ_the_scan_is_refused(
    ras: Path, monkeypatch: pytest.MonkeyPatch, x: np.ndarray, y: np.ndarray
) -> None:
    (found,) = read_scans(ras)
    assert isinstance(found, Scan)
    monkeypatch.setattr(readers, "by_geddes", lambda path, index: (x, y))
    (error,) = read_scans(ras)
    assert isinstance(error, InputError) and "two readers disagree: 70 points from 10 to 11.38°" in str(error)
    assert "(rietx) and" in str(error) and "(geddes)" in str(error)


def test_what_two_readers_agree_on() -> None:
    compare((X, Y), (X + 5e-5, Y * (1 + 1e-7)), "a", "one", "two")  # rounded, and added in another order
    compare((X, Y), None, "a", "one", "two")


@pytest.mark.parametrize("name", ["geddes", "rietx.io.readers"])
def test_a_package_that_is_missing_is_named_with_how_to_get_it(
    ras: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def missing(wanted: str) -> Any:
        if wanted == name:
            raise ModuleNotFoundError(name=name.partition(".")[0])
        return import_module(wanted)

    monkeypatch.setattr(readers, "import_module", missing)
    (error,) = read_scans(ras)
    assert isinstance(error, InputError) and "is not installed" in str(error)
    assert "extra `formats`: rietx, geddes" in error.remedy


def test_whatever_a_parser_raises_is_told_in_one_line(ras: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OverflowError("a.ras: too large\nfor an int. Second sentence.")

    monkeypatch.setattr(readers, "library", lambda name, where: SimpleNamespace(read_pattern=broken))
    with pytest.raises(InputError, match=r"^here: can't be read: too large for an int\. Second sentence\. Export it"):
        by_rietx(ras, "here", "ras")


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        ({"first": 1.5406, "second": 1.5444, "ratio": 0.5}, ((1.5406, 1.5444), 0.5)),
        ({"first": 1.5406, "second": 1.5444}, ((1.5406, 1.5444), None)),
        ({"first": 1.5406, "second": 1.5444, "ratio": 0.0}, ((1.5406,), None)),
        ({"first": 1.5406, "second": 0.0, "ratio": 0.5}, ((1.5406,), None)),
        ({"first": None, "mean": 1.5418}, ((1.5418,), None)),
        ({"first": 1.5406, "second": 1.5444, "mean": 1.5418, "ratio": 0.5, "used": 1.5418}, ((1.5406, 1.5444), 0.5)),
        ({"first": 1.5406, "second": 1.5444, "beta": 1.3922, "used": "b"}, ((1.3922,), None)),
        ({"first": 1.5406, "second": 1.5444, "used": "a2"}, ((1.5444,), None)),
        ({"first": 1.5406, "used": 0.7093}, ((0.7093,), None)),
        ({"first": None}, ((), None)),
    ],
)
def test_lines_of_the_tube(said: dict[str, Any], lines: tuple[tuple[float, ...], float | None]) -> None:
    assert tube_lines(**said) == lines


def test_what_is_temporary_is_gone() -> None:
    with packed("a.zip", {"b/c.txt": b"d"}) as path:
        assert readers.members(path) == {"b/c.txt": b"d"}
    with written("a.txt", "θ") as text:
        assert text.read_text(encoding="utf-8") == "θ"
    assert not path.exists() and not text.exists()


def test_parts_of_archives_and_documents_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LARGEST_MEMBER", 100)
    with packed("a.zip", {"b.txt": bytes(101)}) as path, pytest.raises(InputError, match="is larger than"):
        readers.members(path)
    with pytest.raises(InputError, match="is no whole XML"):
        xml_root(b"<a>", "here")
