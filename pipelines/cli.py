"""The command line of the whole: ``imitation-refinement run``, ``refine``, ``identify`` and others."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from imitation_refinement import __version__
from imitation_refinement.errors import InputError
from imitation_refinement.running.interrupts import Stopped, stoppable
from imitation_refinement.running.launch import COMMAND_VARIABLE, environment
from imitation_refinement.running.stage import exit_on_input_error

if TYPE_CHECKING:
    from pipelines.batch import BatchConfig

PROGRAM = "imitation-refinement"
DEFAULT = "default"  # profile
RUNNERS: Sequence[Literal["subprocess", "docker"]] = ("subprocess", "docker")
RUNS = Path("runs")
WIDE = 160  # columns of a table where no terminal says how many it has
_TWO_SYSTEMS = (("crystal_system", "probability"), ("second_system", "second_probability"))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; exits with 2 after bad input, 1 after a task that failed, 130 or 143 after a signal."""
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_args(given)
    again = arguments.command in (_refine, _identify, _release) or getattr(arguments, "resume", None)
    whole = arguments.command in (_run, _batch_run)
    ended = stoppable([PROGRAM, *given] if again else []) if again or whole else _interruptible()
    told = environment({COMMAND_VARIABLE: shlex.join([PROGRAM, *given])})
    with exit_on_input_error(), told, ended:
        arguments.command(arguments)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise Stopped(signal.SIGINT) from None


