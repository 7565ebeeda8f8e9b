"""Banks: kept, cut, put together."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.xrd.bank import Bank


def same(one: Bank, other: Bank) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Bank))


def test_parts_are_the_whole(toy_bank: Bank) -> None:
    first = np.arange(len(toy_bank)) < 12
    assert same(Bank.join([toy_bank.select(first), toy_bank.select(~first)]), toy_bank)
    one = toy_bank.select([20])
    own = slice(toy_bank.line_offsets[20], toy_bank.line_offsets[21])
    assert np.array_equal(one.hkl, toy_bank.hkl[own]) and one.formula.tolist() == [toy_bank.formula[20]]


def test_files(toy_bank: Bank, tmp_path: Path) -> None:
    toy_bank.save(tmp_path / "bank.npz")
    assert same(Bank.load(tmp_path / "bank.npz"), toy_bank)
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    for name, reason in (("none.npz", "no such file"), ("text.npz", "no bank"), ("other.npz", "no bank")):
        with pytest.raises(InputError, match=reason):
            Bank.load(tmp_path / name)
