import subprocess
import sys

SCRIPT = """
import gc
usual, frozen = gc.get_threshold(), gc.get_freeze_count()  # 0, but 375 in Python 3.12
import components
print(gc.get_threshold()[0] > usual[0], gc.get_freeze_count() - frozen)
from imitation_refinement.running import garbage
garbage.imported()
print(gc.get_threshold() == usual, gc.get_freeze_count() > 1000)
"""


def test_what_a_stage_imports_is_left_alone_and_what_it_makes_is_collected_as_usual() -> None:
    said = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", "0", "True", "True"]