@contextmanager
def _task_failures() -> Iterator[None]:
    """In the block a task that fails is one message, and status 1."""
    from pipelines.local import TaskFailed

    try:
        yield
    except TaskFailed as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Refines flawed X-ray diffraction patterns until they look like theory.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the whole pipeline on this machine", description=_run.__doc__)
    run.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run that was cut, by its folder: with its own profile, sources and runner",
    )
    _profile_options(run)
    run.add_argument(
        "--structures",
        default="",
        metavar="SOURCE",
        help="ideal structures: a Parquet table or a folder of them, a folder or an archive of CIFs, "
        "'minerals', 'bgmn' or 'materials-project-samples' (of packages; what to install is told where they are "
        "missing), "
        "'materials-project' (key in MP_API_KEY), or 'random' for random crystals (default: built-in prototypes)",
    )
    run.add_argument(
        "--imperfect",
        default="",
        metavar="PATH",
        help="imperfect patterns: a Parquet table, or a folder with manifest.csv, .xy and .cif files "
        "(default: specimens measured virtually)",
    )
    run.add_argument(
        "--test",
        default="",
        metavar="PATH",
        help="imperfect patterns to be tested on alone, as --imperfect; those are then only trained on (default: a "
        "tenth of the imperfect patterns' materials)",
    )
    run.add_argument(
        "--keep-out",
        default="",
        metavar="PATH",
        help="patterns, as --imperfect, of materials that no classifier learns beside those of --imperfect and --test, "
        "so that it can be tested on them in another run (default: none)",
    )
    run.add_argument(
        "--classifiers",
        default="",
        metavar="RUN",
        help="a finished run whose classifiers are taken as they are; they must not have learnt a material that is "
        "tested on (default: train them)",
    )
    run.add_argument("--output", type=Path, metavar="DIR", help="folder of runs (default: runs)")
    run.add_argument(
        "--runner",
        choices=RUNNERS,
        help="what a task is: a process, or a container of its stage's image, from `make images` (default: subprocess)",
    )
    run.add_argument(
        "--verbose",
        action="store_true",
        help="print all that is said (default: a line a stage; the rest is in log.txt)",
    )
    run.set_defaults(command=_run)

    again = commands.add_parser(
        "reproduce", help="run a finished run again and compare", description=_reproduce.__doc__
    )
    again.add_argument("run", metavar="RUN", help="a finished run's folder, as runs/latest, or its id in MLflow")
    again.add_argument(
        "--output",
        type=Path,
        default=RUNS,
        metavar="DIR",
        help="folder of runs, for the new one, whose store is asked if MLFLOW_TRACKING_URI is not set (default: runs)",
    )
    again.add_argument("--anyway", action="store_true", help="compare also where revision or data are not the same")
    again.add_argument("--verbose", action="store_true", help="print all that is said")
    again.set_defaults(command=_reproduce)

    refine = commands.add_parser("refine", help="refine patterns", description=_refine.__doc__)
    refine.add_argument("paths", nargs="+", metavar="PATH", help="pattern files, folders of them, or a Parquet table")
    refine.add_argument(
        "--run", type=Path, metavar="DIR", help="a finished run, as runs/latest, whose models are taken instead"
    )
    refine.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for what is written")
    _pattern_options(refine, "", "the only one")
    refine.add_argument(
        "--model",
        metavar="FOLDER",
        help="a model that `release` made, or one of MLflow's as models:/imitation-refinement@champion or "
        "runs:/RUN_ID/NAME, from MLFLOW_TRACKING_URI or, without it, runs/ (default: that of the software); with --run "
        "a refiner of the run by its name, as densenet-targeted (default: the one the run selected)",
    )
    refine.add_argument(
        "--keep-angles",
        action="store_true",
        help="leave zero errors of 2θ as they are; with --run for patterns of another instrument than the training's",
    )
    refine.set_defaults(command=_refine)

    identify = commands.add_parser(
        "identify", help="say of which crystal system and phase patterns are", description=_identify.__doc__
    )
    identify.add_argument("paths", nargs="+", metavar="PATH", help="pattern files, folders of them, or a Parquet table")
    identify.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for what is written")
    _pattern_options(identify, "all", "all")
    identify.add_argument(
        "--model", type=Path, metavar="FOLDER", help="a model that `release` made (default: that of the software)"
    )
    identify.add_argument(
        "--library",
        metavar="SOURCE",
        help="what to search in instead of the model's library: a library, or structures to make one of (a table, a "
        "folder or an archive of CIFs)",
    )
    identify.add_argument(
        "--elements",
        default="",
        metavar="LIST",
        help="elements of the samples: 'Fe,O' only these may be there, '+Fe' must be, '-Pb' must not; together as "
        "--elements=+Fe,O (with =, where a minus comes first)",
    )
    identify.add_argument("--no-pictures", action="store_true", help="draw none: many times as fast")
    identify.add_argument(
        "--processes", type=int, metavar="N", help="how many work (default: one a core, fewer for few patterns)"
    )
    identify.set_defaults(command=_identify)

    _batch_commands(
        commands.add_parser("batch", help="identify very many patterns by a pipeline: run, compile, submit")
    )

    made = commands.add_parser("release", help="make the model that identify uses", description=_release.__doc__)
    made.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="the model; begun before, it goes on"
    )
    made.add_argument(
        "--structures",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="what the library and the networks know: tables, folders or archives of CIFs, 'minerals', "
        "'bgmn', 'materials-project-samples' (default: these three packages)",
    )
    made.add_argument(
        "--keep-out",
        default="",
        metavar="PATTERNS",
        help="a table with a column formula, or a folder with manifest.csv: no part learns these materials",
    )
    made.add_argument("--seed", type=int, help="seed of everything that is drawn (default: the profile's)")
    made.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change one option of pipelines/profiles/release.toml, as stream.samples=300000; may be repeated",
    )
    made.set_defaults(command=_release)

    page = commands.add_parser("web", help="open a local page for identify", description=_web.__doc__)
    page.add_argument(
        "--model", type=Path, metavar="FOLDER", help="the model that `release` made (default: the one that comes along)"
    )
    page.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address of this machine to serve at; any but its own interface asks for a token, which is printed "
        "(or taken from IMITATION_REFINEMENT_WEB_TOKEN) (default: 127.0.0.1)",
    )
    page.add_argument("--port", type=int, default=8321, help="port on this machine; 0: a free one (default: 8321)")
    page.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that the page may be asked for by, as behind a proxy; may be repeated",
    )
    page.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that answer (default: a core each, two at most)"
    )
    page.add_argument("--open", action="store_true", help="open the page in a browser")
    page.set_defaults(command=_web)

    tables = commands.add_parser(
        "tables", help="gather runs, one a seed, as the paper does", description=_tables.__doc__
    )
    tables.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a finished run's folder, as runs/latest")
    tables.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for what is written (default: tables beside the first run)"
    )
    tables.set_defaults(command=_tables)

    compiled = commands.add_parser("compile", help="write the pipeline as YAML", description=_compile.__doc__)
    _profile_options(compiled)
    _cluster_option(compiled)
    compiled.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the YAML file")
    compiled.set_defaults(command=_compile)

    submitted = commands.add_parser("submit", help="start the pipeline on a cluster", description=_submit.__doc__)
    _profile_options(submitted)
    _cluster_option(submitted)
    _submit_options(submitted)
    submitted.set_defaults(command=_submit)

    synced = commands.add_parser("sync", help="upload to MLflow what it has not got", description=_sync.__doc__)
    synced.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a run, as runs/latest, all runs, or the folder that was told"
    )
    synced.set_defaults(command=_sync)

    ui = commands.add_parser("ui", help="open the runs in MLflow", description=_ui.__doc__)
    ui.add_argument("--runs", type=Path, default=RUNS, metavar="DIR", help="folder of runs (default: runs)")
    ui.add_argument("--port", type=int, default=5000, help="port on this machine (default: 5000)")
    ui.add_argument("--open", action="store_true", help="open the page in a browser")
    ui.set_defaults(command=_ui)
    return parser


