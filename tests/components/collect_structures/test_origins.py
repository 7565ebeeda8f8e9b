"""Where structures and patterns come from, as the tables say it: what is the same on every machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.collect_structures.packaged import PACKAGES
from components.collect_structures.stage import STAGE as COLLECT
from components.collect_structures.stage import structures_origin
from components.preprocess.stage import STAGE as PREPROCESS
from components.simulate.stage import STAGE as SIMULATE
from imitation_refinement import __version__
from imitation_refinement.data.contracts import read_sources
from imitation_refinement.files import digest


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", f"built-in (imitation-refinement {__version__})"),
        ("random", f"random (imitation-refinement {__version__})"),
        ("minerals", f"minerals (xraylarch {PACKAGES['minerals'].version})"),
        ("bgmn", f"bgmn (autoXRD {PACKAGES['bgmn'].version})"),
        (
            "materials-project-samples",
            f"materials-project-samples (matminer {PACKAGES['materials-project-samples'].version})",
        ),
        ("materials-project", "materials-project"),
    ],
)
def test_named_sources(source: str, expected: str) -> None:
    assert structures_origin(source) == expected


def test_a_file_is_known_by_its_name_and_content(toy_structures: Path) -> None:
    assert structures_origin(str(toy_structures)) == f"structures.parquet (SHA-256 {digest(toy_structures)[:16]})"


def test_the_tables_of_all_stages_say_it(tmp_path: Path) -> None:
    names = ("collected_structures", "collected_patterns", "ideal", "imperfect", "ideal_dataset", "imperfect_dataset")
    made = {name: tmp_path / f"{name}.parquet" for name in names}
    rejected = {"rejected": tmp_path / "rejected.csv"}
    collected = {name: made[name] for name in names[:2]}
    COLLECT.execute({**collected, **rejected}, {"n_structures": 42, "n_patterns": 28, "workers": 1})
    given = {"structures": made["collected_structures"], "patterns": made["collected_patterns"]}
    shards = {name: made[name] for name in ("ideal", "imperfect")}
    SIMULATE.execute({**given, **shards, **rejected}, {"grid": {"points": 512}})
    data = {name: made[name] for name in names[4:]} | {"manifest": tmp_path / "manifest.csv"}
    PREPROCESS.execute({**{name: [path] for name, path in shards.items()}, **data, **rejected}, {"folds": 3})
    built_in = f"built-in (imitation-refinement {__version__})"
    for name in names[::2]:
        assert read_sources(made[name]) == {"structures": built_in}
    for name in names[1::2]:
        assert read_sources(made[name]) == {"imperfect": f"specimens measured virtually, of {built_in}"}
