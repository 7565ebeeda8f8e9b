"""How fast a folder of pattern files is identified, and how much memory that takes.

    python benchmarks/identify_folder.py PATTERNS --model FOLDER [--number 1000] [--processes 2] [--pictures]

PATTERNS, a table or a folder, are first written out as so many ``.xy`` files, over again where they are fewer. The
answers' rate is printed by the clock and by the processors' time, which others on the machine do not change so much;
the latter is that of two cores with nothing else to do. XRD-AutoAnalyzer (Szymanski et al., npj Comput. Mater. 10, 31,
2024) takes about 10 s a pattern. Memory is the most that one process had, at half of the files and at the end.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from imitation_refinement.answer.batch import identify_files
from imitation_refinement.data.patterns import read_patterns, write_xy
from imitation_refinement.errors import InputError
from imitation_refinement.running.stage import exit_on_input_error

PUBLISHED = 10.0  # seconds a pattern, XRD-AutoAnalyzer


def written(source: Path, wavelength: str | None, number: int, folder: Path) -> list[Path]:
    """So many files of a source's patterns."""
    patterns, _ = read_patterns(source, None if wavelength is None else float(wavelength))
    if not patterns:
        raise InputError(source, "has no pattern that can be used.", "Check its wavelengths.")
    files = []
    for i, pattern in enumerate(islice(cycle(patterns), number)):
        files.append(folder / f"{i:05}.xy")
        write_xy(files[-1], pattern.two_theta, pattern.intensity, (f"wavelength {pattern.wavelength} Å",))
    return files


def used() -> tuple[float, float, float]:
    """Processors' seconds of this process and those that it started, and the most memory one of each had [MB]."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = sum(use.ru_utime + use.ru_stime for use in (own, others))
    return seconds, own.ru_maxrss / 1024, others.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--wavelength", metavar="Å")
    parser.add_argument("--pictures", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "patterns").mkdir()
        files = written(options.patterns, options.wavelength, options.number, folder / "patterns")
        given = {"model": options.model, "pictures": options.pictures, "processes": options.processes}
        before, started, rows = used()[0], time.monotonic(), []
        for label, part in (("first half", files[: len(files) // 2]), ("second half", files[len(files) // 2 :])):
            summary = identify_files([str(file) for file in part], folder / label, **given)
            seconds, own, others = used()
            now = time.monotonic()
            rows.append((label, summary.answered, now - started, seconds - before, own, others))
            before, started = seconds, now
    print(
        "|             | answered | seconds | files/s | processors' s a file | files/s of two cores | times 10 s | MB |"
    )
    for label, answered, wall, spent, own, others in rows:
        rate, each = answered / wall, spent / answered
        memory = f"{own:.0f}, {others:.0f}"
        print(
            f"| {label:11} | {answered:8} | {wall:7.1f} | {rate:7.2f} | {each:20.3f} | {2 / each:20.1f} | "
            f"{PUBLISHED * 2 / each:10.0f} | {memory} |"
        )


if __name__ == "__main__":
    with exit_on_input_error():
        main()