def _batch_commands(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    run = verbs.add_parser("run", help="on this machine", description=_batch_run.__doc__)
    compiled = verbs.add_parser("compile", help="write the pipeline as YAML", description=_batch_compile.__doc__)
    submitted = verbs.add_parser("submit", help="start it on a cluster", description=_batch_submit.__doc__)
    for verb in (run, compiled, submitted):
        needed: dict[str, Any] = {} if verb is submitted else {"nargs": "?", "default": ""}
        verb.add_argument("patterns", metavar="PATH", help="a folder of pattern files, or a Parquet table", **needed)
        verb.add_argument("--model", default="", metavar="FOLDER", help="a model (default: that of the software)")
        verb.add_argument("--library", default="", metavar="FILE", help="a library to search in (default: the model's)")
        _pattern_options(verb, "all", "all")
        verb.add_argument("--elements", default="", metavar="LIST", help="of the samples, as of identify")
        verb.add_argument("--shards", type=int, metavar="N", help="parts that are answered side by side (default: 2)")
        verb.add_argument("--processes", type=int, metavar="N", help="of each shard (default: one a core)")
    run.add_argument("--output", type=Path, metavar="DIR", help="folder of runs (default: runs)")
    run.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run that was cut, by its folder")
    run.add_argument("--verbose", action="store_true", help="print all that is said")
    run.set_defaults(command=_batch_run)
    for verb in (compiled, submitted):
        _cluster_option(verb)
    compiled.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the YAML file")
    compiled.set_defaults(command=_batch_compile)
    _server_options(submitted)
    submitted.set_defaults(command=_batch_submit)


def _pattern_options(parser: argparse.ArgumentParser, scan: str, default: str) -> None:
    parser.add_argument(
        "--wavelength",
        metavar="Å",
        help="wavelength of patterns whose files do not say, in Å, with its unit (0.15406 nm, 8.05 keV) or by name "
        "(CuKa1, Cu, MoKα, …); never assumed",
    )
    parser.add_argument(
        "--scan",
        default=scan,
        metavar="NUMBER",
        help=f"which of a file's several scans, from 1, several as 1,3, or all (default: {default})",
    )
    parser.add_argument(
        "--axis",
        metavar="NAME",
        help="axis of patterns whose files do not say, with its unit, as 'q (1/nm)', 'd (Å)', 'theta (deg)' "
        "(default: 2theta in degrees)",
    )


def _profile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", help="smoke, default, paper, paper-cpu, or a TOML file (default: default)")
    parser.add_argument("--seed", type=int, help="seed of everything that is drawn (default: the profile's)")
    parser.add_argument(
        "--portable",
        action="store_true",
        help="numbers that any x86-64 processor repeats to the bit: slower, and on CPUs alone",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change one option of the profile, as targeted.optimiser.epochs=3; may be repeated",
    )


def _cluster_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster", default="", metavar="FILE", help="the cluster's configuration, as deploy/cluster.toml"
    )


