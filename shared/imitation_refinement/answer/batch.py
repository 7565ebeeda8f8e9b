"""Many pattern files identified: by several processes, one bad file stops none, what was killed goes on.

In the output folder: ``answers.csv`` and ``answers.json`` (:mod:`.record`), ``rejected.csv``, ``overview.html``, a
picture of each pattern in ``pictures/``, and ``answers.journal``, from which the same command goes on.
"""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imitation_refinement import __version__
from imitation_refinement.answer.domain import Flag
from imitation_refinement.answer.elements import Elements
from imitation_refinement.answer.identify import identify
from imitation_refinement.answer.journal import Entry, Journal
from imitation_refinement.answer.library import Library
from imitation_refinement.answer.model import RECORD, Model, cited, folder_of
from imitation_refinement.answer.overview import write_overview
from imitation_refinement.answer.picture import sketch
from imitation_refinement.answer.record import COLUMNS, Record, record, row
from imitation_refinement.answer.search import Search
from imitation_refinement.answer.warm import warm
from imitation_refinement.data.formats import format_of
from imitation_refinement.data.patterns import (
    ALL,
    MANIFEST,
    ManifestRow,
    Pattern,
    check_wavelength,
    file_scans,
    manifest_scan,
    parse_axis,
    pattern_files,
    pattern_of,
    read_manifest,
    read_patterns,
    report_rejected,
)
from imitation_refinement.data.scans import Scan
from imitation_refinement.errors import InputError
from imitation_refinement.files import Unwritable, cell, digest, output_folder, sweep, unused_name, writing
from imitation_refinement.progress import progress, say
from imitation_refinement.running.interrupts import check_stopped
from imitation_refinement.running.workers import following
from imitation_refinement.xrd.radiation import parse_wavelength

JOURNAL, PICTURES = "answers.journal", "pictures"
EACH = 16  # items that are worth another process: one takes seconds to begin
AHEAD = 4  # items a process that wait for it
SHOWN = 40  # patterns in the summary
MOST_REMARKS = 20  # that are said one by one


@dataclass(frozen=True)
class Asked:
    """All that answers depend on, but for the patterns.

    Attributes:
        model: a folder; that of the software without it.
        library: a library's file to search in instead of the model's.
        wavelength: [Å], of patterns that do not say theirs.
        elements: of the samples.
        scan: which of a file's several scans; see :func:`.patterns.choose`.
        axis: of patterns that do not say theirs, as a person writes it.
        pictures: the folder for pictures; none are drawn without it.
    """

    model: Path | None = None
    library: Path | None = None
    wavelength: float | None = None
    elements: Elements | None = None
    scan: str = ALL
    axis: str | None = None
    pictures: Path | None = None

    @classmethod
    def of(
        cls,
        model: str | Path | None = None,
        library: str | Path | None = None,
        wavelength: str | None = None,
        elements: str = "",
        scan: str = ALL,
        axis: str | None = None,
        pictures: Path | None = None,
    ) -> Asked:
        """What a person asks, in words; what is empty is not asked.

        Raises:
            InputError: if a word can't be understood.
        """
        option = "--wavelength"
        if axis:
            parse_axis(axis, "--axis")
        return cls(
            Path(model) if model else None,
            Path(library) if library else None,
            check_wavelength(parse_wavelength(wavelength, option), option) if wavelength else None,
            Elements.parse(elements) if elements else None,
            scan,
            axis or None,
            pictures,
        )

    def fingerprint(self) -> dict[str, Any]:
        """What a journal must have been begun with to be gone on with."""
        return {
            "version": __version__,
            "model": _record_digest(self.model),
            "library": digest(self.library) if self.library else None,
            "wavelength": self.wavelength,
            "elements": vars(self.elements) if self.elements else None,
            "scan": self.scan,
            "axis": self.axis,
            "pictures": self.pictures is not None,
        }


@dataclass(frozen=True)
class Item:
    """What a process reads and answers at once: a file, or one pattern of a table or a manifest.

    Attributes:
        key: of it in the journal.
        source: what is to be read, or was.
        name: of its pictures.
        where: for messages.
    """

    key: str
    source: Path | ManifestRow | Scan | InputError
    name: str
    where: str


