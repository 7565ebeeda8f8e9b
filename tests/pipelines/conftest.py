"""What all tests here need."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def compiled_quickly(callers_by_name: None) -> None:
    """Most of them compile."""