def _submit_options(parser: argparse.ArgumentParser) -> None:
    _server_options(parser)
    parser.add_argument(
        "--structures",
        default="",
        metavar="SOURCE",
        help="ideal structures: a path in the cluster's containers, 'minerals', 'bgmn' or 'materials-project-samples' "
        "(the image has them), 'materials-project' or 'random' (default: built-in prototypes)",
    )
    parser.add_argument(
        "--imperfect",
        default="",
        metavar="PATH",
        help="imperfect patterns: a path in the cluster's containers (default: specimens measured virtually)",
    )
    parser.add_argument(
        "--test", default="", metavar="PATH", help="imperfect patterns to be tested on alone, likewise (default: none)"
    )
    parser.add_argument(
        "--keep-out", default="", metavar="PATH", help="patterns of materials that no classifier learns (default: none)"
    )
    parser.add_argument(
        "--classifiers",
        default="",
        metavar="RUN",
        help="a finished run whose classifiers are taken, on the volume of the checkpoints (default: train them)",
    )


def _server_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default="",
        metavar="URL",
        help="the Kubeflow Pipelines server, as http://localhost:8080 (default: KF_PIPELINES_ENDPOINT)",
    )
    parser.add_argument("--namespace", default="", metavar="NAME", help="your namespace, where the server has several")
    parser.add_argument("--experiment", default="imitation-refinement", metavar="NAME", help="experiment of the run")
    parser.add_argument("--name", default="", help="what the run is called (default: profile, seed and time)")
    parser.add_argument(
        "--mlflow-experiment",
        default="",
        metavar="NAME",
        help="experiment that the MLflow plugin of Kubeflow Pipelines 2.17 logs to (default: the plugin's)",
    )
    parser.add_argument("--wait", action="store_true", help="wait for the run's end and exit with 1 if it fails")
    parser.add_argument(
        "--token-file",
        default="",
        metavar="FILE",
        help="a bearer token (default: KFP_EXISTING_TOKEN, the file that KF_PIPELINES_SA_TOKEN_PATH names, "
        "or the token of the pod this runs in)",
    )
    parser.add_argument(
        "--cookies", default="", metavar="FILE", help="session cookies, as name=value; … (default: KFP_COOKIES)"
    )
    parser.add_argument("--ca-certificate", default="", metavar="FILE", help="certificate authority of the server, PEM")


def _settings(arguments: argparse.Namespace) -> list[str]:
    seed = [f"seed={arguments.seed}"] if arguments.seed is not None else []
    return [*arguments.set, *seed, *(["portable=true"] if arguments.portable else [])]


def _sources(arguments: argparse.Namespace) -> dict[str, str]:
    from pipelines.profiles import SOURCES

    return {name: getattr(arguments, name) for name in SOURCES}


def _run(arguments: argparse.Namespace) -> None:
    """Runs the whole pipeline through KFP's local runner, every task a process or a container of its own.

    A run that was cut, at any moment, goes on with --resume: finished tasks are taken as they are, the result is the
    same.
    """
    from pipelines.local import absolute, check_same, resume, run_locally
    from pipelines.pages import hint
    from pipelines.profiles import read_profile

    settings, sources = _settings(arguments), _sources(arguments)
    with _task_failures():
        if arguments.resume:
            given = {name: path for name, path in absolute(sources).items() if path}
            check_same(arguments.resume, arguments.profile, settings, given, arguments.runner, arguments.output)
            folder = resume(arguments.resume, arguments.verbose)
        else:
            profile, runner = read_profile(arguments.profile or DEFAULT, settings), arguments.runner or RUNNERS[0]
            folder = run_locally(profile, sources, arguments.output or RUNS, runner, arguments.verbose)
    print(f"\n{(folder / 'results.txt').read_text(encoding='utf-8')}")
    print(f"report: {folder / 'report.html'}")
    print(f"MLflow: {hint(folder.parent)}")


def _reproduce(arguments: argparse.Namespace) -> None:
    """Runs a finished run again by its own configuration and sources, and says number by number which agree.

    Exits with 1 where any differs. It is not begun where the program's revision or the data are not the run's.
    """
    from pipelines.reproduce import reproduce

    with _task_failures():
        found = reproduce(arguments.run, arguments.output, arguments.anyway, arguments.verbose)
    print("\n".join(["", *found.lines()]))
    print(f"run again: {found.folder}")
    if found.differences:
        raise SystemExit(1)


