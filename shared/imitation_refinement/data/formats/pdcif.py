"""Powder CIF: each data block with a measured intensity a scan, on 2θ, q or d.

Angles are a column, or lie evenly between a smallest and a largest one; corrected ones come before measured ones, and
it is said. gemmi reads the columns; where rietx and geddes read the block too, they must agree. σ is the intensity's
``_su`` or ``_esd``, or its digits in brackets, or 1/√weight. Toby, International Tables G, chapter 3.3 (2006).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.data.readers import (
    AGAIN,
    Points,
    by_geddes,
    by_rietx,
    compare,
    joined,
    library,
    number,
    scans,
    written,
)
from imitation_refinement.data.scans import Axis, AxisKind, Format, Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import decode, read_bytes

INTENSITIES = (
    "_pd_proc_intensity_total",
    "_pd_meas_intensity_total",
    "_pd_meas_counts_total",
    "_pd_proc_intensity_net",
)
TOF = "time of flight (µs)"
COLUMNS: tuple[tuple[str, Axis], ...] = (
    ("_pd_proc_2theta_corrected", Axis(name="2θ")),
    ("_pd_meas_2theta_scan", Axis(name="2θ")),
    ("_pd_meas_2theta_corrected", Axis(name="2θ")),
)
OTHER_COLUMNS: tuple[tuple[str, Axis], ...] = (
    ("_pd_proc_recip_len_Q", Axis(AxisKind.Q, 1.0, "q (1/Å)")),
    ("_pd_proc_d_spacing", Axis(AxisKind.D, 1.0, "d (Å)")),
    ("_pd_meas_time_of_flight", Axis(AxisKind.OTHER, 1.0, TOF)),
    ("_pd_proc_energy_detection", Axis(AxisKind.OTHER, 1.0, "energy")),
)
RANGES = ("_pd_proc_2theta_range", "_pd_meas_2theta_range")
EVENLY = 0.01  # steps; a rounded increment leaves more over, but for one in fifty
MARK = re.compile(rb"^[ \t]*(?:loop_[ \t]+)?_pd_(?:meas|proc)_(?:intensity|counts)_", re.MULTILINE | re.IGNORECASE)


def read(path: Path) -> Iterator[Scan | InputError]:
    """The blocks with a pattern of a file, in its order.

    Raises:
        InputError: if it is no CIF, or no block of it has a measured intensity.
    """
    text = decode(path)
    try:
        document = _cif().read_string(text, check_level=0)
    except (ValueError, RuntimeError) as error:
        raise InputError(path, f"is no whole CIF ({str(error).splitlines()[0]}).", AGAIN) from None
    blocks = [block for block in document if _first(block, INTENSITIES)]
    if not blocks:
        raise InputError(
            path,
            "holds no powder pattern (_pd_meas_intensity_total or the like).",
            "A structure alone is no pattern; give the measured one.",
        )
    common = [block for block in document if block not in blocks]

    def one(index: int, where: str) -> Scan:
        return _scan(blocks[index], common, path, where)

    yield from scans(path, len(blocks), one)


def _scan(block: Any, common: Sequence[Any], path: Path, where: str) -> Scan:
    tag = _first(block, INTENSITIES)
    intensity, brackets = _numbers(block, tag)
    values, axis, tags, remarks = _axis(block, len(intensity), where)
    if axis.kind is AxisKind.TWO_THETA:
        _cross_check(block, (values, intensity), (*tags, tag), where)
    sigma = next((found for s in ("_su", "_esd") if len(found := _numbers(block, tag + s)[0])), brackets)
    weight, _ = _numbers(block, "_pd_proc_ls_weight")
    if sigma is None and len(weight) == len(intensity) and (weight > 0).all():
        sigma = 1 / np.sqrt(weight)
    if sigma is not None and len(sigma) != len(intensity):
        raise InputError(where, f"has {len(intensity)} intensities but {len(sigma)} σ.", AGAIN)
    if _value(block, common, "_diffrn_radiation_probe").lower().startswith("neutron"):
        remarks = (*remarks, "it was measured with neutrons: its intensities are not those of X-rays")
    wavelengths, ratio = _lines(block, common)
    if axis.kind is AxisKind.TWO_THETA and len(values) > 1 and (np.diff(values) < 0).all():
        values, intensity = values[::-1], intensity[::-1]
        sigma = None if sigma is None else sigma[::-1]
        remarks = (*remarks, "its angles fall; it was turned round")
    return Scan(
        path.stem,
        values,
        intensity,
        axis,
        sigma,
        "counts" if tag.endswith("counts_total") else "",
        wavelengths,
        _value(block, common, "_diffrn_source_target").capitalize(),
        remarks=remarks,
        where=where,
        label=block.name,
        ratio=ratio,
    )


def _cif() -> Any:
    return library("gemmi", "powder CIF").cif


def _first(block: Any, tags: Sequence[str]) -> str:
    return next((tag for tag in tags if len(block.find_values(tag)) > 1), "")


def _numbers(block: Any, tag: str) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """A column, NaN where it holds no number, and its standard deviations where every value has one in brackets."""
    fields = list(block.find_values(tag))
    values = np.array([_cif().as_number(field) for field in fields], float)
    found = [re.fullmatch(r"[+-]?\d*(?:\.(\d*))?\((\d+)\)(?:[eE]([+-]?\d{1,4}))?", field) for field in fields]
    if not fields or not all(found):
        return values, None
    return values, np.array([float(f"{m[2]}e{int(m[3] or 0) - len(m[1] or '')}") for m in found if m])


def _axis(block: Any, points: int, where: str) -> tuple[NDArray[np.float64], Axis, tuple[str, ...], tuple[str, ...]]:
    """The values of a block's axis, what it is, the tags they are from, and which of several was taken."""
    found = [(tag, axis) for tag, axis in COLUMNS if len(block.find_values(tag)) == points]
    ranges = [name for name in RANGES if block.find_value(f"{name}_min") and block.find_value(f"{name}_max")]
    if found:
        tag, axis = found[0]
        others = [other for other, _ in found[1:]]
        remarks = (f"its axis is {tag}, not {', '.join(others)}",) if others else ()
        return _numbers(block, tag)[0], axis, (tag,), remarks
    if ranges:
        return _between(block, ranges, points, where)
    for tag, axis in OTHER_COLUMNS:
        if len(block.find_values(tag)) == points:
            return _numbers(block, tag)[0], axis, (tag,), ()
    raise InputError(
        where, f"has {points} intensities, but no 2θ, q or d for them.", "Give angles, or their smallest and largest."
    )


