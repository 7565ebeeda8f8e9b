"""Imitation refinement of powder X-ray diffraction patterns (Bai et al., ICASSP 2019)."""

__version__ = "0.1.0"
