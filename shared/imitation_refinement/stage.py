"""What every stage is: files in, files out, one typed configuration; the same code in KFP and on a command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from imitation_refinement.config import StageConfig
from imitation_refinement.errors import InputError
from imitation_refinement.files import write_text
from imitation_refinement.tracking import Tracker

ERROR_FILE_VARIABLE = "IMITATION_REFINEMENT_ERROR_FILE"


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
            that may be several files (``lists``) comes as a list.
    """

    name: str
    summary: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    config: type[StageConfig]
    run: Callable[[dict[str, Any], Any, Tracker], None]
    optional: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()

    def execute(self, paths: Mapping[str, Any], config: Mapping[str, Any], label: str | None = None) -> None:
        """Runs the stage on files, tracked by MLflow where a tracking server is set.

        Args:
            paths: option name → path (or list of paths).
            config: the options by name; what is left out takes its default.
            label: the name of the MLflow run; the stage's own name by default.

        Raises:
            InputError: if the options or the files can't be used.
        """
        try:
            options = self.config.model_validate(dict(config))
        except ValidationError as error:
            raise config_error(f"{self.name} configuration", error) from None
        given: dict[str, Any] = {}
        for name, value in paths.items():
            if not value:
                continue
            given[name] = [Path(v) for v in value] if name in self.lists else Path(value)
            if name in self.outputs:
                given[name].parent.mkdir(parents=True, exist_ok=True)
        inputs = {name: given[name] for name in self.inputs if name in given}
        with Tracker.stage(label or self.name, options.model_dump_json()) as tracker:
            tracker.log_params(options.model_dump())
            tracker.log_inputs(inputs)
            self.run(given, options, tracker)

    def task(self, paths: Mapping[str, Any], config: Mapping[str, Any], label: str | None = None) -> None:
        """The stage as the body of a KFP component: as :meth:`execute`, a bad input ends it with a single message."""
        with exit_on_input_error():
            self.execute(paths, config, label)

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
        add_options(parser.add_argument_group("options"), self.config)
        return parser

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Runs the stage from the command line."""
        arguments = vars(self.parser().parse_args(argv))
        paths = {name: arguments[name] for name in (*self.inputs, *self.outputs)}
        self.task(paths, nested(arguments, self.config))


def option(name: str) -> str:
    """A field's name as a command-line option."""
    return "--" + name.replace("_", "-").replace(".", "-")


def add_options(group: Any, model: type[BaseModel], prefix: str = "") -> None:
    """One option a field of a configuration, with its help and default; nested models get prefixed options."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        key = prefix + name
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            add_options(group, kind, key + ".")
            continue
        default = field.get_default(call_default_factory=True)
        text = (field.description or name).replace("%", "%%")
        keywords: dict[str, Any] = {"dest": key, "default": None, "help": f"{text} (default: {default})"}
        if kind is bool:
            keywords["action"] = argparse.BooleanOptionalAction
            keywords["help"] = text
        elif isinstance(default, tuple | list):
            keywords |= {"nargs": "+", "metavar": "VALUE"}
        elif choices := [c for c in get_args(kind) if isinstance(c, str)]:
            keywords["choices"] = choices
        else:
            keywords["metavar"] = "VALUE"
        group.add_argument(option(key), **keywords)


def nested(flat: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Command-line values, named ``a.b``, as the nested mapping that ``model`` reads, without those not given."""
    out: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind, key = field.annotation, prefix + name
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if inner := nested(flat, kind, key + "."):
                out[name] = inner
        elif flat.get(key) is not None:
            out[name] = flat[key]
    return out


def config_error(where: object, error: ValidationError) -> InputError:
    """A failed check of a configuration as one readable message: every field, what is wrong, what was given."""
    problems = [
        f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg'].removeprefix('Value error, ')} (given: {e['input']!r})"
        for e in error.errors()
    ]
    return InputError(where, "; ".join(problems) + ".", "Correct these fields.")


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """An :class:`InputError` in the block is printed as one message and ends the process with status 2.

    Where :data:`ERROR_FILE_VARIABLE` names a file, the error is left there, too, for the program that started this one;
    and where it is there already, the block is not run: neither a retry nor another task mends bad input.
    """
    path = os.environ.get(ERROR_FILE_VARIABLE)
    if path and Path(path).exists():
        print("not run: bad input has ended this run already", file=sys.stderr, flush=True)
        raise SystemExit(2)
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        if path:
            write_text(path, json.dumps([error.where, error.problem, error.remedy]))
        raise SystemExit(2) from None