def _between(
    block: Any, ranges: Sequence[str], points: int, where: str
) -> tuple[NDArray[np.float64], Axis, tuple[str, ...], tuple[str, ...]]:
    """Angles from the smallest to the largest; the step, which may be rounded, must fit the number of points.

    Raises:
        InputError: if it does not.
    """
    as_number = _cif().as_number
    first, last = (as_number(block.find_value(f"{ranges[0]}_{end}")) for end in ("min", "max"))
    written_step = block.find_value(f"{ranges[0]}_inc") or ""
    step = as_number(written_step) if written_step else (last - first) / (points - 1)
    digits = len(re.sub(r"[eE(].*", "", written_step).partition(".")[2])
    steps = (last - first) / step if step else 0.0
    if abs(steps - round(steps)) < EVENLY:  # the increment is no rounded one
        fits = round(steps) == points - 1
    else:
        fits = abs((last - first) / (points - 1) - step) <= 10.0**-digits
    if not fits:
        said = f"{first:g} to {last:g}° by {step:g}°"
        raise InputError(where, f"has {points} intensities for angles from {said}.", AGAIN)
    remarks = []
    if len(ranges) > 1:
        other = as_number(block.find_value(f"{ranges[1]}_min"))
        remarks.append(f"its angles are the corrected ones, from {first:g}°; the measured ones begin at {other:g}°")
    tags = tuple(f"{ranges[0]}_{end}" for end in ("min", "max", "inc"))
    return np.linspace(first, last, points), Axis(name="2θ"), tags, tuple(remarks)


def _cross_check(block: Any, points: Points, tags: Sequence[str], where: str) -> None:
    """Compares angles and intensities with what rietx and geddes make of the same items, where they do.

    Raises:
        InputError: if one differs.
    """
    columns = [tag for tag in tags if len(block.find_values(tag)) > 1]
    lines = ["data_pattern"]
    lines += [f"{tag} {block.find_value(tag)}" for tag in tags if tag not in columns and block.find_value(tag)]
    lines += ["loop_", *columns]
    lines += [" ".join(row) for row in zip(*(block.find_values(tag) for tag in columns), strict=True)]
    if points[0][0] > points[0][-1]:
        points = (points[0][::-1], points[1][::-1])
    with written("pattern.cif", joined(lines)) as file:
        compare(points, by_geddes(file), where, "gemmi", "geddes")
        try:
            found = by_rietx(file, where, "pdcif")
        except InputError:
            return  # it reads columns of angles alone
        compare(points, (found.values, found.intensity), where, "gemmi", "rietx")


def _value(block: Any, common: Sequence[Any], tag: str) -> str:
    """A single value of a block, or of those that hold for the whole file; empty where there is none."""
    for one in (block, *common):
        found = one.find_value(tag)
        if found and found not in ("?", "."):
            return str(_cif().as_string(found)).strip()
    return ""


def _lines(block: Any, common: Sequence[Any]) -> tuple[tuple[float, ...], float | None]:
    """The wavelengths [Å] of a block, the strongest first, and the second's share of it where weights say it."""
    tag = "_diffrn_radiation_wavelength"
    holder = next((one for one in (block, *common) if len(one.find_values(tag))), None)
    if holder is None:
        return (), None
    values, weights = (
        [number(str(_cif().as_number(field))) for field in holder.find_values(name)] for name in (tag, f"{tag}_wt")
    )
    if len(weights) != len(values):
        weights = [None] * len(values)
    pairs = [(value, weight) for value, weight in zip(values, weights, strict=True) if value]
    if all(weight is not None for _, weight in pairs):
        pairs = sorted((pair for pair in pairs if pair[1]), key=lambda pair: -(pair[1] or 0.0))
    if not pairs:
        return (), None
    (first, of_first), *others = pairs
    doublet = [(value, weight) for value, weight in others if 1e-3 < value / first - 1 < 1e-2]
    if not doublet:
        return (first,), None
    second, of_second = doublet[0]
    return (first, second), of_second / of_first if of_first and of_second else None


def _holds_pattern(path: Path) -> bool:
    return MARK.search(read_bytes(path)) is not None


FORMAT = Format("powder CIF", (".cif",), lambda head: True, read, found=_holds_pattern)