@dataclass
class Summary:
    """What came of a batch.

    Attributes:
        rows: the first patterns' records.
        flags: how many patterns have which flag.
        rejected: what was left out.
        kept: how many items had been answered before.
    """

    rows: list[Record] = field(default_factory=list)
    flags: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    kept: int = 0

    @property
    def answered(self) -> int:
        """How many patterns have an answer, sure or not."""
        return self.flags.total()


def identify_files(
    paths: Sequence[str],
    output: Path,
    wavelength: str | None = None,
    model: str | Path | None = None,
    library: str | Path | None = None,
    elements: str = "",
    pictures: bool = True,
    processes: int | None = None,
    *,
    scan: str = ALL,
    axis: str | None = None,
) -> Summary:
    """Identifies pattern files; what is written, the module's text says.

    Args:
        paths: files of :mod:`imitation_refinement.data.formats`, or folders of them.
        output: the folder for what is written; where the same was asked before, it goes on.
        wavelength: [Å], or with its unit, or a line's name, for patterns that do not say theirs.
        model: its folder; the one that comes with the software without it.
        library: a library's file to search in instead of the model's.
        elements: what is known of the samples, as :meth:`.Elements.parse` reads it.
        pictures: whether they are drawn.
        processes: how many work; by default as many as there are cores, and fewer for few patterns.
        scan: which of a file's several scans: its number, several as ``1,3``, or ``all``.
        axis: of patterns that do not say theirs, as ``q (1/nm)``.

    Raises:
        InputError: if an option, the folder or the model can't be used, or no pattern is left.
    """
    asked = Asked.of(model, library, wavelength, elements, scan, axis, pictures=output / PICTURES if pictures else None)
    output_folder(output)
    with Journal(output / JOURNAL, asked.fingerprint()) as journal:
        sweep(output)
        if asked.pictures:
            output_folder(asked.pictures)
            sweep(asked.pictures)
        keys, kept = answer_all(paths, asked, journal, processes)
        if kept:
            say(f"{output}: {kept} files of these were answered before, and are kept")
        summary = Summary(kept=kept)
        _write(output, journal, keys, paths, summary)
    unsure = summary.answered - summary.flags[Flag.ANSWERED]
    say(f"{output / 'answers.csv'}: {summary.answered} patterns, {unsure} of them without a sure answer")
    for text in cited(model):
        say(f"the model knows structures of: {text}")
    return summary


def answer_all(
    paths: Sequence[str],
    asked: Asked,
    journal: Journal,
    processes: int | None = None,
    part: tuple[int, int] = (0, 1),
) -> tuple[list[str], int]:
    """Answers what has no answer in a journal yet.

    Args:
        paths: files of :mod:`imitation_refinement.data.formats`, or folders of them.
        asked: all else that answers depend on.
        journal: where answers go, and are looked for.
        processes: how many work; see :func:`identify_files`.
        part: number, from 0, and count of the parts that several commands share; each takes every so manieth item.

    Returns:
        The keys of the items in the journal, in their order, and how many had an answer.

    Raises:
        InputError: if the model can't be used.
    """
    number, count = part
    keys: dict[str, None] = {}  # a file that is named twice is answered once
    left = _left(islice(_items(paths), number, None, count), journal, keys)
    before = len(journal)
    total = max(len(range(number, _number(paths), count)) - before, 0)
    for entry in progress(_answered(left, asked, _processes(processes, total)), "identify", total=total, unit="files"):
        journal.add(entry)
    return list(keys), len(keys) - (len(journal) - before)


def _record_digest(folder: Path | None) -> str:
    """SHA-256 of a model's record, which names the digests of all its files.

    Raises:
        InputError: if there is no model.
    """
    where = folder_of(folder)
    if not (where / RECORD).is_file():
        Model.read(folder)  # says what is missing
    return digest(where / RECORD)


def _number(paths: Sequence[str]) -> int:
    """How many items the paths hold, for a bar."""
    total = 0
    for path in map(Path, paths):
        try:
            found = read_manifest(path) if (path / MANIFEST).is_file() else pattern_files(path)
        except InputError:  # an item, too
            found = [path]
        total += sum(_rows(file) if isinstance(file, Path) else 1 for file in found)
    return total


def _rows(file: Path) -> int:
    """How many patterns a table holds; another file is one item."""
    try:
        return pq.read_metadata(file).num_rows if format_of(file).rows else 1
    except (InputError, OSError, pa.ArrowInvalid):  # its item says why
        return 1


