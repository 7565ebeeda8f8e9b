"""What compiling takes beneath pytest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from kfp.dsl import pipeline_task


def _stack() -> list[tuple[object, str, int, str]]:
    """As :func:`inspect.stack`, without looking for the source of each frame."""
    frames, frame = [], sys._getframe(1)
    while frame:
        frames.append((frame, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return frames


@pytest.fixture(autouse=True, scope="session")
def callers_by_name() -> Iterator[None]:
    """KFP asks who calls a task's method: a whole stack, for each frame of which all modules are looked through."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(pipeline_task, "inspect", SimpleNamespace(stack=_stack))
        yield
