"""``release``: makes the whole answer anew, a folder that ``identify --model`` takes, and goes on where it was stopped.

Structures → the library and the bank of lines → networks that learn from the bank's stream → virtual measurements of
structures that no network has learnt, searched with and without their own material, on which the ranking of candidates
and the fusion with the networks are fitted; last a refiner, which learns from pairs of the stream.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field, ValidationError

from components.collect_structures.crystals import Material
from components.collect_structures.derived import derived_crystals
from components.collect_structures.packaged import PACKAGES
from components.collect_structures.random_crystals import low_symmetry
from components.collect_structures.stage import materials_of, tables, write_structures
from components.simulate.bank import bank_of
from imitation_refinement import __version__
from imitation_refinement.answer import fusion, ranking
from imitation_refinement.answer.ensemble import Ensemble
from imitation_refinement.answer.fusion import Opinions
from imitation_refinement.answer.lattice import LatticeVote, features, lattices_of
from imitation_refinement.answer.library import REFERENCE, Library
from imitation_refinement.answer.model import LIBRARY, RECORD, REFINER, record_refiner, write_record
from imitation_refinement.answer.ranking import Case
from imitation_refinement.answer.search import Search
from imitation_refinement.answer.warm import warm
from imitation_refinement.data.contracts import write_rejected
from imitation_refinement.errors import InputError
from imitation_refinement.files import alone, output_folder, sweep, write_text
from imitation_refinement.learning.models import save_model
from imitation_refinement.learning.pair_training import PairConfig, train_on_pairs
from imitation_refinement.learning.stream import apart_from, formulas_of, without
from imitation_refinement.learning.stream_training import StreamConfig, is_held_out, split, train_on_stream
from imitation_refinement.options import Seed, StageConfig, config_error, merged
from imitation_refinement.progress import progress, say
from imitation_refinement.running.workers import following
from imitation_refinement.xrd.bank import DERIVED, GIVEN, RANDOM, Bank
from pipelines.library import (
    UNFITTED,
    Measured,
    Without,
    cases,
    library_of,
    read_structures,
    representative,
    virtual_measurements,
)
from pipelines.profiles import parse_toml, with_settings

TOGETHER = 16  # virtual measurements that a process asks about at a time
OPTIONS, COLLECTED, BANK, REJECTED = "release.json", "structures.parquet", "bank.npz", "rejected.csv"
RANDOM_FILE, DERIVED_FILE = "random.parquet", "derived.parquet"
MEASURED_FILE, MEASURED_LIBRARY = "derived-measured.parquet", "derived-library.parquet"  # of derived_measurements


class ReleaseConfig(StageConfig):
    """What a model is made of."""

    structures: tuple[str, ...] = Field(
        min_length=1, description="as of collect_structures: paths, or packages by name"
    )
    keep_out: str = Field("", description="patterns whose materials no part learns; none if empty")
    whole_library: bool = Field(
        False,
        description="the library has the kept-out materials all the same: a model that knows all that it can, whose "
        "networks are still judged on what they have not learnt",
    )
    random: int = Field(
        0, ge=0, le=10_000_000, description="random crystals that networks learn beside, most of low symmetry"
    )
    derived: int = Field(
        0, ge=0, le=10_000_000, description="crystals of lower symmetry derived from those that networks learn"
    )
    networks: int = Field(3, ge=1, le=20, description="networks, each with a seed of its own")
    without_random: int = Field(
        0, ge=0, le=20, description="of the networks, the last so many learn no random crystals: they err elsewhere"
    )
    stream: StreamConfig = Field(StreamConfig(), description="what each network learns from, and how")
    refiner: PairConfig = Field(PairConfig(), description="what the refiner learns from, and how")
    measurements: int = Field(1000, ge=14, le=1_000_000, description="virtual ones that the answer is fitted on")
    derived_measurements: int = Field(
        0, ge=0, le=1_000_000, description="and of crystals derived from those measured: with them it learns to doubt"
    )
    seed: Seed = Field(0, description="of everything that is drawn")


def read_release(settings: Sequence[str] = (), **given: Any) -> ReleaseConfig:
    """The options of ``profiles/release.toml``, with single ones changed.

    Args:
        settings: ``option=value`` each, as :func:`.profiles.read_profile` takes them.
        given: options by name, over all others.

    Raises:
        InputError: if an option is unknown or out of its range.
    """
    content = (resources.files("pipelines") / "profiles" / "release.toml").read_bytes()
    data = with_settings(parse_toml(content, "profile release"), settings) | given
    # A part of a section changes that part alone: a network stays strided, a grid even in log q.
    sections = {"stream": StreamConfig(), "refiner": PairConfig()}
    data = merged({name: section.model_dump(mode="json") for name, section in sections.items()}, data)
    try:
        return ReleaseConfig.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise config_error("profile release", error) from None


def release(output: Path, config: ReleaseConfig) -> None:
    """Makes a model, or goes on with one that was stopped.

    Args:
        output: its folder; what is there of the same options is taken as it is.
        config: what it is made of.

    Raises:
        InputError: if a source can't be used, or the folder was begun with other options.
    """
    output_folder(output)
    with alone(output / ".lock", output, "Wait for it, or give another folder with --output."):
        sweep(output)
        _release(output, config)


def _release(output: Path, config: ReleaseConfig) -> None:
    options, written = output / OPTIONS, config.model_dump_json(indent=1) + "\n"
    begun = (output / COLLECTED).exists()  # or nothing was made: a source may have been misspelt
    if begun and options.exists() and not _same(options, config):
        raise InputError(options, "this model was begun with other options.", "Give the same, or another folder.")
    write_text(options, written)
    formulas = formulas_of(Path(config.keep_out)) if config.keep_out else []
    if not begun:
        _collect(output, config.structures, [] if config.whole_library else formulas)
    structures = read_structures(output / COLLECTED)
    apart = apart_from(structures["formula"].to_pylist(), formulas)
    if not config.whole_library and (own := int((~apart).sum())):
        problem = f"holds {own} structures of the formulas in {config.keep_out}, which has changed since."
        raise InputError(output / COLLECTED, problem, "Begin in another folder.")
    if not (output / LIBRARY).exists():
        library_of(structures).write(output / LIBRARY)
    names = _networks(output, config, formulas)
    if not (output / RECORD).exists():
        _fuse(output, config, structures.filter(pa.array(apart)), names, formulas)
    if config.refiner.samples:
        _refiner(output, config, formulas)
    say(f"{output}: {structures.num_rows} structures, {len(names)} networks. Use it: identify --model {output}")


def _same(options: Path, config: ReleaseConfig) -> bool:
    """Whether a file holds these options; those that an earlier version had not are the usual ones."""
    try:
        return ReleaseConfig.model_validate_json(options.read_text(encoding="utf-8")) == config
    except ValidationError:
        return False


def _collect(output: Path, sources: Sequence[str], formulas: Sequence[str]) -> None:
    """The structures of all sources, without those of some formulas."""
    rejected: list[InputError] = []
    materials = [material for source in sources for material in materials_of(source, rejected)]
    kept = apart_from([material.formula for material in materials], formulas)
    own = [material for material, keep in zip(materials, kept, strict=True) if keep]
    if not own:
        raise InputError(", ".join(sources), "no structure is left.", "Give more, or keep less out.")
    if len(own) < len(materials):
        say(f"{len(materials) - len(own)} structures of the {len(set(formulas))} formulas to keep out are left out")
    write_rejected(output / REJECTED, rejected)
    write_structures(output / COLLECTED, tables(own), len(own))


def _networks(output: Path, config: ReleaseConfig, formulas: Sequence[str]) -> list[str]:
    """Trains the networks that are not there yet, as many at once as there are cores; their files' names."""
    names = [f"network-{number}.safetensors" for number in range(1, config.networks + 1)]
    missing = [(number, name) for number, name in enumerate(names) if not (output / name).exists()]
    if not missing:
        return names
    _bank(output, config, formulas)
    work = [(output, name, _seeded(config, number)) for number, name in missing]
    cores = len(os.sched_getaffinity(0))
    if len(work) == 1 or cores == 1:
        for one in work:
            _train(*one)
        return names
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cores, len(work)), context, *following(torch.set_num_threads, 1)) as pool:
        try:
            for future in [pool.submit(_train, *one) for one in work]:
                future.result()
        except BaseException as error:
            for process in multiprocessing.active_children():  # or the pool would wait for their networks
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                problem = "a process that trained a network was killed, by hand or for want of memory."
                raise InputError(output, problem, "Give the same command again: it goes on.") from None
            raise
    return names


