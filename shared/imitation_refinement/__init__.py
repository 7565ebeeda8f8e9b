"""Imitation refinement of powder X-ray diffraction patterns (Bai et al., ICASSP 2019)."""

import os

__version__ = "0.1.0"

# Before anything loads OpenMP: threads that spin while they wait make torch twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