def _items(paths: Sequence[str]) -> Iterator[Item]:
    """What is to be answered, in order; a path that can't be read is an item with the reason."""
    taken: set[str] = set()
    for path in paths:
        try:
            yield from _items_of(Path(path), taken)
        except InputError as error:
            yield Item(str(error), error, "", error.where)


def _items_of(path: Path, taken: set[str]) -> Iterator[Item]:
    if (path / MANIFEST).is_file():
        manifest = _state(path / MANIFEST)
        for row in read_manifest(path):
            name = unused_name(row.pattern_id, taken)
            yield Item(f"{row.where}|{manifest}|{_state(row.file)}|{name}", row, name, row.where)
        return
    for file in pattern_files(path):
        try:
            is_table = format_of(file).rows
        except InputError as error:
            yield Item(f"{error}|{_state(file)}", error, "", str(file))
            continue
        if not is_table:
            name = unused_name(file.stem, taken)
            yield Item(f"{file}|{_state(file)}|{name}", file, name, str(file))
            continue
        for scan in file_scans(file):
            if isinstance(scan, InputError):
                yield Item(f"{scan}|{_state(file)}", scan, "", scan.where)
                continue
            name = unused_name(scan.name, taken)
            yield Item(f"{scan.where}|{_state(file)}|{name}", scan, name, scan.where)


def _state(file: Path) -> str:
    """Size and time of a file's last change: another file is another item."""
    if not file.is_file():
        return "-"
    found = file.stat()
    return f"{found.st_size}|{found.st_mtime_ns}"


def _left(items: Iterable[Item], journal: Journal, keys: dict[str, None]) -> Iterator[Item]:
    """The items that have no answer yet; notes the keys of all."""
    for item in items:
        known = item.key in keys or item.key in journal
        keys[item.key] = None
        if not known:
            yield item


class Answerer:
    """Reads and answers items, one after the other."""

    def __init__(self, asked: Asked) -> None:
        """Reads the model.

        Raises:
            InputError: if it can't be used, or no crystal of it is allowed.
        """
        model = Model.read(asked.model)
        if asked.library:
            model = replace(model, search=Search(Library.read(asked.library), model.search.ranking))
        self._asked, self._model = asked, model
        self._axis = parse_axis(asked.axis, "--axis") if asked.axis else None
        self._allowed = asked.elements.allowed(model.search.library) if asked.elements else None

    def __call__(self, item: Item) -> Entry:
        """What comes of an item; what can't be read, or makes the program fail, is its rejection.

        Raises:
            Unwritable: if its picture can't be written.
        """
        entry = Entry(item.key, [], [])
        try:
            patterns, rejected = self._patterns(item)
            for number, pattern in enumerate(patterns):
                name = f"{item.name}-{number + 1}" if len(patterns) > 1 else item.name
                entry.found.append(self._found(pattern, name))
        except Unwritable:
            raise
        except InputError as error:
            rejected = [error]
        except Exception as error:  # of whatever reads or answers: one pattern shall not stop a thousand
            problem = f"could not be answered ({type(error).__name__}: {error})."
            rejected = [InputError(item.where, problem, "This is a fault of the program: report it with the file.")]
        check_stopped()  # an interrupt of which a library has made another error is no fault of the item
        entry.rejected.extend((error.where, error.problem, error.remedy) for error in rejected)
        return entry

    def _patterns(self, item: Item) -> tuple[list[Pattern], list[InputError]]:
        source, wavelength, axis = item.source, self._asked.wavelength, self._axis
        if isinstance(source, InputError):
            raise source
        if isinstance(source, Path):
            return read_patterns(source, wavelength, scan=self._asked.scan, axis=axis)
        scan = manifest_scan(source) if isinstance(source, ManifestRow) else source
        return [pattern_of(scan, wavelength, axis)], []

    def _found(self, pattern: Pattern, name: str) -> dict[str, Any]:
        one = identify(self._model, pattern, self._allowed)
        picture = None
        if self._asked.pictures:
            from imitation_refinement.results.figures import save_figure  # Matplotlib takes a second

            picture = f"{PICTURES}/{name}.png"
            save_figure(one.plot(), self._asked.pictures / f"{name}.png")
        return {"record": record(one) | {"picture": picture}, "sketch": sketch(pattern.two_theta, pattern.intensity)}


