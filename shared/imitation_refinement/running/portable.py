"""Numbers that every x86-64 processor repeats: what the numerical libraries are told, by environment, before they load.

Each of them picks its code by the processor it finds, and other instructions add in another order, or round once where
others round twice. Here they all take what every processor of x86-64-v2 (2009 on) has, in one thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

PORTABLE_VARIABLE = "IMITATION_REFINEMENT_PORTABLE"
PORTABLE: Mapping[str, str] = {
    PORTABLE_VARIABLE: "1",
    # PyTorch's own loops; its convolutions; its matrix products, on processors of every vendor.
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    # NumPy's loops; matrix products and linear algebra of NumPy and SciPy; Arrow's sums.
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Nehalem",
    "ARROW_USER_SIMD_LEVEL": "NONE",
    # The simulation's kernels.
    "NUMBA_CPU_NAME": "x86-64-v2",
    "NUMBA_CPU_FEATURES": "+sse4.2",
    # exp, log, sin … of the C library, which all of them call.
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4",
    # Sums are split by threads.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # None of this holds on a GPU.
    "CUDA_VISIBLE_DEVICES": "-1",
}


def is_portable() -> bool:
    """Whether this process is to give such numbers: for the few operations that no library can be told of."""
    return os.environ.get(PORTABLE_VARIABLE) == PORTABLE[PORTABLE_VARIABLE]
