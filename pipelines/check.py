"""The compile check: whether a compiled pipeline is whole before a cluster sees it. ``python -m pipelines.check FILE``.

Both documents of the YAML are read strictly against their protobuf definitions, every reference is resolved, every
required input must be bound, every image built, and nothing may rest on what only the local runner does, or on this
machine's files.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import (
    ComponentSpec,
    ParameterType,
    PipelineDeploymentConfig,
    PipelineSpec,
    PipelineTaskSpec,
    PlatformSpec,
)
from pydantic import ValidationError

from components.identify.config import IdentifyConfig
from imitation_refinement.errors import InputError
from imitation_refinement.files import read_bytes
from imitation_refinement.learning.config import PretrainConfig
from imitation_refinement.learning.model_files import model_name
from imitation_refinement.options import config_error
from imitation_refinement.running.images import STAGES, TORCH, repository
from imitation_refinement.running.launch import CHECKPOINTS_VARIABLE, RUN_VARIABLE
from imitation_refinement.running.stage import exit_on_input_error
from pipelines.cluster import below
from pipelines.profiles import Profile
from pipelines.studies import OPTIONS, Task

SINGLE_OUTPUT = "Output"  # the key of what a component returns
ADVISORY = "GHSA-rhjm-6347-5x33"
REFERENCE = re.compile(r"inputs\.parameter_values\['([^']+)'\]|(pipelinechannel--[\w-]+)")  # in a condition
HOST_PATH = re.compile(r"^(/|~|file:|[A-Za-z]:\\)")


def built_images() -> dict[str, frozenset[str]]:
    """Every image that is built: its name without registry and tag → the suffixes that its tags may have."""
    return {repository(stage): frozenset({"", "-cuda"} if stage in TORCH else {""}) for stage in STAGES}


@dataclass(frozen=True)
class Compiled:
    """A compiled pipeline, parsed.

    Attributes:
        pipeline: the pipeline spec.
        executors: label → container or importer.
        platform: label → what Kubernetes gives it.
        paths: path in a parameter → (who takes it, whether it is on a volume there), filled by the check.
    """

    pipeline: PipelineSpec
    executors: Mapping[str, PipelineDeploymentConfig.ExecutorSpec]
    platform: Mapping[str, KubernetesExecutorConfig]
    paths: dict[str, list[tuple[str, bool]]] = field(default_factory=dict)


def check_pipeline(path: Path, where: object = None) -> None:
    """Refuses a compiled pipeline that a cluster could not run.

    Args:
        path: the YAML file.
        where: what messages call it; the path by default.

    Raises:
        InputError: with everything that is wrong, each by the name of its task and field.
    """
    remedy = "Correct this, and compile it again."
    try:
        documents = list(yaml.load_all(read_bytes(path), _StrictLoader))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of a date or a number that is none
        raise InputError(where or path, f"is no readable YAML ({error}).", remedy) from None
    except RecursionError:
        raise InputError(where or path, "is nested too deeply.", remedy) from None
    try:
        compiled = _parsed(documents)
    except ValueError as error:
        raise InputError(where or path, f"is no compiled pipeline: {error}.", remedy) from None
    if found := sorted(set(_problems(compiled))):
        raise InputError(where or path, f"{'; '.join(found)}.", remedy)


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; YAML's own rule takes the last in silence.

    And references: no compiler writes one, and a few lines of them may stand for more than any memory holds.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "it holds a reference (*)", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _parsed(documents: Sequence[Any]) -> Compiled:
    """Both documents as messages, without a field that their definitions don't have."""
    if len(documents) not in (1, 2) or not all(isinstance(d, dict) for d in documents):
        raise ValueError("it is not a pipeline spec, followed by a platform spec")
    pipeline = _message("pipeline spec", documents[0], PipelineSpec())
    deployment = _message("deploymentSpec", documents[0].get("deploymentSpec", {}), PipelineDeploymentConfig())
    platform: dict[str, KubernetesExecutorConfig] = {}
    if len(documents) == 2:
        spec = _message("platform spec", documents[1], PlatformSpec())
        if unknown := set(spec.platforms) - {"kubernetes"}:
            raise ValueError(f"platform spec, platforms: {', '.join(sorted(unknown))} is no platform here")
        for label, own in (
            documents[1]["platforms"]["kubernetes"].get("deploymentSpec", {}).get("executors", {}).items()
        ):
            platform[label] = _message(f"platform spec, executor {label}", own, KubernetesExecutorConfig())
    return Compiled(pipeline, dict(sorted(deployment.executors.items())), platform)  # protobuf keeps no order


