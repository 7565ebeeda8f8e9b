"""The training behind release_on_gpu.sh: checks itself, trains for a time, and leaves what it has as it goes.

The training runs in a process of its own, which keeps a checkpoint every few seconds and is ended when the time is
over; its processes that draw samples end with it. After each checkpoint there are, in the output folder ($OUT):

- network-N.safetensors: weights that `identify` can use, the running mean; put it into the folder of a `release`
- network-N.safetensors.checkpoint: what the same command goes on from
- network-N.json, network-N.png: accuracy on structures that are not learnt, and loss, against samples

Status 0: all samples are learnt. 3: time is over, give the command again. 1: a check failed, and it is said which.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from imitation_refinement.errors import InputError
from imitation_refinement.files import output_folder, write_text, writing
from imitation_refinement.learning.checkpoints import RECORD
from imitation_refinement.learning.models import load_classifier, save_model, use_device
from imitation_refinement.learning.stream import Stream, batches
from imitation_refinement.learning.stream_training import StreamConfig, split, train_on_stream
from imitation_refinement.options import merged
from imitation_refinement.progress import say
from imitation_refinement.results.figures import samples_figure, save_figure
from imitation_refinement.xrd.bank import Bank

PROFILE = Path(__file__).parents[1] / "pipelines" / "profiles" / "release.toml"
MOST_BYTES = 16 << 20  # of a file in the output folder
CHECK_SECONDS = 30.0
ENDING_SECONDS = 8.0  # that writing the last files and ending the processes may take
CHECKPOINT_SECONDS = 15.0
PREFETCHED = 3  # batches of a process that wait in shared memory, one being made among them
UNFINISHED = 3


@dataclass(frozen=True)
class Files:
    """Where things are: the checkpoint in a folder that lasts, copies and what people want in the output folder."""

    state: Path
    output: Path
    number: int

    @property
    def name(self) -> str:
        return f"network-{self.number}.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.state / f"{self.name}.checkpoint"

    @property
    def finished(self) -> Path:
        return self.state / self.name


def main() -> int:
    started = time.monotonic()
    options = arguments()
    signal.signal(signal.SIGALRM, time_is_over)
    signal.setitimer(signal.ITIMER_REAL, options.seconds)
    files = Files(options.state, options.output, options.number)
    for folder in (files.state, files.output):
        output_folder(folder)
    for half_written in files.state.glob(f".{files.name}*"):  # by a process that was ended meanwhile
        half_written.unlink()
    config = configured(options)
    bank = Bank.load(options.bank)
    if not files.finished.exists():
        if not checked(bank, config, files, started):
            return 1
        train_until(started + options.seconds - ENDING_SECONDS, options.bank, config, files)
    done = left(bank, config, files)
    say(f"{files.output}: {done:,} of {config.samples:,} samples, {time.monotonic() - started:.0f} s")
    return 0 if files.finished.exists() else UNFINISHED


def time_is_over(number: int, frame: object) -> None:
    """Ends what takes longer than it may, as a check of a machine that is busy."""
    raise TimeoutError("time is over before all was left; give the command again")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out, cores = os.environ.get("OUT"), len(os.sched_getaffinity(0))
    parser.add_argument("bank", type=Path, help="bank.npz of a release")
    parser.add_argument("--seconds", type=float, default=570.0, help="that the whole command may take")
    parser.add_argument("--samples", type=int, default=20_000_000)
    parser.add_argument("--number", type=int, default=1, help="of the network: its seed is one less, as of release")
    parser.add_argument("--workers", type=int, default=max(1, cores - 1), help="processes that draw samples")
    parser.add_argument("--output", type=Path, default=Path(out) if out else None, help="folder (default: $OUT)")
    parser.add_argument("--state", type=Path, default=Path("build/release_on_gpu"), help="folder of the checkpoint")
    parser.add_argument("--set", default="{}", metavar="JSON", help="options of the stream, over release.toml's")
    options = parser.parse_args()
    if options.output is None:
        parser.error("give --output, or set OUT")
    return options


def configured(options: argparse.Namespace) -> StreamConfig:
    """Those of release.toml, in batches that fill a GPU."""
    profile = tomllib.loads(PROFILE.read_text(encoding="utf-8"))["stream"]
    here = {"batch_size": 504, "learning_rate": 4e-3, "validate_every": 400_000, "precision": "auto"}
    own = {"samples": options.samples, "workers": options.workers, "checkpoint_seconds": CHECKPOINT_SECONDS}
    given = merged(StreamConfig().model_dump(mode="json"), profile)
    given = merged(merged(given, here), json.loads(options.set)) | own | {"seed": options.number - 1}
    return StreamConfig.model_validate(given)


def checked(bank: Bank, config: StreamConfig, files: Files, started: float) -> bool:
    """Whether everything works here, in half a minute: it says what does, and how long the training will take."""

    def ok(what: str, good: bool, remedy: str = "") -> bool:
        say(f"{'ok' if good else 'FAILED'}: {what}{'' if good else f'. {remedy}'}")
        return good

    device = use_device(config.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU: on the CPU, slow"
    ok(f"{name}; {len(os.sched_getaffinity(0))} cores, {config.workers} processes; torch {torch.__version__}", True)
    good = ok(f"{len(bank)} structures, {len(split(bank, config.held_out)[1])} held out to validate on", True)
    size = 4 * config.grid.points * config.batch_size
    free, needed = shutil.disk_usage("/dev/shm").free, size * PREFETCHED * config.workers
    remedy = "Give a smaller --set '{\"batch_size\": …}', or fewer --workers."
    good &= ok(f"shared memory: {free >> 20} MiB free, {needed >> 20} needed", free > needed, remedy)
    stream = Stream(split(bank, config.held_out)[0], config.grid, config.flaws, config.seed)
    stream.batch(0, 7)  # compiles the kernels, once for all processes
    say(f"kernels compiled after {time.monotonic() - started:.0f} s")
    begun = time.perf_counter()
    x, rows = stream.batch(0, 63)
    rate = 63 / (time.perf_counter() - begun)
    (there,) = batches(stream, 63, 0, 1, workers=1)
    same = bool(torch.equal(there[0], x) and torch.equal(there[1], rows))
    good &= ok("another process draws the same samples", same, "A fault of this machine or of the stream.")
    short = config.model_copy(update={"samples": 6 * config.batch_size, "validation": 70, "workers": 0})
    model, history = train_on_stream(bank, short, lambda metrics, samples: None)
    good &= ok(f"six steps, loss {history.metrics['loss'][-1]:.2f}", bool(np.isfinite(history.metrics["loss"]).all()))
    trial = files.state / "trial.safetensors"
    save_model(trial, model, config.grid, {}, bank.formula.tolist())
    again, size = load_classifier(trial)[0].state_dict(), trial.stat().st_size
    trial.unlink()
    kept = all(torch.equal(tensor, again[key]) for key, tensor in model.state_dict().items())
    good &= ok(f"weights come back from their file of {size >> 10} KiB", kept and size <= MOST_BYTES)
    at_best = config.samples / (rate * max(1, config.workers))
    say(f"a process draws {rate:.0f} samples/s: {config.samples:,} take {at_best:.0f} s with {config.workers} at best")
    seconds = time.monotonic() - started
    return good & ok(f"checked in {seconds:.0f} s", seconds < CHECK_SECONDS or device.type == "cpu", "It is too slow.")


def train(bank: Path, config: StreamConfig, files: Files) -> None:
    """Trains, from the checkpoint if there is one; in a process of its own, whose group is ended with it."""
    os.setsid()
    structures = Bank.load(bank)
    model, history = train_on_stream(structures, config, report, files.checkpoint)
    about = {"method": "prototypical", "config": config.model_dump(mode="json"), "history": history.metrics}
    save_model(files.finished, model, config.grid, about, structures.formula.tolist())


def report(metrics: dict[str, float], samples: int) -> None:
    say(f"{samples:,} samples, loss {metrics['loss']:.3f}, {metrics['validation_accuracy']:.1%} of held-out ones right")


def train_until(end: float, bank: Path, config: StreamConfig, files: Files) -> None:
    """Trains in another process until it is done or ``end``, and copies out what it has after each checkpoint.

    Raises:
        RuntimeError: if the training fails.
    """
    process = multiprocessing.get_context("spawn").Process(target=train, args=(bank, config, files))
    process.start()
    assert process.pid is not None
    try:
        structures, seen = Bank.load(bank), 0
        while process.is_alive() and time.monotonic() < end:
            process.join(min(1.0, max(0.0, end - time.monotonic())))
            if files.checkpoint.exists() and (at := files.checkpoint.stat().st_mtime_ns) != seen:
                left(structures, config, files)
                seen = at
    finally:
        if process.is_alive():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has not got so far as to have a group of its own
                process.kill()
        process.join()
    if process.exitcode and process.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"the training ended with status {process.exitcode}")


def left(bank: Bank, config: StreamConfig, files: Files) -> int:
    """Copies the newest checkpoint to the output folder, with its weights and figures; how many samples it has seen."""
    if not files.checkpoint.exists():
        return 0
    content = files.checkpoint.read_bytes()
    tensors = load(content)
    record: dict[str, Any] = json.loads(bytes(tensors[RECORD].tolist()))
    history, done = record["history"], min(config.samples, record["batches"] * config.batch_size)
    if files.finished.exists():
        shutil.copyfile(files.finished, files.output / files.name)
    else:
        network, first = config.network.build(), "mean/module."
        network.load_state_dict({k.removeprefix(first): v for k, v in tensors.items() if k.startswith(first)})
        about = {"method": "prototypical", "config": config.model_dump(mode="json"), "history": history}
        about |= {"samples": done, "unfinished": True}
        save_model(files.output / files.name, network, config.grid, about, bank.formula.tolist())
    if len(content) <= MOST_BYTES:
        with writing(files.output / files.checkpoint.name) as temporary:
            temporary.write_bytes(content)
    write_text(files.output / f"network-{files.number}.json", json.dumps({"samples": done, "history": history}) + "\n")
    if history:
        figure = samples_figure({"held-out structures": (history["samples"], history["validation_accuracy"])})
        save_figure(figure, files.output / f"network-{files.number}.png")
    return done


def status() -> int:
    """That of :func:`main`, with what goes wrong said in a line."""
    try:
        return main()
    except TimeoutError as error:
        say(str(error))
        return UNFINISHED
    except (InputError, RuntimeError) as error:
        say(f"error: {error}")
        return 1


if __name__ == "__main__":
    ended = status()
    sys.stdout.flush()
    os._exit(ended)  # at once: all is written, and taking torch down takes seconds where time is over
