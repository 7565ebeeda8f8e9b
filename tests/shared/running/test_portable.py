"""Every numerical library does as it is told, whatever the processor."""

from __future__ import annotations

import os
import subprocess
import sys

from imitation_refinement.running.portable import PORTABLE

LOOK = """
import numpy, pyarrow, torch
from numba.core.registry import cpu_target
from threadpoolctl import threadpool_info
torch.nn.Conv1d(2, 3, 5)(torch.ones(20, 2, 50)), torch.ones(30, 30) @ torch.ones(30, 30)
print("ATen", torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
print("OpenBLAS", {(p["architecture"], p["num_threads"]) for p in threadpool_info() if p["internal_api"] == "openblas"})
features = numpy._core._multiarray_umath.__cpu_features__
print("NumPy", [name for name in ("X86_V2", "X86_V3", "X86_V4") if features[name]])
print("numba", cpu_target.target_context.codegen().magic_tuple()[1:])
print("Arrow", pyarrow.runtime_info().simd_level)
"""


def test_the_libraries_obey() -> None:
    environment = {**os.environ, **PORTABLE, "ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"}
    said = subprocess.run(
        [sys.executable, "-c", LOOK], env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert "ATen DEFAULT 1\n" in said
    assert "OpenBLAS {('Nehalem', 1)}\n" in said
    assert "NumPy ['X86_V2']\n" in said
    assert "numba ('x86-64-v2', '+sse4.2')\n" in said
    assert "Arrow none\n" in said
    assert "info,cpu,isa:Intel SSE4.1\n" in said  # oneDNN
    assert "SGEMM" in said and "CNR:COMPATIBLE" in said  # MKL
