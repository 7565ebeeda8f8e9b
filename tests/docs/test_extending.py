"""The code of docs/extending.md, applied to a copy of the source and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n# (?P<file>[\w/]+\.py)(?:, before: (?P<line>[^\n]+))?\n(?P<code>.*?)```", re.DOTALL)

DISTANCE = """
import numpy as np
from components.evaluate.report import distance_table, format_table
from imitation_refinement.results.metrics import distances
from imitation_refinement.vocabulary import Distance

theory = np.array([[0.0, 2.0, 1.0, 1.0]])
pattern = np.array([[1.0, 4.0, 2.0, 0.0]])
assert distances(pattern, theory)[Distance.RP] == (0.25 + 0.5) / 2
row = {"name": "vgg-raw", "method": "raw", "classifier": "vgg", "accuracy": None, "rp": 0.4, "l1": 3.0}
assert "Rp" in format_table([row]).splitlines()[0] and "0.400" in format_table([row])
table = distance_table([row, row | {"name": "vgg-targeted", "method": "ir", "supervision": "targeted", "rp": 0.3}])
assert [cells[table.columns.index("Rp")] for cells in table.rows] == ["0.400", "0.300\\n−25 %"]
"""
BASELINE = """
import sys
import numpy as np
from components.baselines.stage import STAGE
from imitation_refinement.data.contracts import ANSWERS, read_table
from imitation_refinement.vocabulary import Method

ideal, imperfect, library, out = sys.argv[1:]
paths = {"ideal_dataset": ideal, "imperfect_dataset": imperfect, "library": [library]}
STAGE.execute(paths | {name: f"{out}/{name}" for name in STAGE.outputs}, {"dwt": {"levels": [2], "wavelets": ["haar"]}})
answers = read_table(f"{out}/answers", ANSWERS).to_pandas()
own, nearest = (answers[answers["method"] == m]["crystal_system"] for m in (Method.CLASS_MEAN, Method.NEAREST))
assert len(own) == len(nearest) and (own.to_numpy() == nearest.to_numpy()).mean() > 0.9  # toy classes are apart
"""
NETWORK = """
import sys
import torch
from imitation_refinement.learning.config import RefineConfig
from imitation_refinement.dilated import Dilated
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.learning.models import load_refiner, save_model

network = RefineConfig.model_validate({"network": {"architecture": "dilated", "width": 4, "depth": 3}}).network
model = network.build()
x = torch.rand(2, 64)
assert torch.allclose(model(x), x)
torch.nn.init.normal_(model.output.weight)
path = f"{sys.argv[-1]}/refiner.safetensors"
save_model(path, model, Grid(points=64), {})
found, _, _ = load_refiner(path)
assert isinstance(found, Dilated) and found.config == network
assert torch.equal(found(x), model(x)) and not torch.allclose(found(x), x)
"""
FORMAT = """
import sys
from pathlib import Path
import numpy as np
from imitation_refinement.errors import InputError
from imitation_refinement.data.formats import EXTENSIONS, format_of, read_scans

assert ".cpi" in EXTENSIONS
lines = ["SIETRONICS XRD SCAN", "5.00", "5.08", "0.02", "Cu", "1.54060", "1-4-91", "0.10", "quartz", "SCANDATA"]
lines += ["300", "283", "291", "1000", "7"]
path = Path(sys.argv[-1]) / "quartz.cpi"
path.write_text("\\n".join(lines))
(scan,) = read_scans(path)
assert format_of(path).name == "Sietronics CPI" and scan.name == "quartz" and scan.anode == "Cu"
assert np.allclose(scan.values, [5.0, 5.02, 5.04, 5.06, 5.08]) and scan.wavelengths == (1.5406,)
assert scan.intensity.tolist() == [300, 283, 291, 1000, 7]
for rest, message in ((lines[:-1], "4 counts for 5 angles"), (lines[:3], "is no whole CPI file")):
    path.write_text("\\n".join(rest))
    try:
        list(read_scans(path))
    except InputError as error:
        assert message in str(error)
    else:
        raise AssertionError("half a file was read")
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, and of what is compiled of it, with every block of the page in its place."""
    copy = tmp_path_factory.mktemp("extended")
    for part in ("components", "shared"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("*.pyc.*", "*.tmp.*"))  # being written
    blocks = list(BLOCK.finditer((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")))
    assert len(blocks) == 11
    for file, line, code in (block.groups() for block in blocks):
        path = copy / file
        if line is None:
            assert not path.exists()
            path.write_text(code, encoding="utf-8")
            continue
        text = path.read_text(encoding="utf-8")
        (place,) = (match.start() for match in re.finditer(rf"^ *{re.escape(line.strip())}", text, re.MULTILINE))
        path.write_text(text[:place] + code + text[place:], encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    "script", [DISTANCE, BASELINE, NETWORK, FORMAT], ids=["distance", "baseline", "network", "format"]
)
def test_the_page_s_code_works(extended: Path, toy_tables: dict[str, Path], tmp_path: Path, script: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(extended / "shared"), str(extended)))}
    tables = (*(toy_tables[name] for name in ("ideal_dataset", "imperfect_dataset", "library")), tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, tables)], cwd=extended, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
