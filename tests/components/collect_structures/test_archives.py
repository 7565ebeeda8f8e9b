import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from components.collect_structures import archives
from components.collect_structures.structures import read_structures
from imitation_refinement.errors import InputError

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
CIF = str(CifWriter(SALT, symprec=0.01)).encode()


def pack_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pack_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("link.cif")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


@pytest.mark.parametrize(("pack", "name", "links"), [(pack_zip, "a.zip", 0), (pack_tar, "a.tar.gz", 1)])
def test_members_are_read_and_tricks_refused(tmp_path: Path, pack, name: str, links: int) -> None:
    members = {"x/salt.cif": CIF, "../out.cif": CIF, "/abs.cif": CIF, "bad.cif": b"bad", "readme.txt": b""}
    rejected: list[InputError] = []
    found = read_structures(pack(tmp_path / name, members), rejected)
    assert [m.material_id for m in found] == ["x/salt"]
    reasons = sorted(e.problem.split("(")[0] for e in rejected)
    assert reasons.count("its name leads out of the archive.") == 2
    assert reasons.count("is a link, not a file.") == links
    assert len(reasons) == 3 + links
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("pack", "name"), [(pack_zip, "a.zip"), (pack_tar, "a.tar.gz")])
def test_hidden_members_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str], pack, name: str) -> None:
    members = {"x/salt.cif": CIF, "__MACOSX/x/._salt.cif": b"\0", "x/.salt.cif": CIF, "x/salt.cif~": CIF}
    rejected: list[InputError] = []
    assert [m.material_id for m in read_structures(pack(tmp_path / name, members), rejected)] == ["x/salt"]
    assert not [error for error in rejected if "link" not in error.problem]
    assert f"{tmp_path / name}: 3 hidden files and copies" in capsys.readouterr().err


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack_zip(tmp_path / "bomb.zip", {"salt.cif": CIF, "bomb.cif": b"#" * 2**21})
    assert path.stat().st_size < 2**13
    monkeypatch.setattr(archives, "LARGEST_CIF", 2**20)
    rejected: list[InputError] = []
    assert len(read_structures(path, rejected)) == 1
    assert "unpacks to more than 1 MiB" in str(rejected[0])
    monkeypatch.setattr(archives, "LARGEST_TOTAL", 100)
    with pytest.raises(InputError, match="unpacks to more than 0 GiB"):
        read_structures(path, rejected)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 1)
    with pytest.raises(InputError, match="more than"):
        read_structures(path, rejected)


def test_what_is_no_archive(tmp_path: Path) -> None:
    for name in ("x.zip", "x.tar.gz", "x.tar"):
        (tmp_path / name).write_bytes(b"nothing of the kind" * 100)
        with pytest.raises(InputError, match="no readable archive"):
            read_structures(tmp_path / name, [])
    with pytest.raises(InputError, match="archive without CIFs"):
        read_structures(pack_zip(tmp_path / "empty.zip", {"a.txt": b""}), [])
    whole = pack_zip(tmp_path / "whole.zip", {"a.cif": CIF, "b.cif": CIF})
    data = bytearray(whole.read_bytes())
    data[60:90] = bytes(30)  # inside of the first member
    whole.write_bytes(data)
    rejected: list[InputError] = []
    assert [m.material_id for m in read_structures(whole, rejected)] == ["b"]
    assert "is damaged" in str(rejected[0])
