"""Which artefacts of the pipeline depend on the processor, stage by stage, to the bit.

    python benchmarks/portable.py                              every library capped in turn, and all together (portable)
    python benchmarks/portable.py --only portable --cpus Nehalem Haswell       the same bits on emulated processors

Each row is one capping: the environment variables of ``CAPPINGS``, or an emulated processor (``qemu-x86_64 -cpu``, of
Debian's qemu-user; some fifty times slower). Every stage of a row reads what the first row's stages made, so that a
difference is the stage's own; where a whole row is equal, so is the pipeline. The data are few, the networks those of
the profile.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from imitation_refinement.running.portable import PORTABLE

Run = Callable[[Path, Path], None]


def _of(*names: str) -> dict[str, str]:
    return {name: PORTABLE[name] for name in names}


CAPPINGS: dict[str, dict[str, str]] = {
    "as it is": {},
    "again": {},
    "ATen: AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "ATen: none": _of("ATEN_CPU_CAPABILITY"),
    "oneDNN: AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "oneDNN: SSE4.1": _of("ONEDNN_MAX_CPU_ISA"),
    "MKL": _of("MKL_CBWR"),
    "NumPy": _of("NPY_DISABLE_CPU_FEATURES"),
    "OpenBLAS": _of("OPENBLAS_CORETYPE"),
    "numba: AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2"},
    "numba": _of("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"),
    "C library": _of("GLIBC_TUNABLES"),
    "two threads": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "portable": dict(PORTABLE),
}
ONE_THREAD = _of("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def stages(structures: int, patterns: int, points: int, epochs: int) -> Iterator[tuple[str, Run]]:
    """Name and run of every stage, in the order data flow; a run is given the folder it reads and the one it fills."""
    from components.adapt_classifier.stage import STAGE as adapt
    from components.baselines.stage import STAGE as baselines
    from components.collect_structures.stage import STAGE as collect
    from components.preprocess.stage import STAGE as preprocess
    from components.pretrain_classifier.stage import STAGE as pretrain
    from components.simulate.stage import STAGE as simulate
    from components.train_refiner.stage import STAGE as refine
    from pipelines.profiles import read_profile

    sizes = [f"collect_structures.n_structures={structures}", f"collect_structures.n_patterns={patterns}"]
    sizes.append(f"simulate.grid.points={points}")
    profile = read_profile("default", sizes)

    def config(part: Any, steps: int = 0, **changes: Any) -> dict[str, Any]:
        found = part.model_dump()
        if steps:
            found["optimiser"] |= {"epochs": epochs if steps > 1 else 1, "least_steps": 0}
        return found | changes

    def stage(stage: Any, options: dict[str, Any], inputs: dict[str, str], outputs: dict[str, str]) -> Run:
        def run(given: Path, made: Path) -> None:
            paths = {name: given / file for name, file in inputs.items()}
            stage.execute(paths | {name: made / file for name, file in outputs.items()}, options)

        return run

    tables = {"ideal_dataset": "ideal_dataset.parquet", "imperfect_dataset": "imperfect_dataset.parquet"}
    yield (
        "collect structures",
        stage(
            collect,
            config(profile.collect_structures),
            {},
            {
                "collected_structures": "structures.parquet",
                "collected_patterns": "patterns.parquet",
                "rejected": "rejected.csv",
            },
        ),
    )
    yield (
        "simulate",
        stage(
            simulate,
            config(profile.simulate),
            {"structures": "structures.parquet", "patterns": "patterns.parquet"},
            {"ideal": "ideal.parquet", "imperfect": "imperfect.parquet"},
        ),
    )

    made_tables = {**tables, "manifest": "manifest.csv", "rejected": "left_out.csv"}

    def split(given: Path, made: Path) -> None:
        paths = {"ideal": [given / "ideal.parquet"], "imperfect": [given / "imperfect.parquet"]}
        preprocess.execute(paths | {k: made / v for k, v in made_tables.items()}, config(profile.preprocess))

    yield "preprocess", split
    for steps in (1, 2):
        for part in (profile.vgg, profile.densenet):
            name = part.network.architecture
            file = f"{name}-{steps}.safetensors"
            yield (
                f"{name}, {'one epoch' if steps == 1 else f'{epochs} epochs'}",
                stage(
                    pretrain,
                    config(part, steps),
                    {"ideal_dataset": tables["ideal_dataset"]},
                    {"classifier": file},
                ),
            )
    yield (
        "vgg, augmented",
        stage(
            pretrain,
            config(profile.vgg, 1, method="augmented"),
            {"ideal_dataset": tables["ideal_dataset"]},
            {"classifier": "augmented.safetensors"},
        ),
    )
    for part, classifier in ((profile.targeted, "vgg"), (profile.non_targeted, "densenet")):
        yield (
            f"refiner, {part.supervision}",
            stage(
                refine,
                config(part, 2),
                {"classifier": f"{classifier}-2.safetensors", "imperfect_dataset": tables["imperfect_dataset"]},
                {"refiner": f"{part.supervision}.safetensors"},
            ),
        )
    for part in (profile.finetuned, profile.adda, profile.gta):
        outputs = {"adapted": f"{part.method}.safetensors"}
        yield (
            part.method,
            stage(
                adapt,
                config(part, 1),
                {"classifier": "densenet-2.safetensors", **tables},
                outputs | ({"generator": "generator.safetensors"} if part.method == "gta" else {}),
            ),
        )
    yield (
        "baselines",
        stage(
            baselines,
            config(profile.baselines),
            dict(tables),
            {"dwt": "dwt.parquet", "answers": "answers.parquet", "search": "search.csv"},
        ),
    )
    yield "evaluate", _evaluate(profile.evaluate)


def _evaluate(config: Any) -> Run:
    from components.evaluate.stage import STAGE as evaluate

    def run(given: Path, made: Path) -> None:
        evaluate.execute(
            {
                "classifiers": [given / "vgg-2.safetensors", given / "densenet-2.safetensors"],
                "refiners": [given / "targeted.safetensors", given / "non_targeted.safetensors"],
                **{n: given / f"{n}.parquet" for n in ("ideal_dataset", "imperfect_dataset", "dwt", "answers")},
                "results": made / "results.json",
                "table": made / "results.txt",
                "report": made / "report.html",
                "figures": made / "figures",
                "predictions": made / "predictions.csv",
            },
            config.model_dump() | {"resamples": 500, "embedded": 50},
        )

    return run


def contents(folder: Path) -> str:
    """A digest of what a stage made: tensors, tables, numbers; no pictures."""
    from safetensors.numpy import load_file

    sha = hashlib.sha256()
    for path in sorted(folder.glob("*.*")):
        if path.suffix == ".safetensors":
            for name, values in sorted(load_file(path).items()):
                sha.update(name.encode() + values.tobytes())
        elif path.suffix != ".html":
            sha.update(path.read_bytes())
    return sha.hexdigest()[:12]


def work(first: Path, own: Path, arguments: argparse.Namespace) -> None:
    """One row: every stage, its digest and its processor time [s] on standard output."""
    for name, run in stages(arguments.structures, arguments.patterns, arguments.points, arguments.epochs):
        if arguments.stages and name not in arguments.stages:
            continue
        folder = own / name
        folder.mkdir(parents=True)
        start = time.process_time()
        run(first, folder)
        took = time.process_time() - start
        print(f"artefact\t{name}\t{contents(folder)}\t{took:.2f}", flush=True)
        if own == first:
            for path in folder.glob("*.*"):
                (first / path.name).symlink_to(path)


def row(first: Path, own: Path, environment: dict[str, str], cpu: str, passed: list[str]) -> dict[str, tuple[str, str]]:
    """Runs one row in a process of its own; digest and processor time [s] by stage."""
    kept = {name: value for name, value in os.environ.items() if name not in PORTABLE}
    emulator = ["qemu-x86_64", "-cpu", cpu] if cpu else []
    words = [*emulator, sys.executable, __file__, *passed, "--work", str(first), str(own)]
    ended = subprocess.run(
        words, env={**kept, **ONE_THREAD, **environment}, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        print(ended.stderr[-3000:], file=sys.stderr)
    lines = [line.split("\t") for line in ended.stdout.splitlines() if line.startswith("artefact\t")]
    return {name: (digest, took) for _, name, digest, took in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=210, help="ideal structures (default: 210)")
    parser.add_argument("--patterns", type=int, default=105, help="imperfect patterns (default: 105)")
    parser.add_argument("--points", type=int, default=2048, help="of a pattern (default: 2048)")
    parser.add_argument("--epochs", type=int, default=20, help="of the longer trainings (default: 20)")
    parser.add_argument("--only", nargs="+", default=list(CAPPINGS), choices=CAPPINGS, metavar="CAPPING", help="rows")
    parser.add_argument("--stages", nargs="+", metavar="STAGE", help="these stages alone; those they need among them")
    parser.add_argument("--cpus", nargs="+", default=[], metavar="MODEL", help="emulated processors, as Haswell")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what is made in a new folder")
    parser.add_argument("--work", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(*arguments.work, arguments)
        return
    passed = [f"--structures={arguments.structures}", f"--patterns={arguments.patterns}"]
    passed += [
        f"--points={arguments.points}",
        f"--epochs={arguments.epochs}",
        *(["--stages", *arguments.stages] if arguments.stages else []),
    ]
    rows = [(name, CAPPINGS[name], "") for name in arguments.only]
    rows += [(f"{name}, {cpu}", CAPPINGS[name], cpu) for cpu in arguments.cpus for name in arguments.only]
    with tempfile.TemporaryDirectory() as temporary:
        root, reference = arguments.keep or Path(temporary), {}
        for name, environment, cpu in rows:
            found = row(root / rows[0][0], root / name, environment, cpu, passed)
            reference = reference or found
            print(f"\n{name}: {sum(float(took) for _, took in found.values()):.0f} s", flush=True)
            for stage, (digest, took) in found.items():
                print(f"  {'same ' if digest == reference[stage][0] else 'OTHER'} {stage:<24}{took:>8} s  {digest}")


if __name__ == "__main__":
    main()
