"""NeXus: HDF5 as beamlines, pyFAI and pynxtools write it; values by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError

COUNTS = np.random.default_rng(9).poisson(800, 90).astype(float)
ANGLES = np.linspace(2, 20, 90)


def dataset(group: h5py.Group, name: str, values: Any, **attributes: Any) -> None:
    item = group.create_dataset(name, data=values)
    item.attrs.update(attributes)


def write(
    folder: Path,
    signal: np.ndarray = COUNTS,
    axis: np.ndarray = ANGLES,
    name: str = "two_theta",
    unit: str = "deg",
    beam: dict[str, tuple[float, str]] | None = None,
    default: bool = True,
    **more: Any,
) -> Path:
    path = folder / "ceria.nxs"
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        data = entry.create_group("data")
        data.attrs.update({"NX_class": "NXdata", "signal": "intensity", "axes": [*["."] * (signal.ndim - 1), name]})
        if default:
            file.attrs["default"], entry.attrs["default"] = "entry", "data"
        dataset(data, "intensity", signal, units="counts")
        dataset(data, name, axis, **({"units": unit} if unit else {}))
        if "errors" in more:
            dataset(data, "intensity_errors", more["errors"])
        instrument = entry.create_group("instrument/beam")
        for key, (value, said) in (beam or {}).items():
            dataset(instrument, key, value, **({"units": said} if said else {}))
    return path


def only(path: Path) -> Scan:
    (found,) = read_scans(path)
    assert isinstance(found, Scan), found
    return found


def test_the_signal_over_its_axis(tmp_path: Path) -> None:
    found = only(write(tmp_path, beam={"incident_wavelength": (0.4959, "angstrom")}, errors=np.sqrt(COUNTS) * 2))
    np.testing.assert_allclose(found.axis.two_theta(found.values, None, ""), ANGLES)
    assert found.intensity.tolist() == COUNTS.tolist() and found.unit == "counts"
    np.testing.assert_allclose(np.asarray(found.sigma), 2 * np.sqrt(COUNTS))
    assert found.wavelengths == (0.4959,) and found.remarks == ()


Q = 4 * np.pi * np.sin(np.radians(ANGLES / 2)) / 0.4959


@pytest.mark.parametrize(
    ("name", "unit", "values"),
    [
        ("polar_angle", "degree", ANGLES),
        ("2th", "rad", np.radians(ANGLES)),
        ("q", "nm^-1", 10 * Q),
        ("q", "1/angstrom", Q),
        ("d", "Å", 2 * np.pi / Q),
        ("theta", "deg", ANGLES / 2),
    ],
)
def test_axes_by_their_names_and_units(tmp_path: Path, name: str, unit: str, values: np.ndarray) -> None:
    found = only(write(tmp_path, axis=values, name=name, unit=unit))
    np.testing.assert_allclose(found.axis.two_theta(found.values, 0.4959, ""), ANGLES)


@pytest.mark.parametrize(("name", "unit"), [("q", ""), ("energy", "keV"), ("tof", "us"), ("position", "mm")])
def test_axes_without_a_way_to_two_theta(tmp_path: Path, name: str, unit: str) -> None:
    found = only(write(tmp_path, name=name, unit=unit))
    with pytest.raises(InputError, match="not 2θ"):
        found.axis.two_theta(found.values, 0.4959, "")


@pytest.mark.parametrize(
    ("beam", "wavelengths", "remark"),
    [
        ({"wavelength": (4.959e-11, "m")}, (0.4959,), ""),
        ({"incident_energy": (25.0, "keV")}, (0.49594,), ""),
        ({"wavelength": (0.4959, "")}, (), "without a unit; it is not taken"),
        (
            {
                "k_alpha_one": (1.5406, "angstrom"),
                "k_alpha_two": (1.54439, "angstrom"),
                "ratio_k_alphatwo_k_alphaone": (0.5, ""),
            },
            (1.5406, 1.54439),
            "",
        ),
    ],
)
def test_wavelengths(tmp_path: Path, beam: dict, wavelengths: tuple[float, ...], remark: str) -> None:
    found = only(write(tmp_path, beam=beam))
    assert found.wavelengths == pytest.approx(wavelengths, rel=1e-4) and remark in " ".join(found.remarks)
    assert found.ratio == (0.5 if len(wavelengths) > 1 else None)


def test_every_row_of_a_series_is_a_scan(tmp_path: Path) -> None:
    rows = np.stack([COUNTS + i for i in range(4)])
    found = list(read_scans(write(tmp_path, rows, errors=np.sqrt(rows))))
    assert [scan.intensity[0] - COUNTS[0] for scan in found if isinstance(scan, Scan)] == [0, 1, 2, 3]
    assert isinstance(found[3], Scan) and found[3].label == "/entry/data, row 4"
    np.testing.assert_allclose(np.asarray(found[3].sigma), np.sqrt(rows[3]))


def test_edges_of_bins_and_files_of_old(tmp_path: Path) -> None:
    edges = np.concatenate([ANGLES - 0.1, [ANGLES[-1] + 0.1]])
    edges[1:-1] = (edges[1:-1] + np.concatenate([ANGLES - 0.1])[1:]) / 2
    found = only(write(tmp_path, axis=edges))
    np.testing.assert_allclose(found.values, (edges[1:] + edges[:-1]) / 2)
    assert "edges of bins" in found.remarks[0]
    path = write(tmp_path)
    with h5py.File(path, "a") as file:
        data = file["entry/data"]
        del data.attrs["signal"], data.attrs["axes"]
        data["intensity"].attrs.update({"signal": 1, "axes": "two_theta"})
    assert only(path).intensity.tolist() == COUNTS.tolist()


def test_without_a_default_each_nxdata_is_a_scan(tmp_path: Path) -> None:
    path = write(tmp_path, default=False)
    with h5py.File(path, "a") as file:
        file.copy("entry/data", file["entry"], name="other")
    assert [scan.label for scan in read_scans(path) if isinstance(scan, Scan)] == ["/entry/data", "/entry/other"]


def test_what_is_no_nexus_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with h5py.File(path, "w") as file:
        file["numbers"] = COUNTS
    with pytest.raises(InputError, match="holds no NXdata with a signal over an axis"):
        list(read_scans(path))
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match="is no whole HDF5 file"):
        list(read_scans(path))
