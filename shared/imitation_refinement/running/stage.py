"""What every stage is: files in, files out, one typed configuration; the same code in KFP and on a command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from imitation_refinement import progress
from imitation_refinement.errors import InputError
from imitation_refinement.files import alone, parse_json, refusal, sweep, writable, write_text
from imitation_refinement.options import StageConfig, config_error, merged
from imitation_refinement.running import garbage
from imitation_refinement.running.launch import ERROR_FILE_VARIABLE, command_line, processes, torchrun
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.running.train_job import TrainJob


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: the stage's name, as in ``components/<name>``.
        summary: one sentence for the command line.
        inputs: option name → what the file is. A name in ``optional`` may be left out.
        outputs: option name → what the file is.
        config: the typed options.
        run: ``run(paths, config, tracker)``; ``paths`` has an entry for each input and output that was given. An input
            that may be several files (``lists``) comes as a list. Returns what came of it, one line for a person.
        distributed: whether several processes, started by torchrun, may share the work.
    """

    name: str
    summary: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    config: type[StageConfig]
    run: Callable[[dict[str, Any], Any, Tracker], str]
    optional: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    distributed: bool = False

    def execute(self, paths: Mapping[str, Any], config: Mapping[str, Any], label: str | None = None) -> None:
        """Runs the stage on files, tracked by MLflow where a tracking server is set.

        Args:
            paths: option name → path (or list of paths).
            config: the options by name; what is left out takes its default.
            label: the name of the MLflow run; the stage's own name by default.

        Raises:
            InputError: if the options or the files can't be used.
        """
        options = self._options(config)
        given: dict[str, Any] = {}
        for name, value in paths.items():
            if not value:
                continue
            given[name] = [Path(v) for v in value] if name in self.lists else Path(value)
            if name in self.outputs:
                with writable(given[name]):
                    given[name].parent.mkdir(parents=True, exist_ok=True)
        inputs = {name: given[name] for name in self.inputs if name in given}
        beside = next((given[name] for name in self.outputs if name in given), None)
        name = label or self.name
        with (
            self._alone(given),
            progress.stage(name),
            Tracker.stage(name, options.model_dump_json(), beside) as tracker,
        ):
            garbage.imported()
            tracker.log_params(options.model_dump())
            tracker.log_inputs(inputs)
            tracker.log_json(options.model_dump(mode="json"), f"{self.name}.json")
            progress.result(self.run(given, options, tracker))

    def task(self, paths: Mapping[str, Any], config: Mapping[str, Any], label: str | None = None) -> None:
        """The stage as the body of a KFP component: as :meth:`execute`, a bad input ends it with a single message.

        Where the environment asks for several processes or nodes and the stage can use them, they run its command line.
        """
        with exit_on_input_error():
            job, n = (TrainJob.asked_for(), processes()) if self.distributed else (None, 1)
            if job is None and n == 1:
                self.execute(paths, config, label)
                return
            options = self._options(config).model_dump(mode="json")
            if job is None:
                torchrun(self.name, command_line(paths, options, label), n)
            else:
                inputs, outputs = (
                    {name: Path(paths[name]) for name in names if paths.get(name)}
                    for names in (self.inputs, self.outputs)
                )
                job.run(self.name, inputs, outputs, options, label)

    @contextmanager
    def _alone(self, given: Mapping[str, Any]) -> Iterator[None]:
        """No other process writes the outputs in the block; what one left that was killed is removed."""
        with ExitStack() as held:
            if progress.leads():
                for output in sorted(given[name] for name in self.outputs if name in given):
                    remedy = "Wait for it, or give another output."
                    held.enter_context(alone(output.with_name(f".{output.name}.lock"), output, remedy))
                    sweep(output.parent, output.name)
                    sweep(output)  # where it is a folder
            yield

    def _options(self, config: Mapping[str, Any]) -> Any:
        try:
            return self.config.model_validate(dict(config))
        except ValidationError as error:
            raise config_error(f"{self.name} configuration", error) from None

    def parser(self) -> argparse.ArgumentParser:
        """The command line of the stage, made from its inputs, outputs and options."""
        parser = argparse.ArgumentParser(
            prog=f"python -m components.{self.name}",
            description=self.summary,
            epilog="Set MLFLOW_TRACKING_URI to have the run tracked.",
        )
        for title, names in (("inputs", self.inputs), ("outputs", self.outputs)):
            group = parser.add_argument_group(title)
            for name, text in names.items():
                optional = name in self.optional
                group.add_argument(
                    option(name),
                    required=not optional,
                    metavar="PATH",
                    nargs="+" if name in self.lists else None,
                    help=text + (" (optional)" if optional else ""),
                )
        options = parser.add_argument_group("options")
        options.add_argument("--config", metavar="JSON", help="options by name; those below go over them")
        options.add_argument("--label", metavar="NAME", help=f"name of the MLflow run (default: {self.name})")
        add_options(options, self.config)
        return parser

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Runs the stage from the command line."""
        arguments = vars(self.parser().parse_args(argv))
        paths = {name: arguments[name] for name in (*self.inputs, *self.outputs)}
        with exit_on_input_error():
            config = merged(_json_object("--config", arguments["config"]), nested(arguments, self.config))
        self.task(paths, config, arguments["label"])


def shard_name(stage: str, shard: int, shards: int) -> str:
    """What a person calls a stage's work on one shard."""
    return f"{stage} {shard + 1} of {shards}" if shards > 1 else stage