def _processes(given: int | None, total: int) -> int:
    return given or max(1, min(len(os.sched_getaffinity(0)), math.ceil(total / EACH)))


def _answered(items: Iterator[Item], asked: Asked, processes: int) -> Iterator[Entry]:
    """What comes of items, in the order in which they are done."""
    first = next(items, None)
    if first is None:
        return
    rest = chain([first], items)
    if processes == 1:
        yield from map(Answerer(asked), rest)
        return
    warm()  # or each process compiles the same
    suspects: deque[Item] = deque()
    while True:  # a pool whose process died is done with
        alone = bool(suspects)
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), *following(_begin, asked))
        pending: dict[Future[Entry], Item] = {}
        try:
            while True:
                new = list(islice(rest, AHEAD * processes - len(pending))) if not suspects and not alone else []
                if alone and not pending and suspects:
                    new = [suspects.popleft()]
                pending |= {pool.submit(_answer, item): item for item in new}
                if not pending:
                    break
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    entry = future.result()
                    del pending[future]
                    yield entry
            if not alone:
                return
        except BrokenProcessPool:
            if alone:
                yield from map(_died, pending.values())
            else:
                suspects.extend(pending.values())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()


_answerer: Answerer | Exception | None = None  # of a process that works for another


def _begin(asked: Asked) -> None:
    """Readies a process: one thread, and a model that is read once."""
    global _answerer
    import torch

    torch.set_num_threads(1)
    try:
        _answerer = Answerer(asked)
    except Exception as error:  # told with the first item: from here it would only be seen that the process died
        _answerer = error


def _answer(item: Item) -> Entry:
    if isinstance(_answerer, Exception):
        raise _answerer
    assert _answerer is not None
    return _answerer(item)


def _died(item: Item) -> Entry:
    problem = "the process that answered it died, for want of memory or by a fault of what reads it."
    return Entry(item.key, [], [(item.where, problem, "Give it alone, or in another form.")])


def _write(output: Path, journal: Journal, keys: Sequence[str], paths: Sequence[str], summary: Summary) -> None:
    """Writes the tables from the journal, whole, in the order of what was given.

    Raises:
        InputError: if no pattern is left.
    """
    rejected = [InputError(*why) for entry in journal.entries(keys) for why in entry.rejected]
    named = Counter(one["record"]["pattern_id"] for entry in journal.entries(keys) for one in entry.found)
    summary.rejected = len(rejected)
    report_rejected(output, paths, rejected, bool(named))
    remarks: dict[str, list[str]] = {}

    def answers() -> Iterator[dict[str, Any]]:
        for entry in journal.entries(keys):
            for one in entry.found:
                _tell_apart(one["record"], named)
                yield one

    with (
        writing(output / "answers.csv") as table,
        writing(output / "answers.json") as whole,
        table.open("w", encoding="utf-8", newline="") as rows,
        whole.open("w", encoding="utf-8") as records,
    ):
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, one in enumerate(answers()):
            said = one["record"]
            writer.writerow(map(cell, row(said)))
            records.write((",\n" if number else "[\n") + json.dumps(said, ensure_ascii=False))
            summary.flags[said["flag"]] += 1
            if number < SHOWN:
                summary.rows.append(said)
            for remark in said["remarks"]:
                if remark in remarks or len(remarks) < 10 * MOST_REMARKS:
                    remarks.setdefault(remark, []).append(said["where"])
        records.write("\n]\n")
    _say_remarks(remarks)
    write_overview(output / "overview.html", answers(), summary.flags, rejected)


def _tell_apart(said: Record, named: Mapping[str, int]) -> None:
    """A remark on a pattern that shares its name with others."""
    if (number := named[said["pattern_id"]]) > 1:
        remark = f"{number} patterns have this name; this is {said['where']}"
        said["remarks"].append(remark)
        said["reason"] = "; ".join(filter(None, (said["reason"], remark)))


def _say_remarks(remarks: Mapping[str, Sequence[str]]) -> None:
    for remark, places in list(remarks.items())[:MOST_REMARKS]:
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        say(f"note: {places[0]}{more}: {remark}")
    if (rest := len(remarks) - MOST_REMARKS) > 0:
        say(f"note: {rest} or more remarks of other kinds")