def _refine(arguments: argparse.Namespace) -> None:
    """Refines patterns that no training has seen; writes refined.parquet, an .xy and a picture of each."""
    from imitation_refinement.refine import refine_files

    with _model_folder(None if arguments.run else arguments.model) as folder:
        given = {"run": arguments.run, "name": arguments.model} if arguments.run else {"folder": folder}
        refine_files(
            arguments.paths,
            arguments.output,
            arguments.wavelength,
            keep_angles=arguments.keep_angles,
            scan=arguments.scan,
            axis=arguments.axis,
            **given,
        )


@contextmanager
def _model_folder(model: str | None) -> Iterator[str | Path | None]:
    """The folder of a model, which is taken from MLflow's store first where it is there."""
    import os

    from pipelines.local import DATABASE, store_of

    if model is None or not model.startswith(("models:/", "runs:/")):
        yield model
        return
    store = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not store and not (RUNS / DATABASE).exists():
        problem = "is of MLflow, but MLFLOW_TRACKING_URI names no store, and no runs/ is here."
        raise InputError(model, problem, "Set it to the server, or go to the folder that holds runs/.")
    from imitation_refinement.tracking.served import fetched

    with fetched(model, store or store_of(RUNS)) as folder:
        yield folder


def _identify(arguments: argparse.Namespace) -> None:
    """Says of patterns the crystal system with its probability, and candidate phases, with what speaks for them.

    Writes answers.csv, answers.json, overview.html and a picture of each pattern; the same command goes on where it was
    stopped.
    """
    from imitation_refinement.answer.batch import identify_files
    from pipelines.library import library_file

    if arguments.processes is not None and arguments.processes < 1:
        raise InputError("--processes", f"{arguments.processes} is no number of processes.", "Give 1 or more.")
    library = library_file(arguments.library, arguments.output) if arguments.library else None
    summary = identify_files(
        arguments.paths,
        arguments.output,
        arguments.wavelength,
        arguments.model,
        library,
        arguments.elements,
        not arguments.no_pictures,
        arguments.processes,
        scan=arguments.scan,
        axis=arguments.axis,
    )
    _print_answers(summary.rows, summary.answered)


def _print_answers(rows: Sequence[Mapping[str, Any]], total: int) -> None:
    """The first answers as a table, for the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("pattern", "crystal system", "second", "phase", "peaks", "to be minded"):
        table.add_column(name, overflow="fold")
    for said in rows:
        first, phases = said["crystal_system"], said["candidates"]
        systems = [f"{said[name]} {said[p]:.0%}" if first else "–" for name, p in _TWO_SYSTEMS]
        phase = f"{phases[0]['formula']} ({phases[0]['space_group']}) {phases[0]['probability']:.0%}" if phases else "–"
        peaks = f"{phases[0]['peaks_explained']}/{len(said['peaks'])}" if phases else ""
        cells = (said["pattern_id"], *systems, phase, peaks, ": ".join(filter(None, (said["flag"], said["reason"]))))
        table.add_row(*map(Text, cells))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)
    if total > len(rows):
        print(f"… and {total - len(rows)} more")


def _web(arguments: argparse.Namespace) -> None:
    """Serves a page on this machine: pattern files in, the answers of identify to look at, and to take away."""
    from web.server import serve

    serve(arguments.model, arguments.host, arguments.port, arguments.allow_host, arguments.workers, arguments.open)


def _release(arguments: argparse.Namespace) -> None:
    """Makes a model for identify: a library of lines, networks that learn from virtual measurements, their fusion."""
    from pipelines.release import read_release, release

    given = {"keep_out": arguments.keep_out, "structures": arguments.structures, "seed": arguments.seed}
    config = read_release(
        arguments.set, **{name: value for name, value in given.items() if value not in ("", [], None)}
    )
    release(arguments.output, config)


def _tables(arguments: argparse.Namespace) -> None:
    """Gathers runs that differ in their seed only: the paper's tables with spread, tests, and the paper's numbers."""
    from imitation_refinement.study.tables import write_tables

    print(write_tables(arguments.runs, arguments.output))


def _compile(arguments: argparse.Namespace) -> None:
    """Compiles the pipeline to YAML for a Kubeflow Pipelines cluster, with the profile's options as its defaults."""
    from pipelines.cluster import read_cluster
    from pipelines.compile import compile_pipeline
    from pipelines.profiles import read_profile

    profile, cluster = read_profile(arguments.profile or DEFAULT, _settings(arguments)), read_cluster(arguments.cluster)
    compile_pipeline(profile, arguments.output, cluster)
    print(f"pipeline: {arguments.output}")


