"""NeXus: HDF5, the signal of its default ``NXdata``, or of each where none is named, over its last axis.

A signal of two dimensions is a series, each row a scan. The axis needs its unit as a column of text does; σ is the
dataset of errors beside the signal. The wavelength is that of a beam, a monochromator or a tube of the same entry.
https://manual.nexusformat.org/classes/base_classes/NXdata.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.data.headers import Statement, axis_of, choose_wavelengths
from imitation_refinement.data.readers import AGAIN, length, library, scans, tube_lines
from imitation_refinement.data.scans import Axis, AxisKind, Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.xrd.radiation import from_unit

TWO_THETA = re.compile(r"polar_?angles?|two_?theta.*|2_?th(?:eta)?.*|tth", re.IGNORECASE)
WAVELENGTH = re.compile(r"(?:incident_|source_)?(?:wavelength|energy)", re.IGNORECASE)
TUBE = ("k_alpha_one", "k_alpha_two", "kbeta", "ratio_k_alphatwo_k_alphaone")
MOST_SCANS = 100_000


@dataclass(frozen=True)
class _Data:
    """One NXdata: its path, the signal (rows, n), σ as the signal or None, the axis (n,), what it is and remarks."""

    name: str
    signal: NDArray[np.float64]
    sigma: NDArray[np.float64] | None
    values: NDArray[np.float64]
    axis: Axis
    unit: str
    remarks: tuple[str, ...]
    lines: tuple[tuple[float, ...], float | None]
    anode: str


def read(path: Path) -> Iterator[Scan | InputError]:
    """The scans of a file: each row of each NXdata.

    Raises:
        InputError: if it is no whole HDF5 file, or holds no signal over an axis.
    """
    h5py = library("h5py", path)
    try:
        with h5py.File(path, "r") as file:
            found = [_data(group, h5py, path) for group in _groups(file, h5py)]
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(path, f"is no whole HDF5 file ({' '.join(str(error).split())[:160]}).", AGAIN) from None
    if not found:
        raise InputError(path, "holds no NXdata with a signal over an axis.", "Write one, with its axes named.")
    rows = [(data, row) for data in found for row in range(len(data.signal))]

    def one(index: int, where: str) -> Scan:
        data, row = rows[index]
        return Scan(
            path.stem,
            data.values,
            data.signal[row],
            data.axis,
            None if data.sigma is None else data.sigma[row],
            data.unit,
            data.lines[0],
            data.anode,
            remarks=data.remarks,
            where=where,
            label=data.name + (f", row {row + 1}" if len(data.signal) > 1 else ""),
            ratio=data.lines[1],
        )

    yield from scans(path, len(rows), one)


def _text(value: Any) -> str:
    """An attribute's text; empty where there is none."""
    if value is None:
        return ""
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _groups(file: Any, h5py: Any) -> list[Any]:
    """The default NXdata that a file names, else each one with a signal over an axis."""
    group = file
    while (name := _text(group.attrs.get("default"))) and name in group and isinstance(group[name], h5py.Group):
        group = group[name]
    if _plotted(group, h5py):
        return [group]
    found: list[Any] = []

    def visit(_: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and _text(item.attrs.get("NX_class")) == "NXdata" and _plotted(item, h5py):
            found.append(item)

    file.visititems(visit)
    return found


def _plotted(group: Any, h5py: Any) -> tuple[Any, Any] | None:
    """The signal of a group and its last axis, where it has both."""
    datasets = {name: item for name, item in group.items() if isinstance(item, h5py.Dataset)}
    old = next((name for name, item in datasets.items() if _text(item.attrs.get("signal")) == "1"), "")
    signal = datasets.get(_text(group.attrs.get("signal")) or old)
    if signal is None or signal.ndim not in (1, 2) or signal.size > MOST_SCANS * signal.shape[-1]:
        return None
    axes = group.attrs.get("axes", signal.attrs.get("axes"))
    names = [_text(name) for name in np.atleast_1d(axes)] if axes is not None else []
    if len(names) == 1:
        names = [name for name in re.split(r"[:,\[\]\s]+", names[0]) if name]  # as older files write several
    names += [name for name, item in datasets.items() if _text(item.attrs.get("axis")) == str(signal.ndim)]
    axis = datasets.get(names[signal.ndim - 1 if len(names) >= signal.ndim else -1]) if names else None
    if axis is None or axis.ndim != 1 or axis.shape[0] - signal.shape[-1] not in (0, 1):
        return None
    return signal, axis


def _data(group: Any, h5py: Any, path: Path) -> _Data:
    signal, axis = _plotted(group, h5py) or (None, None)
    assert signal is not None and axis is not None, "only groups with both are asked"
    values, remarks = np.asarray(axis[()], float), []
    if len(values) == signal.shape[-1] + 1:
        values = (values[1:] + values[:-1]) / 2
        remarks.append("its axis gives the edges of bins; their middles are taken")
    name = signal.name.rpartition("/")[2]
    errors = next(
        (
            group[other]
            for other in (_text(signal.attrs.get("uncertainties")), f"{name}_errors", "errors")
            if other and other in group and getattr(group[other], "shape", None) == signal.shape
        ),
        None,
    )
    entry = group
    while entry.name != "/" and _text(entry.attrs.get("NX_class")) not in ("NXentry", "NXsubentry"):
        entry = entry.parent
    lines, said, anode = _lines(entry, h5py, path)
    return _Data(
        group.name,
        np.atleast_2d(np.asarray(signal[()], float)),
        None if errors is None else np.atleast_2d(np.asarray(errors[()], float)),
        values,
        _axis(axis),
        _text(signal.attrs.get("units")),
        (*remarks, *said),
        lines,
        anode,
    )


def _axis(axis: Any) -> Axis:
    name, unit = axis.name.rpartition("/")[2], _text(axis.attrs.get("units", axis.attrs.get("unit")))
    if TWO_THETA.fullmatch(name):
        name = "2theta"
    shown = f"{name} ({unit})" if unit else name
    return axis_of(shown) or axis_of(_text(axis.attrs.get("long_name"))) or Axis(AxisKind.OTHER, 1.0, shown)


def _lines(entry: Any, h5py: Any, path: Path) -> tuple[tuple[tuple[float, ...], float | None], tuple[str, ...], str]:
    """Wavelengths and ratio of an entry, what is to be said of them, and the anode."""
    tube: dict[str, float] = {}
    statements: list[Statement] = []
    remarks: list[str] = []
    anode = ""

    def visit(name: str, item: Any) -> None:
        nonlocal anode
        if not isinstance(item, h5py.Dataset):
            return
        last, unit = name.rpartition("/")[2].lower(), _text(item.attrs.get("units", item.attrs.get("unit")))
        if last in ("xray_tube_material", "target_material"):
            anode = _text(np.asarray(item[()]).flat[0]).capitalize()
            return
        if not (last in TUBE or WAVELENGTH.fullmatch(last)) or item.dtype.kind not in "fiu" or not item.size:
            return
        number = float(np.asarray(item[()]).flat[0])
        if last == TUBE[3]:
            tube[last] = number
        elif last in TUBE:
            tube[last] = length(str(number), unit, path) or 0.0
        elif not unit:
            remarks.append(f"the file says {last} {number:g} without a unit; it is not taken")
        elif value := from_unit(number, unit):
            statements.append(Statement(value, "energy" if "energy" in last else ""))

    entry.visititems(visit)
    if TUBE[0] in tube:
        return tube_lines(tube[TUBE[0]], tube.get(TUBE[1]), None, tube.get(TUBE[2]), tube.get(TUBE[3])), (), anode
    wavelengths, chosen = choose_wavelengths(statements)
    return (wavelengths, None), (*remarks, *chosen), anode


FORMAT = Format("NeXus", (".nxs", ".nx5", ".h5", ".hdf5"), lambda head: head.startswith(b"\x89HDF"), read)
