from pathlib import Path

import pytest

from imitation_refinement.data.formats import read_scans
from imitation_refinement.errors import InputError


def test_stoe_s_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"RAW_1.06Powdat\0\0" + bytes(2000))
    with pytest.raises(InputError, match="is Stoe RAW, of which no description is public"):
        list(read_scans(tmp_path / "a.raw"))
