"""Baselines: what else could be done with an imperfect pattern.

Each baseline is a module of this folder and an output of this stage, in the form of the imperfect dataset with other
intensities; ``evaluate`` gives it a row. DWT needs no training. ADDA and GTA get their place here.
"""

from __future__ import annotations

from typing import Any

import pywt

from components.baselines.config import DwtConfig
from components.baselines.dwt import dwt_denoise
from imitation_refinement.errors import InputError
from imitation_refinement.progress import say
from imitation_refinement.stage import Stage
from imitation_refinement.tables import gridded_schema, read_gridded, write_table
from imitation_refinement.tracking import Tracker


def run(paths: dict[str, Any], config: DwtConfig, tracker: Tracker) -> None:
    """Runs the stage; see :data:`STAGE` for the files."""
    if config.wavelet not in pywt.wavelist(kind="discrete"):
        raise InputError("wavelet", f"{config.wavelet!r} is no discrete wavelet.", "Use a name of PyWavelets, as sym8.")
    rows, grid, patterns = read_gridded(paths["imperfect_dataset"], "imperfect")
    denoised = dwt_denoise(patterns["intensity"], rows["scale"].to_numpy(), config)
    columns = {str(name): rows[name].to_numpy(object) for name in rows} | {"intensity": denoised}
    write_table(paths["dwt"], columns, gridded_schema(grid))
    tracker.log_metrics({"patterns": len(rows)})
    say(f"dwt: {len(rows)} patterns denoised with {config.wavelet}, level {config.level}, {config.rule}")


STAGE = Stage(
    name="baselines",
    summary="Denoises imperfect patterns by soft-thresholded wavelets (DWT).",
    inputs={"imperfect_dataset": "gridded imperfect patterns with their splits (Parquet)"},
    outputs={"dwt": "the same patterns, denoised; without their theory (Parquet)"},
    config=DwtConfig,
    run=run,
)