def _submit(arguments: argparse.Namespace) -> None:
    """Uploads the pipeline to a Kubeflow Pipelines server as a version, starts a run, and waits for it if asked."""
    from pipelines.cluster import read_cluster
    from pipelines.compile import compile_pipeline
    from pipelines.profiles import read_profile
    from pipelines.submit import run_parameters

    profile = read_profile(arguments.profile or DEFAULT, _settings(arguments))
    cluster = read_cluster(arguments.cluster)
    parameters = run_parameters(profile.parameters(), _sources(arguments), cluster)
    name = arguments.name or f"{profile.name} seed {profile.seed} {_now()}"
    _submitted(arguments, lambda package: compile_pipeline(profile, package, cluster), parameters, name)


def _submitted(
    arguments: argparse.Namespace, compile_to: Callable[[Path], None], parameters: Mapping[str, Any], name: str
) -> None:
    """Uploads a pipeline, starts a run, and waits for it if asked."""
    import tempfile

    from pipelines.server import Access, Server
    from pipelines.submit import submit, watch

    access = Access(
        arguments.host, arguments.namespace, arguments.token_file, arguments.cookies, arguments.ca_certificate
    )
    server = Server(access)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_to(package)
        submission = submit(server, package, parameters, name, arguments.experiment, arguments.mlflow_experiment)
    print(f"run: {submission.link}", flush=True)
    if arguments.wait:
        with _task_failures():
            watch(server, submission)
        print("succeeded")


def _now() -> str:
    from datetime import UTC, datetime

    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


def _batch(arguments: argparse.Namespace) -> BatchConfig:
    from pipelines.batch import read_batch

    stage = {name: getattr(arguments, name) for name in ("wavelength", "elements", "scan", "axis", "processes")}
    stage = {name: value for name, value in stage.items() if value not in ("", None)}
    given = {name: getattr(arguments, name) for name in ("patterns", "model", "library", "shards")}
    return read_batch(**given, identify=stage)


def _batch_run(arguments: argparse.Namespace) -> None:
    """Identifies patterns in shards, two at a time, each in a process; gathers the answers in answers.parquet."""
    from pipelines.batch import BatchConfig, resume_batch, run_batch

    config = _batch(arguments)
    if arguments.resume and (arguments.output or config != BatchConfig()):
        raise InputError("--resume", "goes on with a run's own options; others are given, too.", "Leave those out.")
    with _task_failures():
        if arguments.resume:
            folder = resume_batch(arguments.resume, arguments.verbose)
        else:
            folder = run_batch(config, arguments.output or RUNS, arguments.verbose)
    print(f"answers: {folder / 'answers.parquet'}")


def _batch_compile(arguments: argparse.Namespace) -> None:
    """Compiles the pipeline of identify to YAML for a Kubeflow Pipelines cluster."""
    from pipelines.batch import compile_batch
    from pipelines.cluster import read_cluster

    compile_batch(_batch(arguments), arguments.output, read_cluster(arguments.cluster))
    print(f"pipeline: {arguments.output}")


def _batch_submit(arguments: argparse.Namespace) -> None:
    """Uploads the pipeline of identify to a Kubeflow Pipelines server, starts a run, and waits for it if asked."""
    from pipelines.batch import compile_batch, paths_there
    from pipelines.cluster import read_cluster

    config, cluster = _batch(arguments), read_cluster(arguments.cluster)
    parameters = {**config.parameters(), **paths_there(config, cluster)}
    name = arguments.name or f"identify {_now()}"
    _submitted(arguments, lambda package: compile_batch(config, package, cluster), parameters, name)


def _sync(arguments: argparse.Namespace) -> None:
    """Uploads what runs could not tell MLflow while its store did not answer, with the steps and times as they were.

    To the store that MLFLOW_TRACKING_URI names, or else the one that the run was to go to. Exits with 1 where something
    still waits.
    """
    from imitation_refinement.tracking.upload import sync

    if sync(arguments.folder):
        raise SystemExit(1)


def _ui(arguments: argparse.Namespace) -> None:
    """Serves MLflow's pages of all runs on this machine; of runs that a server tracks it says where they are."""
    from pipelines.pages import show

    show(arguments.runs, arguments.port, arguments.open)