def _bank(output: Path, config: ReleaseConfig, formulas: Sequence[str]) -> None:
    """Makes the bank of lines, unless it is there."""
    if (output / BANK).exists():
        return
    bank = without(_learnable(output / COLLECTED), formulas)
    try:
        split(bank, config.stream.held_out)
    except ValueError as error:
        raise InputError(output / COLLECTED, f"{error}.", "Give more, or change stream.held_out.") from None
    beside: list[Bank] = []
    if config.random:
        made = low_symmetry(config.random, config.seed)
        beside.append(_made(output / RANDOM_FILE, made, "random crystals", config.random, RANDOM, formulas))
    if config.derived:
        structures = read_structures(output / COLLECTED)
        names = structures["formula"].to_pylist()
        learnt = apart_from(names, formulas) & ~is_held_out(names, config.stream.held_out)
        made = derived_crystals(structures.filter(pa.array(learnt)), config.derived, config.seed)
        beside.append(_made(output / DERIVED_FILE, made, "derived crystals", config.derived, DERIVED, formulas))
    bank = Bank.join([bank, *(own.select(np.isin(own.label, bank.label)) for own in beside)])
    bank.save(output / BANK)


def _made(path: Path, made: Iterable[Material], kind: str, number: int, origin: int, formulas: Sequence[str]) -> Bank:
    """The lines of crystals that are made now, unless they are in their table already."""
    _written(path, made, kind, number, path.stem)
    return without(_learnable(path, origin), formulas)


