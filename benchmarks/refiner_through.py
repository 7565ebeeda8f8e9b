"""A model's refiner trained on through the model's first network: does it help, and what does the control do?

    python benchmarks/refiner_through.py labelled.parquet --model FOLDER --keep-out PATTERNS --output FOLDER

Measured patterns with crystal systems and formulas (those of PATTERNS' formulas are left out) teach three refiners:
targeted, non-targeted, and the control, whose labels are in random order. FOLDER still holds the bank that `release`
made. What came of them: benchmarks/refiner.py --also targeted=… --also non-targeted=… --also control=….
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np

from components.collect_structures.imperfect import read_imperfect
from imitation_refinement.answer.model import REFINER, Model
from imitation_refinement.errors import InputError
from imitation_refinement.files import output_folder
from imitation_refinement.learning.models import load_root_refiner, save_model
from imitation_refinement.learning.pair_training import PairConfig
from imitation_refinement.learning.stream import Stream, apart_from, formulas_of
from imitation_refinement.learning.stream_training import StreamConfig, split
from imitation_refinement.learning.through_classifier import ThroughConfig, train_through
from imitation_refinement.running.stage import exit_on_input_error
from imitation_refinement.vocabulary import Supervision
from imitation_refinement.xrd.bank import Bank
from imitation_refinement.xrd.crystal import CLASS_INDEX
from imitation_refinement.xrd.refinable import measured_channels
from pipelines.release import BANK

VARIANTS = {
    "targeted": ThroughConfig(),
    "non-targeted": ThroughConfig(supervision=Supervision.NON_TARGETED),
    "control": ThroughConfig(shuffled=True),
}
EVERY = 20  # batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", type=Path, help="measured, with crystal systems and formulas")
    parser.add_argument("--model", type=Path, required=True, help="that release made, with its bank")
    parser.add_argument("--refiner", type=Path, help="another to begin with (default: the model's)")
    parser.add_argument("--keep-out", type=Path, required=True, help="patterns that are tested on")
    parser.add_argument("--output", type=Path, required=True, help="folder of the refiners")
    parser.add_argument("--steps", type=int, default=ThroughConfig().steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=tuple(VARIANTS), help="one of them")
    options = parser.parse_args()
    output_folder(options.output)
    model = Model.read(options.model)
    refiner, grid, about = load_root_refiner(options.refiner or options.model / REFINER)
    rejected: list[InputError] = []
    rows = [r for r in read_imperfect(options.patterns, rejected) if r["crystal_system"] and r["formula"]]
    kept = apart_from([r["formula"] for r in rows], formulas_of(options.keep_out))
    rows = [r for r, keep in zip(rows, kept, strict=True) if keep]
    if not rows:
        raise InputError(options.patterns, "has no labelled pattern of another formula.", "Give some.")
    seen = np.stack([measured_channels(r["two_theta"], r["intensity"], r["wavelength"], grid) for r in rows])
    labels = np.array([CLASS_INDEX[r["crystal_system"]] for r in rows], np.int64)
    bank, config = Bank.load(options.model / BANK), PairConfig()
    stream = Stream(split(bank, StreamConfig().held_out)[0], grid, config.flaws, options.seed + 1000)
    print(f"{len(rows)} labelled patterns of {len({r['formula'] for r in rows})} formulas")
    for name, variant in VARIANTS.items():
        if options.only not in (None, name):
            continue
        own = variant.model_copy(update={"steps": options.steps, "seed": options.seed})

        def report(step: int, terms: dict[str, float], name: str = name) -> None:
            if step % EVERY == 0:
                print(f"{name}, {step}: " + ", ".join(f"{k} {v:.3f}" for k, v in terms.items()), flush=True)

        trained = train_through(
            copy.deepcopy(refiner), model.ensemble.networks[0], seen, labels, stream, config.profile, own, report
        )
        said = {"method": name, "config": own.model_dump(mode="json"), "from": about.get("config")}
        save_model(options.output / f"{name}.safetensors", trained, grid, said, bank.formula.tolist())


if __name__ == "__main__":
    with exit_on_input_error():
        main()
