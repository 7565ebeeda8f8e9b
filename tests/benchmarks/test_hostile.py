"""The short form of ``benchmarks.hostile``: some hundred files in this process, without its limits."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hostile import plan
from benchmarks.hostile_inputs import other_values
from benchmarks.hostile_readers import KINDS, OUTCOMES, Failure, check_said, make_specimens, one
from imitation_refinement.errors import InputError

# Kinds whose whole files take a training, a compiler or a command of its own to make are left to the long form.
LONG = ("run: ", "compiled", "tables between", "whole command", "very large", "ids into", "model")
SHORT = [kind for kind in KINDS if not kind.startswith(LONG) and "archive" not in kind]
EACH = 12


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "specimens").mkdir()
    make_specimens(folder / "specimens", whole=False)
    before = tempfile.tempdir
    os.environ["HOSTILE_SPECIMENS"] = str(folder / "specimens")
    yield folder
    del os.environ["HOSTILE_SPECIMENS"]
    tempfile.tempdir = before


@pytest.mark.parametrize("kind", SHORT)
def test_each_input_is_read_or_refused_in_one_sentence(kind: str, root: Path) -> None:
    outcomes = [one(kind, 18, number, str(root), None)[:2] for number in range(EACH)]
    assert [(number, *found) for number, found in enumerate(outcomes) if found[0] not in OUTCOMES] == []
    mended = kind == "journal"  # what is damaged in it is answered again
    assert mended or "refused" in {outcome for outcome, _ in outcomes}  # they are hostile


def test_other_values_put_nothing_into_itself() -> None:
    made = other_values(b'{"a": [1]}', np.random.default_rng(114))  # {"a": 1}, and in it another one
    assert json.loads(made) == {"a": {"a": {"a": 1}}}


def test_a_failure_is_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is no answer and no InputError with its remedy is counted as what it is."""

    def raising(error: BaseException) -> str:
        def check(*_: object) -> None:
            raise error

        monkeypatch.setitem(KINDS, "journal", (check, 1))
        return one("journal", 0, 0, str(root), None)[0]

    assert raising(KeyError("x")) == "traceback"
    assert raising(MemoryError()) == "memory"
    assert raising(InputError("a.xy", "is bad.")) == "no remedy"
    assert raising(InputError("a.xy", "is bad.", "Mend it.")) == "refused"
    assert raising(Failure("no number: x")) == "no number"
    with pytest.raises(Failure, match="traceback"):
        check_said(1, "Traceback (most recent call last)")
    with pytest.raises(Failure, match="status 1"):
        check_said(1, "error: x")
    with pytest.raises(Failure, match="no error line"):
        check_said(2, "oops")


def test_every_kind_has_its_share() -> None:
    asked = plan(3000, [])
    assert {kind for kind, _ in asked} == set(KINDS) and 2900 < len(asked) < 3100 and len(set(asked)) == len(asked)