def option(name: str) -> str:
    """A field's name as a command-line option."""
    return "--" + name.replace("_", "-").replace(".", "-")


def add_options(group: Any, model: type[BaseModel], prefix: str = "") -> None:
    """One option a field of a configuration, with its help and default; nested models get prefixed options."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        key = prefix + name
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):  # of a family, the default's options; others come by --config
            add_options(group, type(default), key + ".")
            continue
        text = (field.description or name).replace("%", "%%")
        keywords: dict[str, Any] = {"dest": key, "default": None, "help": f"{text} (default: {default})"}
        if kind is bool:
            keywords["action"] = argparse.BooleanOptionalAction
            keywords["help"] = text
        elif isinstance(default, tuple | list):
            keywords |= {"nargs": "+", "metavar": "VALUE"}
        elif choices := choices_of(kind):
            keywords["choices"] = choices
        else:
            keywords["metavar"] = "VALUE"
        group.add_argument(option(key), **keywords)


def choices_of(kind: Any) -> list[str]:
    """The words that an option of this kind may be: members of an enum, or of a ``Literal``; none for other kinds."""
    words = kind if isinstance(kind, type) and issubclass(kind, StrEnum) else get_args(kind)
    return [str(word) for word in words if isinstance(word, str)]


def nested(flat: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Command-line values, named ``a.b``, as the nested mapping that ``model`` reads, without those not given."""
    out: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        default, key = field.get_default(call_default_factory=True), prefix + name
        if isinstance(default, BaseModel):
            if inner := nested(flat, type(default), key + "."):
                out[name] = inner
        elif flat.get(key) is not None:
            out[name] = flat[key]
    return out


def _json_object(where: str, text: str | None) -> dict[str, Any]:
    try:
        found = parse_json(text or "{}")
    except ValueError as error:
        raise InputError(where, f"is no JSON ({error}).", 'Write it as {"option": value}.') from None
    if not isinstance(found, dict):
        raise InputError(where, "is no JSON object.", 'Write it as {"option": value}.')
    return found


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """An :class:`InputError` in the block, or a full disk, is printed as one message; the process ends with status 2.

    Where :data:`ERROR_FILE_VARIABLE` names a file, the error is left there, too, for the program that started this one;
    and where it is there already, the block is not run: neither a retry nor another task mends bad input.
    """
    path = os.environ.get(ERROR_FILE_VARIABLE)
    if path and Path(path).exists():
        print("not run: bad input has ended this run already", file=sys.stderr, flush=True)
        raise SystemExit(2)
    try:
        yield
    except (InputError, OSError) as found:
        error = found if isinstance(found, InputError) else refusal(found, found.filename or "the output")
        if error is None:
            raise
        print(f"error: {error}", file=sys.stderr, flush=True)
        if path:
            with suppress(InputError):  # of a disk that is full: it has just been told
                write_text(path, json.dumps([error.where, error.problem, error.remedy]))
        raise SystemExit(2) from None
