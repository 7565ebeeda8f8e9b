"""What all tests here need."""

from __future__ import annotations

import pytest

# What makes `release` small.
SMALL = [
    'stream.grid={axis = "log_q", points = 256}',
    'stream.network={architecture = "strided", depths = [1, 1], widths = [8, 8], embedding = 8, positions = 8}',
    "stream.samples=105",
    "stream.batch_size=21",
    "stream.validation=14",
    "stream.held_out=0.4",
    "stream.device=cpu",
    "random=14",
    "derived=14",
    "networks=2",
    "measurements=14",
    "derived_measurements=7",
    "refiner.network={widths = [8, 12], hidden = 8, positions = 8}",
    "refiner.samples=64",
    "refiner.batch_size=16",
    "refiner.validation=7",
    "refiner.device=cpu",
]


@pytest.fixture(autouse=True, scope="session")
def compiled_quickly(callers_by_name: None) -> None:
    """Most of them compile."""
