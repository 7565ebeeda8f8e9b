"""The compile check: what the compiler writes is whole, and whatever is broken is named by its task and field."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from imitation_refinement.errors import InputError
from pipelines.check import built_images, check_pipeline, main
from pipelines.cluster import Cluster, read_cluster
from pipelines.compile import compile_pipeline
from pipelines.profiles import BUILT_IN, read_profile

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "cluster.toml"
Documents = list[dict[str, Any]]


@pytest.mark.parametrize("profile", BUILT_IN)
@pytest.mark.parametrize("cluster", ["", EXAMPLE])
def test_what_is_compiled_is_whole(profile: str, cluster: str | Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "p.yaml"
    compile_pipeline(read_profile(profile), path, read_cluster(cluster))
    main([str(path)])
    assert capsys.readouterr().out == f"{path}: whole\n"


def test_every_stage_s_image_is_built() -> None:
    folders = {path.parent.name for path in (ROOT / "components").glob("*/component.py")}
    assert set(built_images()) == {f"imitation-refinement/{f.replace('_', '-')}-python" for f in folders}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    path = tmp_path_factory.mktemp("whole") / "p.yaml"
    compile_pipeline(read_profile("smoke"), path, read_cluster(EXAMPLE))
    return list(yaml.safe_load_all(path.read_text()))


@pytest.fixture
def broken(whole: Documents, tmp_path: Path) -> Callable[[Callable[[Any, Any], object]], Path]:
    def break_it(change: Callable[[Any, Any], object]) -> Path:
        documents = copy.deepcopy(whole)
        change(*documents)
        path = tmp_path / "broken.yaml"
        path.write_text("\n---\n".join(map(json.dumps, documents)))  # without YAML's references
        return path

    return break_it


def root(spec: Any) -> Any:
    return spec["root"]["dag"]["tasks"]


def executors(spec: Any) -> Any:
    return spec["deploymentSpec"]["executors"]


def kubernetes(platform: Any) -> Any:
    return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def loop(spec: Any) -> Any:
    return spec["components"]["comp-for-loop-1"]["dag"]


def refiner(spec: Any) -> Any:
    return spec["components"]["comp-for-loop-2"]["dag"]["tasks"]["train-refiner"]


def default(spec: Any, name: str) -> Any:
    return spec["root"]["inputDefinitions"]["parameters"][name]["defaultValue"]


def shards(spec: Any) -> Any:
    """A constant whole number, in the place of a parameter."""
    found = loop(spec)["tasks"]["simulate"]["inputs"]["parameters"]
    found["shards"] = {"runtimeValue": {"constant": 1}}
    return found["shards"]["runtimeValue"]


def condition_on_an_output(spec: Any) -> None:
    spec["components"]["comp-baselines"]["outputDefinitions"]["parameters"] = {"found": {"parameterType": "STRING"}}
    task = root(spec)["evaluate"]
    source = {"producerTask": "baselines", "outputParameterKey": "found"}
    task["inputs"]["parameters"]["structures"] = {"taskOutputParameter": source}
    task["triggerPolicy"] = {"condition": "inputs.parameter_values['structures'] == 'x'"}


def condition_in_a_loop(spec: Any) -> None:
    """The output is an input of the loop there."""
    outputs = {"parts": {"parameterType": "NUMBER_INTEGER"}}
    spec["components"]["comp-collect-structures"]["outputDefinitions"]["parameters"] = outputs
    source = {"producerTask": "collect-structures", "outputParameterKey": "parts"}
    root(spec)["for-loop-1"]["inputs"]["parameters"]["pipelinechannel--n_shards"] = {"taskOutputParameter": source}
    loop(spec)["tasks"]["simulate"]["triggerPolicy"] = {"condition": "int(inputs.parameter_values['shards']) > 1"}


def condition_on_an_item(spec: Any) -> None:
    outputs = {"Output": {"parameterType": "LIST"}}
    spec["components"]["comp-collect-structures"]["outputDefinitions"]["parameters"] = outputs
    source = {"producerTask": "collect-structures", "outputParameterKey": "Output"}
    root(spec)["for-loop-1"]["inputs"]["parameters"]["pipelinechannel--shards"] = {"taskOutputParameter": source}
    loop(spec)["tasks"]["simulate"]["triggerPolicy"] = {"condition": "int(inputs.parameter_values['shard']) > 1"}


def loop_over_named_output(spec: Any) -> None:
    spec["components"]["comp-collect-structures"]["outputDefinitions"]["parameters"] = {
        "parts": {"parameterType": "LIST"}
    }
    source = {"producerTask": "collect-structures", "outputParameterKey": "parts"}
    root(spec)["for-loop-1"]["inputs"]["parameters"]["pipelinechannel--shards"] = {"taskOutputParameter": source}


def one_of(spec: Any) -> None:
    selectors = loop(spec)["outputs"]["artifacts"]["pipelinechannel--simulate-ideal"]["artifactSelectors"]
    selectors.append({"producerSubtask": "simulate", "outputArtifactKey": "extra"})


def importer(spec: Any) -> None:
    executors(spec)["exec-baselines"] = {"importer": {"artifactUri": {"constant": "/home/me/x"}}}


BROKEN: dict[str, tuple[Callable[[Any, Any], object], str]] = {
    # strictly by the protobufs
    "unknown field of a task": (lambda s, p: root(s)["evaluate"].update(color="red"), 'no field named "color"'),
    "unknown field of a container": (
        lambda s, p: executors(s)["exec-simulate"]["container"].update(colour="red"),
        'deploymentSpec: .*no field named "colour"',
    ),
    "unknown field of Kubernetes": (
        lambda s, p: kubernetes(p)["exec-simulate"].update(nodeSelektor={}),
        'platform spec, executor exec-simulate: .*"nodeSelektor"',
    ),
    "wrong type": (lambda s, p: root(s)["evaluate"].update(dependentTasks="baselines"), "pipeline spec: .*repeated"),
    "unknown platform": (lambda s, p: p["platforms"].update(mesos={}), "platforms: mesos is no platform here"),
    # references
    "component": (
        lambda s, p: root(s)["evaluate"]["componentRef"].update(name="comp-x"),
        "task evaluate, componentRef: there is no component 'comp-x'",
    ),
    "executor": (
        lambda s, p: s["components"]["comp-evaluate"].update(executorLabel="exec-x"),
        "component comp-evaluate, executorLabel: there is no executor 'exec-x'",
    ),
    "unused component": (lambda s, p: root(s).pop("evaluate"), "component comp-evaluate: is of no task"),
    "unused executor": (
        lambda s, p: executors(s).update({"exec-x": executors(s)["exec-simulate"]}),
        "executor exec-x: is of no component",
    ),
    "executor of Kubernetes": (lambda s, p: kubernetes(p).update({"exec-x": {}}), "platform spec, executor exec-x"),
    "dependent task": (
        lambda s, p: root(s)["evaluate"]["dependentTasks"].append("nobody"),
        "task evaluate, dependentTasks: there is no task 'nobody'",
    ),
    "circle": (
        lambda s, p: root(s)["preprocess"]["dependentTasks"].append("evaluate"),
        "root, dag: .*evaluate.* wait for each other",
    ),
    "producer": (
        lambda s, p: root(s)["evaluate"]["inputs"]["artifacts"]["dwt"]["taskOutputArtifact"].update(producerTask="x"),
        "task evaluate, inputs.artifacts.dwt: there is no task 'x' beside it",
    ),
    "producer that is not waited for": (
        lambda s, p: root(s)["evaluate"]["dependentTasks"].remove("baselines"),
        "task evaluate, inputs.artifacts.dwt: comes from baselines, which dependentTasks",
    ),
    "output of the producer": (
        lambda s, p: root(s)["evaluate"]["inputs"]["artifacts"]["dwt"]["taskOutputArtifact"].update(
            outputArtifactKey="x"
        ),
        "task evaluate, inputs.artifacts.dwt, of baselines: there is no 'x'",
    ),
    "another kind of artifact": (
        lambda s, p: root(s)["evaluate"]["inputs"]["artifacts"].update(
            pretrain=root(s)["evaluate"]["inputs"]["artifacts"]["imperfect_dataset"]
        ),
        "task evaluate, inputs.artifacts.pretrain, .*imperfect_dataset is system.Dataset, not list of system.Model",
    ),
    "one artifact for a list": (
        lambda s, p: s["components"]["comp-for-loop-1"]["outputDefinitions"]["artifacts"][
            "pipelinechannel--simulate-ideal"
        ].pop("isArtifactList"),
        "task preprocess, inputs.artifacts.ideal, .* is system.Dataset, not list of system.Dataset",
    ),
    "component's input parameter": (
        lambda s, p: root(s)["evaluate"]["inputs"]["parameters"]["config"].update(componentInputParameter="x"),
        "task evaluate, inputs.parameters.config: there is no 'x'",
    ),
    "another type of parameter": (
        lambda s, p: root(s)["evaluate"]["inputs"]["parameters"]["config"].update(componentInputParameter="shards"),
        "task evaluate, inputs.parameters.config: shards is LIST, not STRUCT",
    ),
    "loop item's type": (
        lambda s, p: s["components"]["comp-for-loop-1"]["inputDefinitions"]["parameters"][
            "pipelinechannel--shards-loop-item"
        ].update(parameterType="STRING"),
        "task simulate, inputs.parameters.shard: .*loop-item is STRING, not NUMBER_INTEGER",
    ),
    "input that nobody takes": (
        lambda s, p: root(s)["evaluate"]["inputs"]["parameters"].update(x={"runtimeValue": {"constant": "y"}}),
        "task evaluate, inputs.parameters.x: component comp-evaluate has no such input",
    ),
    "loop's items": (
        lambda s, p: root(s)["for-loop-1"]["parameterIterator"]["items"].update(inputParameter="x"),
        "task for-loop-1, parameterIterator.items: 'x' is not among the task's inputs",
    ),
    "loop's item": (
        lambda s, p: root(s)["for-loop-1"]["parameterIterator"].update(itemInput="x"),
        "task for-loop-1, parameterIterator.itemInput: the component has no input 'x'",
    ),
    "loop's output": (
        lambda s, p: loop(s)["outputs"]["artifacts"]["pipelinechannel--simulate-ideal"]["artifactSelectors"][0].update(
            producerSubtask="x"
        ),
        "task for-loop-1, dag.outputs.pipelinechannel--simulate-ideal: there is no task 'x'",
    ),
    "loop's output's key": (
        lambda s, p: loop(s)["outputs"]["artifacts"]["pipelinechannel--simulate-ideal"]["artifactSelectors"][0].update(
            outputArtifactKey="x"
        ),
        "dag.outputs.pipelinechannel--simulate-ideal: simulate has no output 'x'",
    ),
    "loop's output from nowhere": (
        lambda s, p: loop(s)["outputs"]["artifacts"].pop("pipelinechannel--simulate-ideal"),
        "task for-loop-1, dag.outputs: pipelinechannel--simulate-ideal is bound to nothing",
    ),
    # required inputs
    "parameter missing": (
        lambda s, p: refiner(s)["inputs"]["parameters"].pop("task"),
        "task train-refiner, inputs.parameters.task: is bound to nothing",
    ),
    "parameter empty": (
        lambda s, p: refiner(s)["inputs"]["parameters"].update(task={}),
        "task train-refiner, inputs.parameters.task: is bound to nothing",
    ),
    "artifact missing": (
        lambda s, p: root(s)["evaluate"]["inputs"]["artifacts"].pop("refine"),
        "task evaluate, inputs.artifacts.refine: is bound to nothing",
    ),
    "artifact empty": (
        lambda s, p: root(s)["evaluate"]["inputs"]["artifacts"].update(dwt={}),
        "task evaluate, inputs.artifacts.dwt: is bound to nothing",
    ),
    "constant of another type": (
        lambda s, p: shards(s).update(constant="ten"),
        "task simulate, inputs.parameters.shards: 'ten' is no NUMBER_INTEGER",
    ),
    "fraction for a whole number": (
        lambda s, p: shards(s).update(constant=0.5),
        "task simulate, inputs.parameters.shards: 0.5 is no NUMBER_INTEGER",
    ),
    # images
    "image": (
        lambda s, p: executors(s)["exec-simulate"]["container"].update(image="python:3.11"),
        "executor exec-simulate, container.image: python:3.11 is not built here",
    ),
    "CUDA image": (
        lambda s, p: executors(s)["exec-simulate"]["container"].update(
            image="imitation-refinement/simulate-python:1-cuda"
        ),
        "executor exec-simulate, container.image: .* is not built with CUDA",
    ),
    "latest": (
        lambda s, p: executors(s)["exec-simulate"]["container"].update(
            image="imitation-refinement/simulate-python:latest"
        ),
        "executor exec-simulate, container.image: .* names another image tomorrow",
    ),
    "no tag": (
        lambda s, p: executors(s)["exec-simulate"]["container"].update(
            image="registry.example.com:5000/imitation-refinement/simulate-python"
        ),
        "executor exec-simulate, container.image: .* has no tag",
    ),
    "installs": (
        lambda s, p: executors(s)["exec-simulate"]["container"]["command"].append("pip install kfp"),
        "executor exec-simulate, container.command: installs packages",
    ),
    # what the local runner alone does, and this machine's files
    "condition on an output": (
        lambda s, p: condition_on_an_output(s),
        "task evaluate, triggerPolicy.condition: rests on structures, which a task puts out; .*GHSA-rhjm-6347-5x33",
    ),
    "condition on an output, in a loop": (
        lambda s, p: condition_in_a_loop(s),
        "task simulate, triggerPolicy.condition: rests on shards, which a task puts out; .*GHSA-rhjm-6347-5x33",
    ),
    "condition on an item that is an output's": (
        lambda s, p: condition_on_an_item(s),
        "task simulate, triggerPolicy.condition: rests on shard, which a task puts out; .*GHSA-rhjm-6347-5x33",
    ),
    "condition on what is no input": (
        lambda s, p: root(s)["evaluate"].update(triggerPolicy={"condition": "pipelinechannel--preprocess-Output == 1"}),
        "task evaluate, triggerPolicy.condition: names pipelinechannel--preprocess-Output, which is no input",
    ),
    "loop over a named output": (
        lambda s, p: loop_over_named_output(s),
        "task for-loop-1, parameterIterator.items: rests on the named output 'parts'",
    ),
    "one of several artifacts": (
        lambda s, p: one_of(s),
        "task for-loop-1, dag.outputs.pipelinechannel--simulate-ideal: is one artifact of several",
    ),
    "two items in a text": (
        lambda s, p: shards(s).update(
            constant="{{$.inputs.parameters['a-loop-item']}} {{$.inputs.parameters['b-loop-item']}}"
        ),
        "task simulate, inputs.parameters.shards: puts several items of loops into one text",
    ),
    "imported path": (lambda s, p: importer(s), "executor exec-baselines, importer.artifactUri: /home/me/x is a path"),
    "path in an option": (
        lambda s, p: default(s, "collect_structures")["materials_project"].update(pages="/home/me/pages"),
        "task collect-structures, inputs.parameters.config: /home/me/pages is a path of one machine",
    ),
    "path as structures": (
        lambda s, p: s["root"]["inputDefinitions"]["parameters"]["structures"].update(defaultValue="~/cifs"),
        "task collect-structures, inputs.parameters.structures: ~/cifs is a path of one machine",
    ),
    "option out of its range": (
        lambda s, p: default(s, "pretrain")[0]["config"]["optimiser"].update(epochs=2.5),
        r"root, parameters.pretrain\[0\]: optimiser.epochs: .*2.5",
    ),
    "unknown option": (lambda s, p: default(s, "evaluate").update(x=1), "root, parameters: evaluate.x: "),
    "options of no stage": (
        lambda s, p: s["root"]["inputDefinitions"]["parameters"].update(
            paint={"parameterType": "STRUCT", "defaultValue": {}}
        ),
        "root, parameters: paint are options of no stage",
    ),
    "task of no classifier": (
        lambda s, p: default(s, "refine")[1].update(classifier="resnet"),
        r"root, parameters.refine\[1\]: starts from 'resnet', which no task of pretrain trains",
    ),
    "two tasks of one label": (
        lambda s, p: default(s, "refine")[1].update(label=default(s, "pretrain")[0]["label"]),
        r"root, parameters.refine\[1\]: another task is labelled 'pretrain_classifier densenet', too",
    ),
    "task without options": (
        lambda s, p: default(s, "refine")[1].pop("config"),
        r"root, parameters.refine\[1\]: config: Field required",
    ),
    "shards": (lambda s, p: default(s, "shards").append(7), r"root, parameters.shards: is \[0.*7"),
    # what Kubernetes gives
    "variable twice": (
        lambda s, p: executors(s)["exec-evaluate"]["container"]["env"].append(
            {"name": "MLFLOW_TRACKING_TOKEN", "value": "x"}
        ),
        "executor exec-evaluate: the environment variable MLFLOW_TRACKING_TOKEN stands twice",
    ),
    "mount twice": (
        lambda s, p: kubernetes(p)["exec-train-refiner"]["emptyDirMounts"].append(
            {"volumeName": "x", "mountPath": "/checkpoints"}
        ),
        "executor exec-train-refiner: the mount /checkpoints stands twice",
    ),
    "checkpoints on no volume": (
        lambda s, p: kubernetes(p)["exec-train-refiner"].pop("pvcMount"),
        "executor exec-train-refiner, env.IMITATION_REFINEMENT_CHECKPOINTS: /checkpoints is on no volume",
    ),
    "checkpoints without the run": (
        lambda s, p: kubernetes(p)["exec-train-refiner"].pop("fieldPathAsEnv"),
        "executor exec-train-refiner, env.KFP_RUN_ID: is missing",
    ),
}


@pytest.mark.parametrize(("change", "named"), BROKEN.values(), ids=BROKEN)
def test_it_names_what_is_broken(change: Any, named: str, broken: Any) -> None:
    path = broken(change)
    with pytest.raises(InputError, match=named) as refused:
        check_pipeline(path)
    assert refused.value.where == str(path)


def test_a_condition_on_a_parameter_of_the_run_is_none_on_an_output(broken: Any) -> None:
    condition = {"condition": "inputs.parameter_values['structures'] == 'random'"}
    check_pipeline(broken(lambda s, p: root(s)["evaluate"].update(triggerPolicy=condition)))


def test_a_path_on_a_mounted_volume_is_none_of_a_machine(broken: Any) -> None:
    check_pipeline(broken(lambda s, p: default(s, "collect_structures")["materials_project"].update(pages="/data/mp")))
    given = {"defaultValue": "/data/cifs"}
    check_pipeline(broken(lambda s, p: s["root"]["inputDefinitions"]["parameters"]["structures"].update(given)))


def test_everything_that_is_wrong_is_said_at_once(broken: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def change(spec: Any, platform: Any) -> None:
        for name in ("unknown option", "latest", "artifact missing"):
            BROKEN[name][0](spec, platform)

    with pytest.raises(SystemExit) as end:
        main([str(broken(change))])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("; ") == 2
    assert "inputs.artifacts.refine:" in said and ":latest" in said and "evaluate.x" in said


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is no compiled pipeline: it is not a pipeline spec"),
        ("- 1", "is no compiled pipeline: it is not a pipeline spec"),
        ("a: [", "is no readable YAML"),
        ("root: {}\nroot: {}", "root stands twice"),
        ("root: {dag: {tasks: 3}}", "pipeline spec: "),
        ("root: {}\n---\nplatforms: {kubernetes: 3}", "platform spec: "),
    ],
)
def test_no_pipeline(text: str, named: str, tmp_path: Path) -> None:
    see_refused(text, named, tmp_path / "p.yaml")
    with pytest.raises(InputError, match=r"can't be read"):
        check_pipeline(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: &a [x]\nb: [*a, *a]", "holds a reference"),
        ("a: &a [*a]", "holds a reference"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("[" * 5000, "is nested too deeply"),
        ("a: 2026-99-99", "is no readable YAML"),
    ],
)
def test_what_yaml_can_do_beside_saying_a_pipeline(text: str, named: str, tmp_path: Path) -> None:
    see_refused(text, named, tmp_path / "p.yaml")


def see_refused(text: str, named: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(InputError, match=named):
        check_pipeline(path)


def test_compiling_writes_nothing_that_is_broken(tmp_path: Path) -> None:
    profile = read_profile("smoke", ["collect_structures.materials_project.pages=/home/me/pages"])
    with pytest.raises(InputError, match="/home/me/pages") as refused:
        compile_pipeline(profile, tmp_path / "p.yaml", Cluster())
    assert refused.value.where == str(tmp_path / "p.yaml") and not list(tmp_path.iterdir())