def _message(where: str, content: Any, message: Any) -> Any:
    try:
        return json_format.ParseDict(content, message)
    except (json_format.ParseError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{where}: {error}") from None


def _problems(compiled: Compiled) -> Iterator[str]:
    root = compiled.pipeline.root
    used: set[str] = set()
    values = _defaults_of(root)
    yield from _component("root", "root", root, compiled, values, frozenset(), used)
    for name in sorted(set(compiled.pipeline.components) - used):
        yield f"component {name}: is of no task"
    for label in sorted(set(compiled.executors) - {c.executor_label for c in compiled.pipeline.components.values()}):
        yield f"executor {label}: is of no component"
    for label in sorted(set(compiled.platform) - set(compiled.executors)):
        yield f"platform spec, executor {label}: there is no such executor"
    for label, executor in compiled.executors.items():
        yield from _executor(f"executor {label}", executor, compiled.platform.get(label, KubernetesExecutorConfig()))
    yield from _keys_of_checkpoints(compiled)
    for path, takers in compiled.paths.items():
        if not any(mounted for _, mounted in takers):
            yield f"{min(takers)[0]}: {path} is a path of one machine, on no volume of the task"
    yield from _defaults(values)


def _component(
    where: str,
    name: str,
    component: ComponentSpec,
    compiled: Compiled,
    values: Mapping[str, Any],
    put_out: frozenset[str],
    used: set[str],
) -> Iterator[str]:
    """What is wrong with a component in the place where a task uses it.

    Args:
        where: the task, or root.
        name: the component's.
        component: the same, parsed.
        compiled: the pipeline.
        values: input parameter → its value, where that is known before a run.
        put_out: input parameters whose values tasks put out.
        used: names of components that were seen; this one's are added.
    """
    if not component.HasField("dag"):
        label = component.executor_label
        if label not in compiled.executors:
            yield f"component {name}, executorLabel: there is no executor {label!r}"
        mounts = [mount.mount_path for mount in compiled.platform.get(label, KubernetesExecutorConfig()).pvc_mount]
        for parameter, value in values.items():
            for path in filter(HOST_PATH.match, _strings(value)):
                mounted = any(below(path, mount) for mount in mounts)
                compiled.paths.setdefault(path, []).append((f"{where}, inputs.parameters.{parameter}", mounted))
        return
    tasks = component.dag.tasks
    for task_name, task in tasks.items():
        inside = f"task {task_name}"
        used.add(task.component_ref.name)
        target = compiled.pipeline.components.get(task.component_ref.name)
        if target is None:
            yield f"{inside}, componentRef: there is no component {task.component_ref.name!r}"
            continue
        made = _put_out(task, put_out)
        yield from _dependencies(inside, task, tasks)
        yield from _condition(inside, task, made)
        yield from _inputs(inside, task, target, component, compiled)
        yield from _iterator(inside, task, target)
        known = {**_defaults_of(target), **_known(task, values)}
        yield from _component(inside, task.component_ref.name, target, compiled, known, made, used)
    yield from _outputs(where, component, compiled)
    try:
        TopologicalSorter({n: [d for d in t.dependent_tasks if d in tasks] for n, t in tasks.items()}).prepare()
    except CycleError as error:
        yield f"{where}, dag: {' → '.join(error.args[1])} wait for each other"


def _dependencies(where: str, task: PipelineTaskSpec, tasks: Mapping[str, PipelineTaskSpec]) -> Iterator[str]:
    for name in task.dependent_tasks:
        if name not in tasks:
            yield f"{where}, dependentTasks: there is no task {name!r}"


def _put_out(task: PipelineTaskSpec, put_out: frozenset[str]) -> frozenset[str]:
    """A task's inputs whose values tasks put out, directly or through the DAG that it is in.

    Args:
        task: the task.
        put_out: such inputs of that DAG.
    """
    found = {
        name
        for name, source in task.inputs.parameters.items()
        if source.HasField("task_output_parameter") or source.component_input_parameter in put_out
    }
    if task.parameter_iterator.items.input_parameter in found:
        found.add(task.parameter_iterator.item_input)
    return frozenset(found)


def _condition(where: str, task: PipelineTaskSpec, put_out: frozenset[str]) -> Iterator[str]:
    """No condition rests on what a task put out; ``put_out`` are such inputs of the task."""
    for name in sorted({a or b for a, b in REFERENCE.findall(task.trigger_policy.condition)}):
        if name in put_out:
            yield (
                f"{where}, triggerPolicy.condition: rests on {name}, which a task puts out; KFP's local runner up to "
                f"2.17.3 evaluates such text as code ({ADVISORY}, mended in 2.18.1)"
            )
        elif name not in task.inputs.parameters:
            yield f"{where}, triggerPolicy.condition: names {name}, which is no input of the task"


def _inputs(
    where: str, task: PipelineTaskSpec, target: ComponentSpec, parent: ComponentSpec, compiled: Compiled
) -> Iterator[str]:
    """Every input has a place in the component, comes from somewhere of its kind, and none is missing."""
    given, defined = task.inputs, target.input_definitions
    items = {task.parameter_iterator.item_input, task.artifact_iterator.item_input}
    for kind, bound, wanted in (
        ("parameters", given.parameters, defined.parameters),
        ("artifacts", given.artifacts, defined.artifacts),
    ):
        for name in bound:
            if name not in wanted:
                yield f"{where}, inputs.{kind}.{name}: component {task.component_ref.name} has no such input"
        for name, definition in wanted.items():
            optional = definition.is_optional or (kind == "parameters" and definition.HasField("default_value"))
            if name not in bound and name not in items and not optional:
                yield f"{where}, inputs.{kind}.{name}: is bound to nothing"
    for kind in ("parameter", "artifact"):
        kinds = f"{kind}s"
        for name, source in getattr(given, kinds).items():
            place, origin = f"{where}, inputs.{kinds}.{name}", source.WhichOneof("kind")
            wanted = getattr(defined, kinds).get(name)
            if origin == "runtime_value":
                yield from _constant(place, json_format.MessageToDict(source.runtime_value.constant), wanted)
            elif origin == f"component_input_{kind}":
                yield from _source(place, getattr(source, origin), getattr(parent.input_definitions, kinds), wanted)
            elif origin == f"task_output_{kind}":
                output = getattr(source, origin)
                producer = output.producer_task
                outputs = yield from _producer(place, producer, task, parent, compiled)
                if outputs:
                    key = getattr(output, f"output_{kind}_key")
                    yield from _source(f"{place}, of {producer}", key, getattr(outputs, kinds), wanted)
            else:
                yield f"{place}: is bound to nothing that is known here"


def _producer(
    place: str, producer: str, task: PipelineTaskSpec, parent: ComponentSpec, compiled: Compiled
) -> Generator[str, None, Any]:
    """The outputs of the task that an input comes from; it must be in the same DAG, and be waited for."""
    if producer not in parent.dag.tasks:
        yield f"{place}: there is no task {producer!r} beside it"
        return None
    if producer not in task.dependent_tasks:
        yield f"{place}: comes from {producer}, which dependentTasks does not wait for"
    component = compiled.pipeline.components.get(parent.dag.tasks[producer].component_ref.name)
    return component.output_definitions if component is not None else None  # reported where the producer is seen


def _source(place: str, key: str, there: Mapping[str, Any], wanted: Any) -> Iterator[str]:
    """An input's source is there, and of the input's kind."""
    if key not in there:
        yield f"{place}: there is no {key!r}"
        return
    if wanted is None:  # no such input; reported already
        return
    found, kind = _kind(there[key]), _kind(wanted)
    if found != kind and kind != "system.Artifact":
        yield f"{place}: {key} is {found}, not {kind}"


def _kind(definition: Any) -> str:
    """A parameter's type, or an artifact's."""
    if hasattr(definition, "parameter_type"):
        return ParameterType.ParameterTypeEnum.Name(definition.parameter_type)
    return f"list of {_title(definition)}" if definition.is_artifact_list else _title(definition)


def _title(definition: Any) -> str:
    return str(definition.artifact_type.schema_title)


def _constant(place: str, value: Any, wanted: Any) -> Iterator[str]:
    """A constant is of the parameter's type, whole numbers included, which travel as floats."""
    if isinstance(value, str) and len(re.findall(r"\{\{\$[^}]*loop-item", value)) > 1:
        yield f"{place}: puts several items of loops into one text, which the local runner can't"
    if wanted is None or (isinstance(value, str) and "{{$" in value):
        return
    enum = ParameterType.ParameterTypeEnum
    types: dict[int, tuple[type, ...]] = {
        enum.NUMBER_INTEGER: (int, float),
        enum.NUMBER_DOUBLE: (int, float),
        enum.STRING: (str,),
        enum.BOOLEAN: (bool,),
        enum.LIST: (list,),
        enum.STRUCT: (dict,),
    }
    kind = wanted.parameter_type
    if type(value) not in types.get(kind, (type(value),)) or (kind == enum.NUMBER_INTEGER and value != int(value)):
        yield f"{place}: {value!r} is no {enum.Name(kind)}"


def _iterator(where: str, task: PipelineTaskSpec, target: ComponentSpec) -> Iterator[str]:
    """What a loop runs over is given to it, a list, and no named output, and its item has a place."""
    kind = task.WhichOneof("iterator")
    if kind is None:
        return
    loop = getattr(task, kind)
    kinds, place = kind.split("_")[0] + "s", f"{where}, {kind.replace('_i', 'I')}"
    there = getattr(target.input_definitions, kinds)
    if loop.item_input not in there:
        yield f"{place}.itemInput: the component has no input {loop.item_input!r}"
    items = loop.items
    if kind == "parameter_iterator" and items.HasField("raw"):
        try:
            if not isinstance(json.loads(items.raw), list):
                yield f"{place}.items.raw: is no list"
        except ValueError:
            yield f"{place}.items.raw: is no JSON"
        return
    name = items.input_parameter if kind == "parameter_iterator" else items.input_artifact
    bound = getattr(task.inputs, kinds)
    if name not in bound:
        yield f"{place}.items: {name!r} is not among the task's inputs"
    elif kind == "parameter_iterator":
        source = bound[name]
        key = source.task_output_parameter.output_parameter_key
        if source.HasField("task_output_parameter") and key != SINGLE_OUTPUT:
            yield f"{place}.items: rests on the named output {key!r}, over which the local runner can't loop"
        if name in there and there[name].parameter_type != ParameterType.LIST:
            yield f"{place}.items: {name} is no LIST"


def _outputs(where: str, component: ComponentSpec, compiled: Compiled) -> Iterator[str]:
    """A DAG's outputs come from tasks in it."""
    tasks, given = component.dag.tasks, component.dag.outputs
    for name in [*component.output_definitions.artifacts, *component.output_definitions.parameters]:
        if name not in given.artifacts and name not in given.parameters:
            yield f"{where}, dag.outputs: {name} is bound to nothing"
    sources: list[tuple[str, str, str, str]] = []
    for name, output in given.artifacts.items():
        if len(output.artifact_selectors) > 1:
            yield f"{where}, dag.outputs.{name}: is one artifact of several, which the local runner can't choose"
        sources += [(name, s.producer_subtask, s.output_artifact_key, "artifacts") for s in output.artifact_selectors]
    for name, output in given.parameters.items():
        selectors = [output.value_from_parameter] if output.HasField("value_from_parameter") else []
        selectors += output.value_from_oneof.parameter_selectors
        sources += [(name, s.producer_subtask, s.output_parameter_key, "parameters") for s in selectors]
    for name, producer, key, kinds in sources:
        place = f"{where}, dag.outputs.{name}"
        if producer not in tasks:
            yield f"{place}: there is no task {producer!r} in it"
            continue
        made = compiled.pipeline.components.get(tasks[producer].component_ref.name)
        if made is not None and key not in getattr(made.output_definitions, kinds):
            yield f"{place}: {producer} has no output {key!r}"


def _executor(
    where: str, executor: PipelineDeploymentConfig.ExecutorSpec, own: KubernetesExecutorConfig
) -> Iterator[str]:
    """An executor's image is built, everything is in it, and no environment variable or mount stands twice."""
    if executor.HasField("importer"):
        uri = executor.importer.artifact_uri.constant.string_value
        if uri and "://" not in uri:
            yield f"{where}, importer.artifactUri: {uri} is a path of one machine; the local runner alone takes it"
        return
    container = executor.container
    yield from _image(f"{where}, container.image", container.image)
    if "pip install" in " ".join(container.command):
        yield f"{where}, container.command: installs packages; they belong in the image"
    variables = [variable.name for variable in container.env]
    variables += [pair.env_var for secret in own.secret_as_env for pair in secret.key_to_env]
    variables += [pair.env_var for config in own.config_map_as_env for pair in config.key_to_env]
    variables += [path.name for path in own.field_path_as_env]
    mounts = [mount.mount_path for mount in (*own.pvc_mount, *own.empty_dir_mounts)]
    for kind, names in (("environment variable", variables), ("mount", mounts)):
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{where}: the {kind} {name} stands twice"


def _image(place: str, image: str) -> Iterator[str]:
    name, colon, tag = image.rpartition(":")
    found = [known for known in built_images() if name == known or name.endswith(f"/{known}")]
    if not colon or "/" in tag:
        yield f"{place}: {image} has no tag"
    elif not found:
        yield f"{place}: {image} is not built here"
    elif tag == "latest":
        yield f"{place}: {image} names another image tomorrow"
    elif tag.endswith("-cuda") and "-cuda" not in built_images()[found[0]]:
        yield f"{place}: {image} is not built with CUDA"


def _keys_of_checkpoints(compiled: Compiled) -> Iterator[str]:
    """Where checkpoints outlive a pod, they are on a volume, under the name of the run."""
    for label, executor in compiled.executors.items():
        own = compiled.platform.get(label, KubernetesExecutorConfig())
        told = {variable.name: variable.value for variable in executor.container.env}
        folder = told.get(CHECKPOINTS_VARIABLE)
        if not folder:
            continue
        if not any(below(folder, mount.mount_path) for mount in own.pvc_mount):
            yield f"executor {label}, env.{CHECKPOINTS_VARIABLE}: {folder} is on no volume"
        if RUN_VARIABLE not in {path.name for path in own.field_path_as_env}:
            yield f"executor {label}, env.{RUN_VARIABLE}: is missing, so that runs would share checkpoints"


def _defaults(values: Mapping[str, Any]) -> Iterator[str]:
    """The options hold as they arrive on a cluster, where every number has become a float."""
    stages = {name: value for name, value in values.items() if isinstance(value, dict)}
    try:
        IdentifyConfig.model_validate(stages.pop("identify", {}))  # of the pipeline that identifies
    except ValidationError as error:
        yield f"root, parameters: {config_error('identify', error).problem}"
    if unknown := sorted(set(stages) - set(Profile.model_fields)):
        yield f"root, parameters: {', '.join(unknown)} are options of no stage"
        return
    try:
        Profile.model_validate({"name": "check", **stages})
    except ValidationError as error:
        yield f"root, parameters: {config_error('options', error).problem}"
    yield from _trainings(values)
    shards, n_shards = values.get("shards"), values.get("n_shards")
    if shards is not None and shards != list(range(int(n_shards or 0))):
        yield f"root, parameters.shards: is {shards}, not 0 to n_shards − 1, with n_shards {n_shards}"


def _trainings(values: Mapping[str, Any]) -> Iterator[str]:
    """The tasks of the loops hold, each has a label of its own, and the classifier that it starts from is trained."""
    labels, trained = set(), set()
    for loop, kind in OPTIONS.items():
        for number, given in enumerate(values.get(loop) or []):
            place = f"root, parameters.{loop}[{number}]"
            try:
                task = Task.model_validate(given)
                config = kind.model_validate(task.config)
            except ValidationError as error:
                yield f"{place}: {config_error('options', error).problem}"
                continue
            if task.label in labels:
                yield f"{place}: another task is labelled {task.label!r}, too, and they would share checkpoints"
            labels.add(task.label)
            if loop == "pretrain" and isinstance(config, PretrainConfig):
                trained.add(model_name(config.network.architecture, config.method))
            elif kind is not PretrainConfig and task.classifier not in trained:
                yield f"{place}: starts from {task.classifier!r}, which no task of pretrain trains"


def _defaults_of(component: ComponentSpec) -> dict[str, Any]:
    """Input parameter → its default."""
    found = component.input_definitions.parameters.items()
    return {n: json_format.MessageToDict(p.default_value) for n, p in found if p.HasField("default_value")}


def _known(task: PipelineTaskSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a task's input parameters that are known before a run."""
    known = {}
    for name, source in task.inputs.parameters.items():
        if source.HasField("component_input_parameter") and source.component_input_parameter in values:
            known[name] = values[source.component_input_parameter]
        elif source.HasField("runtime_value"):
            known[name] = json_format.MessageToDict(source.runtime_value.constant)
    return known


def _strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def main(argv: Sequence[str] | None = None) -> None:
    """Checks files; exits with 2 at the first that a cluster could not run."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.check", description="Checks compiled pipelines.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a compiled pipeline, YAML")
    for path in parser.parse_args(argv).files:
        with exit_on_input_error():
            check_pipeline(path)
        print(f"{path}: whole")


if __name__ == "__main__":
    main()
