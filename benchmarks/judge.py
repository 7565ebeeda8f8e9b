"""Trains a judge of refiners: a classifier that has seen ideal patterns alone, as the paper's.

    python benchmarks/judge.py FOLDER/bank.npz ideal.safetensors [--samples 200000]

FOLDER is of a `release`; its structures, cells varied as for its networks, with lines of one width and no flaws. Given
again it goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from imitation_refinement.learning.models import save_model
from imitation_refinement.learning.stream import StreamFlaws
from imitation_refinement.learning.stream_training import train_on_stream
from imitation_refinement.progress import say
from imitation_refinement.running.stage import exit_on_input_error
from imitation_refinement.xrd.bank import Bank
from pipelines.release import read_release

SEED = 100  # none of the networks'
NONE = (0.0, 0.0)
IDEAL = StreamFlaws(
    u=NONE,
    w=(0.0115, 0.0115),  # with this size about the lines of theory: 0.15° wide, half of them Lorentzian
    v_share=NONE,
    size=(130.0, 130.0),
    microstrain=NONE,
    axial=NONE,
    ka2_share=0,
    zero_shift=NONE,
    displacement=NONE,
    transparency=NONE,
    monochromator=NONE,
    march_r=(1, 1),
    texture_share=0,
    line_texture=NONE,
    b_iso=NONE,
    background=NONE,
    air_share=0,
    hump_share=0,
    fluorescence_share=0,
    impurity_share=0,
    counts=(1e6, 1e6),
    spikes=0,
    gaps=0,
    cut_share=0,
    step=(0.02, 0.02),
    random_weight=0,
    derived_weight=0,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", type=Path, help="bank.npz of a release")
    parser.add_argument("output", type=Path, help="the classifier's file")
    parser.add_argument("--samples", type=int, default=200_000)
    options = parser.parse_args()
    config = read_release().stream.model_copy(update={"flaws": IDEAL, "samples": options.samples, "seed": SEED})
    bank, checkpoint = Bank.load(options.bank), options.output.with_name(f"{options.output.name}.checkpoint")

    def report(metrics: dict[str, float], samples: int) -> None:
        say(f"{samples:,} samples, {metrics['validation_accuracy']:.1%} of held-out structures' ideal patterns right")

    model, history = train_on_stream(bank, config, report, checkpoint)
    about = {"method": "prototypical", "config": config.model_dump(mode="json"), "history": history.metrics}
    save_model(options.output, model, config.grid, about, bank.formula.tolist(), torch.float16)
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
