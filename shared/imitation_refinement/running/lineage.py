"""What a run was given: data sets by where they came from at first, their schema, digest and content; models by digest.

Tables that the stages hand on know their sources (:data:`~imitation_refinement.files.SOURCES_KEY`); their own paths are
those of one run, and say nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from imitation_refinement.files import SOURCES_KEY, digest

MODEL_FILES = "*.safetensors"
COUNTED = {"split": "splits", "crystal_system": "classes", "method": "methods"}  # columns → what they are counted as


def is_model(path: Path) -> bool:
    """Whether it is a model: a file of safetensors, whatever its name, or a folder of them, as a run's ``models/``."""
    if path.is_dir():
        return bool(_models(path))
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        size, start = int.from_bytes(stream.read(8), "little"), stream.read(1)
    return start == b"{" and 0 < size < path.stat().st_size


def model_digest(path: Path) -> str:
    """SHA-256 of a model; of a folder's, their names' and their digests' in order."""
    if path.is_file():
        return digest(path)
    lines = [f"{file.relative_to(path).as_posix()}\0{digest(file)}\n" for file in _models(path)]
    return sha256("".join(lines).encode()).hexdigest()


def _models(folder: Path) -> list[Path]:
    return sorted([*folder.glob(MODEL_FILES), *(folder / "models").glob(MODEL_FILES)])


def data_set(name: str, path: Path) -> dict[str, Any]:
    """A data set as MLflow keeps one.

    Args:
        name: what it is to the stage.
        path: a Parquet table, a folder of its files, another file or folder; or a source's name.
    """
    if not path.exists():
        return {"name": name, "digest": str(path), "kind": "named", "source": str(path)}
    found = {"name": name, "digest": digest(path), "kind": "local", "source": str(path)}
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    tables = [file for file in files if _is_parquet(file)]
    return found | _content(tables) if tables else found


def _is_parquet(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def _content(files: list[Path]) -> dict[str, Any]:
    """Sources, schema and numbers of rows of a Parquet table."""
    import pyarrow.parquet as pq

    schema, rows = pq.read_schema(files[0]), 0
    counts: dict[str, Counter[str]] = {column: Counter() for column in COUNTED if column in schema.names}
    for file in files:
        rows += pq.read_metadata(file).num_rows
        table = pq.read_table(file, columns=list(counts))
        for column, counter in counts.items():
            for pair in table[column].value_counts().to_pylist():
                counter[str(pair["values"])] += pair["counts"]
    columns = [{"name": field.name, "type": str(field.type), "required": not field.nullable} for field in schema]
    profile = {
        "num_rows": rows,
        **{COUNTED[column]: dict(sorted(counter.items())) for column, counter in counts.items()},
    }
    found: dict[str, Any] = {"schema": json.dumps({"mlflow_colspec": columns}), "profile": json.dumps(profile)}
    if sources := json.loads((schema.metadata or {}).get(SOURCES_KEY, b"{}")):
        found |= {"kind": "named", "source": in_words(sources)}
    return found


def in_words(sources: Mapping[str, str]) -> str:
    """``structures: minerals (xraylarch 0.9.66)``; several in order."""
    return "; ".join(f"{name}: {source}" for name, source in sources.items())
