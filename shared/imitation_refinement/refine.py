"""Patterns that no training has seen, refined by a model or by a finished run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from imitation_refinement import __version__
from imitation_refinement.answer.identify import identify
from imitation_refinement.answer.journal import Entry, Journal
from imitation_refinement.answer.model import RECORD as MODEL
from imitation_refinement.answer.model import Model, folder_of
from imitation_refinement.answer.run_model import RECORD, Refined, RunModel, load_run, read_run_model, refine_pattern
from imitation_refinement.data.contracts import as_csv, write_table
from imitation_refinement.data.patterns import Pattern, read_all, report_rejected, say_remarks, write_xy
from imitation_refinement.errors import InputError
from imitation_refinement.files import digest, output_folder, sweep, unused_name, write_text
from imitation_refinement.progress import progress, say
from imitation_refinement.results.figures import pattern_figure, save_figure
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS, N_CLASSES

JOURNAL = "refined.journal"  # in the output until all is written: the same command goes on from it
CAVEAT = "A refined pattern is no counting data: give the measured one to Rietveld refinement."

REFINED = pa.schema(
    [
        pa.field("pattern_id", pa.string(), nullable=False),
        pa.field("two_theta", pa.list_(pa.float64())),  # [°], the input's own
        pa.field("intensity", pa.list_(pa.float64())),  # refined, on the input's scale
        pa.field("wavelength", pa.float64()),  # [Å]
        pa.field("crystal_system", pa.string()),
        pa.field("probabilities", pa.list_(pa.float64(), N_CLASSES)),  # in the order of `crystal_systems` below
    ],
    metadata={"crystal_systems": ",".join(CRYSTAL_SYSTEMS), "caveat": CAVEAT},
)


def refine_files(
    paths: Sequence[str],
    output: Path,
    wavelength: str | None = None,
    folder: str | Path | None = None,
    run: Path | None = None,
    name: str | None = None,
    keep_angles: bool = False,
    *,
    scan: str = "",
    axis: str | None = None,
) -> list[Refined]:
    """Refines pattern files and writes what came of them.

    In ``output``: ``refined.parquet`` (:data:`REFINED`), ``summary.csv`` (the two most probable crystal systems, all
    probabilities, and remarks on the reading), ``rejected.csv``, and for each pattern an ``.xy`` and a picture. A model
    answers to the measured pattern, as ``identify``; a run's classifier to the refined one. Where a command was cut,
    the same one goes on: what was refined is in ``refined.journal`` until all is written.

    Args:
        paths: files of :mod:`imitation_refinement.data.formats`, or folders of them.
        output: the folder.
        wavelength: [Å], or with its unit, or a line's name, for patterns that do not say theirs.
        folder: of a model, or of a run's (:func:`.run_model.write_run_model`); the one that comes with the software
            without it.
        run: a finished run, whose models are taken instead.
        name: the run's refiner; see :func:`load_run`.
        keep_angles: leave zero errors as they are; for a run's refiner see :func:`load_run`.
        scan: which of a file's several scans: its number, several as ``1,3``, or ``all``.
        axis: of patterns that do not say theirs, as ``q (1/nm)``.

    Raises:
        InputError: if the folder, the model, the run or a path can't be used, or no pattern is left.
    """
    output_folder(output)
    if run:
        run_model = load_run(run, name, keep_angles)
        (refine, called), made = _with_run(run_model), run / "models" / f"{run_model.name}.safetensors"
    elif folder and (Path(folder) / RECORD).is_file():
        run_model = read_run_model(Path(folder))
        own = run_model.keeping_angles() if keep_angles else run_model
        (refine, called), made = _with_run(own), Path(folder) / RECORD
    else:
        (refine, called), made = _with_model(Model.read(folder), keep_angles), folder_of(folder) / MODEL
    asked = {"version": __version__, "model": digest(made), "keep_angles": keep_angles}
    with Journal(output / JOURNAL, asked) as journal:
        sweep(output)
        patterns, rejected = read_all(paths, wavelength, scan=scan, axis=axis)
        say_remarks(patterns)
        keys = [_key(pattern) for pattern in patterns]
        if kept := sum(key in journal for key in keys):
            say(f"{output}: {kept} of these patterns were refined before, and are kept")
        refined: list[Refined] = []
        for number, pattern in enumerate(progress(patterns, f"refine with {called}", unit="patterns")):
            found = _refined(pattern, keys[number], refine, journal)
            if isinstance(found, InputError):
                rejected.append(found)
            else:
                refined.append(found)
        if not refined:
            (output / JOURNAL).unlink()
        report_rejected(output, paths, rejected, bool(refined))
        _write(refined, called, output)
        (output / JOURNAL).unlink()
    say(f"{len(refined)} refined patterns in {output}, {len(rejected)} left out. {CAVEAT}")
    return refined


def _key(pattern: Pattern) -> str:
    """SHA-256 of all that a pattern is, so of all that the refined one comes of but for the model; hexadecimal."""
    sha = hashlib.sha256()
    for name, value in vars(pattern).items():
        sha.update(f"{name}\0".encode())
        sha.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return sha.hexdigest()


def _refined(
    pattern: Pattern, key: str, refine: Callable[[Pattern], Refined], journal: Journal
) -> Refined | InputError:
    """What comes of a pattern, from the journal where that has it."""
    if key not in journal:
        try:
            made = refine(pattern)
        except InputError as error:
            journal.add(Entry(key, [], [(error.where, error.problem, error.remedy)]))
        else:
            said = {"moved": made.moved, "probabilities": _text(made.probabilities), "intensity": _text(made.intensity)}
            journal.add(Entry(key, [said], []))
    (entry,) = journal.entries([key])
    if entry.rejected:
        return InputError(*entry.rejected[0])
    (kept,) = entry.found
    return Refined(pattern, _array(kept["intensity"]), _array(kept["probabilities"]), kept["moved"])


def _text(array: NDArray[np.floating]) -> list[str]:
    """An array to the bit, as JSON: its type, and its bytes in base 64."""
    return [array.dtype.str, base64.b64encode(array.tobytes()).decode()]


def _array(text: Sequence[str]) -> NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text[1]), text[0]).copy()


def _with_run(model: RunModel) -> tuple[Callable[[Pattern], Refined], str]:
    """What refines, and its name."""
    if model.refiner is None:
        raise InputError(model.name, "has no refiner.", "Give a model with one.")
    if model.zero_error:
        say(
            f"moved by {-model.zero_error:+.3f}° in 2θ, the zero error of the instrument of {model.name}'s training "
            "patterns; with --keep-angles, for another instrument, peaks stay where they were measured"
        )
    return partial(refine_pattern, model), model.name


def _with_model(model: Model, keep_angles: bool) -> tuple[Callable[[Pattern], Refined], str]:
    """What refines, and its name."""
    if model.refiner is None:
        raise InputError("model", "has no refiner.", "Make one with `imitation-refinement release`, or give --run.")

    def refine(pattern: Pattern) -> Refined:
        told = identify(model, pattern)
        found = model.refine(pattern, 0.0 if keep_angles else told.zero_error)
        return Refined(pattern, found.intensity, told.probabilities, found.moved)

    return refine, "the model"


def _write(refined: list[Refined], called: str, output: Path) -> None:
    table = {
        "pattern_id": [r.pattern.pattern_id for r in refined],
        "two_theta": [r.pattern.two_theta for r in refined],
        "intensity": [r.intensity for r in refined],
        "wavelength": [r.pattern.wavelength for r in refined],
        "crystal_system": [r.crystal_system for r in refined],
        "probabilities": np.stack([r.probabilities for r in refined]),
    }
    write_table(output / "refined.parquet", table, REFINED)
    write_text(output / "summary.csv", as_csv(_summary(refined)))
    taken: set[str] = set()
    for r in progress(refined, "write", unit="patterns"):
        stem = unused_name(r.pattern.pattern_id, taken)
        moved = f"moved by {r.moved:+.3f}° in 2θ" if r.moved else "peaks where they were measured"
        refined_by = f"{r.pattern.pattern_id}, refined by {called}, {moved}"
        header = (refined_by, CAVEAT, f"wavelength {r.pattern.wavelength} Å")
        write_xy(output / f"{stem}.xy", r.pattern.two_theta, r.intensity, header)
        title = f"{r.pattern.pattern_id}: {r.crystal_system}, {r.probabilities.max():.0%}"
        figure = pattern_figure(
            r.pattern.two_theta, r.pattern.intensity, r.intensity, title=title, wavelength=r.pattern.wavelength
        )
        save_figure(figure, output / f"{stem}.png")


def _summary(refined: list[Refined]) -> pd.DataFrame:
    rows = []
    for r in refined:
        first, second = np.argsort(-r.probabilities)[:2]
        rows.append(
            {
                "pattern_id": r.pattern.pattern_id,
                "crystal_system": str(CRYSTAL_SYSTEMS[first]),
                "probability": r.probabilities[first],
                "second": str(CRYSTAL_SYSTEMS[second]),
                "second_probability": r.probabilities[second],
                **dict(zip(map(str, CRYSTAL_SYSTEMS), r.probabilities, strict=True)),
                "remark": "; ".join(r.pattern.remarks),
            }
        )
    return pd.DataFrame(rows).round(4)