def _written(path: Path, made: Iterable[Material], kind: str, number: int, option: str) -> None:
    """Makes crystals now, unless they are in their table already."""
    if path.exists():
        return
    crystals = list(progress(made, kind, number))
    if not crystals:
        raise InputError(path, f"there are no {kind}.", f"Ask for none: --set {option}=0; or give ordered crystals.")
    write_structures(path, tables(crystals), len(crystals))


def _learnable(path: Path, origin: int = GIVEN) -> Bank:
    """The lines of a table's structures; those that can't be learnt are said."""
    bank, rejected = bank_of([path], origin=origin)
    for error in rejected:
        say(f"not learnt: {error}")
    return bank


def _refiner(output: Path, config: ReleaseConfig, formulas: Sequence[str]) -> None:
    """Trains the refiner, from its checkpoint if there is one, and makes it a part of the model."""
    path, checkpoint = output / REFINER, output / f"{REFINER}.checkpoint"
    if not path.exists():
        _bank(output, config, formulas)
        bank, own = Bank.load(output / BANK), config.refiner.model_copy(update={"seed": config.seed})

        def report(metrics: dict[str, float], samples: int) -> None:
            rest = ", ".join(f"{name} {metrics[f'validation_{name}']:.3f}" for name in ("l1", "l2", "kl"))
            say(f"{REFINER}: {samples:,} pairs; of held-out pairs, 1 about that of raw ones: {rest}")

        model, history = train_on_pairs(bank, config.stream.grid, config.stream.held_out, own, report, checkpoint)
        about = {"method": "paired", "config": own.model_dump(mode="json"), "history": history.metrics}
        save_model(path, model, config.stream.grid, about, bank.formula.tolist())
        checkpoint.unlink(missing_ok=True)
    record_refiner(output)


def _seeded(config: ReleaseConfig, number: int) -> StreamConfig:
    """The options of a network: all have the same held-out structures, and draws of their own."""
    found = config.stream.model_copy(update={"seed": (config.seed + number) % 2**32})
    if number < config.networks - config.without_random:
        return found
    return found.model_copy(update={"flaws": found.flaws.model_copy(update={"random_weight": 0.0})})


def _train(output: Path, name: str, config: StreamConfig) -> None:
    """Trains one network, from its checkpoint if there is one."""
    bank, checkpoint = Bank.load(output / BANK), output / f"{name}.checkpoint"

    def report(metrics: dict[str, float], samples: int) -> None:
        say(f"{name}: {samples:,} samples, {metrics['validation_accuracy']:.1%} of held-out structures' patterns right")

    model, history = train_on_stream(bank, config, report, checkpoint)
    about = {"method": "prototypical", "config": config.model_dump(mode="json"), "history": history.metrics}
    save_model(output / name, model, config.grid, about, bank.formula.tolist(), torch.float16)
    checkpoint.unlink(missing_ok=True)


Asked = tuple[np.ndarray, dict[Without, Case]]  # what lattices tell of a virtual measurement, and its searches


def _asked(library: Path, structures: pa.Table, measured: Sequence[Measured]) -> list[Asked]:
    """What lattices and the search say of virtual measurements of structures, asked on all cores; of few here."""
    if len(measured) <= TOGETHER:  # a process takes seconds
        return _ask(Search(Library.read(library), UNFITTED), structures, measured)
    parts = [measured[start : start + TOGETHER] for start in range(0, len(measured), TOGETHER)]
    context, ready = multiprocessing.get_context("spawn"), following(_begin_asking, library, structures)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), context, *ready) as pool:
        done = progress(pool.map(_ask_there, parts), "measurements searched", len(parts), f"batches of {TOGETHER}")
        return [one for part in done for one in part]


_searched: tuple[Search, pa.Table] | None = None  # of a process that asks for another


def _begin_asking(library: Path, structures: pa.Table) -> None:
    global _searched
    torch.set_num_threads(1)
    _searched = Search(Library.read(library), UNFITTED), structures


def _ask_there(measured: Sequence[Measured]) -> list[Asked]:
    assert _searched is not None, "the process was readied"
    return _ask(*_searched, measured)


def _ask(search: Search, structures: pa.Table, measured: Sequence[Measured]) -> list[Asked]:
    told = [features(lattices_of(one.two_theta, one.counts, REFERENCE)) for one in measured]
    return list(zip(told, cases(search, structures, measured), strict=True))


def _fuse(
    output: Path, config: ReleaseConfig, structures: pa.Table, names: Sequence[str], formulas: Sequence[str]
) -> None:
    """Fits the ranking and the fusion on structures that no network has learnt, and finishes the folder.

    The ranking is fitted on measurements of real phases alone, the lattice's vote and the fusion on those of derived
    crystals, too: to a powder pattern these look like more than they are.

    Args:
        structures: that may be learnt: without those of the ``formulas`` to keep out.
    """
    held_out = structures.filter(pa.array(is_held_out(structures["formula"].to_pylist(), config.stream.held_out)))
    if not held_out.num_rows:
        raise InputError(output / COLLECTED, "has no formula that is held out.", "Give more structures.")
    library = Library.read(output / LIBRARY)
    ensemble = Ensemble.read([output / name for name in names], library.often)
    measured = virtual_measurements(held_out, config.measurements, config.seed)
    warm()  # or each process compiles the same
    asked = _asked(output / LIBRARY, held_out, measured)
    counting = representative(measured, held_out, structures)
    said = f"virtual measurements of {held_out.num_rows} structures, seed {config.seed}"
    real = [case for _, searched in asked for without, case in searched.items() if without is not Without.KIND]
    try:
        ranked = ranking.fit(real, f"{len(real)} searches of {len(measured)} {said}", library.often)
    except ValueError as error:
        raise InputError(
            output / COLLECTED, f"{said}: {error}.", "Give more structures, or more measurements."
        ) from None
    ranked.write(output / ranking.RANKING)
    if config.derived_measurements:
        derived, library_there = _derived_apart(output, config, held_out, formulas)
        more = virtual_measurements(derived, config.derived_measurements, config.seed + 1)
        asked += _asked(library_there, derived, more)
        measured, counting = measured + more, np.concatenate([counting, np.ones(len(more))])
        said += f", {len(more)} of them of {derived.num_rows} crystals derived from these"
    found = [(number, case) for number, (_, searched) in enumerate(asked) for case in searched.values()]
    told = [told for told, _ in asked]
    systems = np.array([one.system for one in measured])
    said = f"{len(measured)} {said}"
    lattice = LatticeVote.fit(told, systems, counting, said)
    apart = LatticeVote.apart(told, systems, counting)
    networks = [
        ensemble.log_probabilities(one.two_theta, one.counts, REFERENCE)
        for one in progress(measured, "networks asked", unit="patterns")
    ]
    opinions = [
        Opinions(networks[i], apart[i], case.evidence, case.system, ranked.systems(case.evidence, case.system))
        for i, case in found
    ]
    truth = np.array([case.true_system for _, case in found])
    fitted = fusion.fit(opinions, truth, counting[[i for i, _ in found]], f"{len(found)} searches of {said}")
    about = {
        "version": __version__,
        "structures": list(config.structures),
        "number_of_structures": structures.num_rows,
        "formulas_kept_out": len(set(formulas)),
        "crystals_in_the_library": len(library),
        "samples_a_network": config.stream.samples,
        "random_crystals": config.random,
        "derived_crystals": config.derived,
        "library": library.digest,
        "cite": [PACKAGES[source].citation for source in config.structures if source in PACKAGES],
    }
    write_record(output, names, lattice, fitted, about)


def _derived_apart(
    output: Path, config: ReleaseConfig, held_out: pa.Table, formulas: Sequence[str]
) -> tuple[pa.Table, Path]:
    """Crystals derived from what no network has learnt, and a library that has them beside all others."""
    made = derived_crystals(held_out, config.derived_measurements, config.seed + 1)
    number = config.derived_measurements
    _written(output / MEASURED_FILE, made, "derived crystals to measure", number, "derived_measurements")
    derived, path = read_structures(output / MEASURED_FILE), output / MEASURED_LIBRARY
    derived = derived.filter(pa.array(apart_from(derived["formula"].to_pylist(), formulas)))
    if not path.exists():
        library_of(pa.concat_tables([read_structures(output / COLLECTED), derived])).write(path)
    return derived, path
