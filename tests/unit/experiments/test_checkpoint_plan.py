import dataclasses
import sys
from types import SimpleNamespace

import pytest

from hf_lgt.commands import cli
from hf_lgt.config.load import load_config
from hf_lgt.config.schema import NAME
from hf_lgt.experiments.launch import check_checkpoints
from hf_lgt.experiments.plan import plan
from hf_lgt.experiments.revisions import CheckpointList, choose
from hf_lgt.experiments.spec import load_comparison
from hf_lgt.utils import yaml
from hf_lgt.utils.errors import ConfigError

ARM = "mixture: [{task: reverse, role: target, lengths: [1, 8]}]\neval: {lengths: [1, 8]}\n"
LIST = "{name_or_path: org/some-model, revisions: [step-1, step-20]}"


@pytest.fixture
def folder(tmp_path):
    """Writes a comparison of two arms and its checkpoints; gives their folder."""

    def write(checkpoints=LIST, seeds="[0, 3]", a="", b=""):
        (tmp_path / "a.yaml").write_text("name: arm-a\n" + ARM + a)
        (tmp_path / "b.yaml").write_text("name: arm-b\n" + ARM + b)
        text = f"name: c\narms: [a.yaml, b.yaml]\nseeds: {seeds}\ncheckpoints: {checkpoints}\n"
        (tmp_path / "compare.yaml").write_text(text)
        return tmp_path

    return write


def read(folder, overrides=()):
    return plan(load_comparison(folder), [f"output_dir={folder / 'runs'}", *overrides])


def faults_of(make, *arguments):
    with pytest.raises(ConfigError) as caught:
        make(*arguments)
    return caught.value.faults


def test_every_arm_checkpoint_and_seed_is_one_run(folder):
    planned = read(folder())
    assert [(p.arm, p.checkpoint.label, p.seed) for p in planned] == [
        (arm, label, seed) for arm in "ab" for label in ("random", "step-1", "step-20") for seed in (0, 3)
    ]
    twin, first = planned[0].config, planned[2].config
    assert (twin.model.init, twin.model.name_or_path, twin.model.revision) == (
        "random",
        "org/some-model",
        "step-1",
    )
    assert first.model.init == "pretrained"
    assert [p.config.model.revision for p in planned[2:6]] == ["step-1", "step-1", "step-20", "step-20"]
    assert twin.name == "arm-a-some-model-random"
    assert planned[-1].config.name == "arm-b-some-model-step-20"
    assert len({p.config.run_dir for p in planned}) == len({p.log for p in planned}) == 12


def test_runs_of_one_seed_see_the_same_batches(folder):
    for item in read(folder()):
        assert (item.config.seed.init, item.config.seed.data) == (item.seed, item.seed)


def test_what_a_run_is_called_with_gives_the_config_that_was_checked(folder):
    for item in read(folder(), ["train.steps=7", "peft.method=lora", "peft.rank=4"]):
        recipe = cli.parser("Trains.")
        recipe.add_argument("--config")
        known, overrides = cli.parse_options(recipe, item.arguments)
        assert load_config(known.config, overrides) == item.config


def test_the_twin_is_trained_in_full_whatever_the_arm_does(folder):
    path = folder(a="peft: {method: lora, rank: 4}\n")
    planned = [p for p in read(path) if p.arm == "a"]
    assert [p.config.peft.method for p in planned] == ["none"] * 2 + ["lora"] * 4
    assert planned[-1].config.peft.rank == 4


def test_a_comparison_can_go_without_a_twin(folder):
    planned = read(folder("{name_or_path: m, revisions: [x], random_twin: false}"))
    assert {p.checkpoint.label for p in planned} == {"x"}


def test_several_repositories_each_have_their_twin(folder):
    planned = read(folder("[{name_or_path: org/a, revisions: [x]}, {name_or_path: b, revisions: [x, y]}]"))
    names = [p.config.name for p in planned if p.arm == "a" and p.seed == 0]
    assert names == ["arm-a-a-random", "arm-a-a-x", "arm-a-b-random", "arm-a-b-x", "arm-a-b-y"]


def test_names_are_safe_as_a_folder_and_short_enough(folder):
    long = "r" * 90
    path = folder(
        f"{{name_or_path: ../some/mödel, revisions: [refs/pr/1, {long}1, {long}2, '7']}}", seeds="[0]"
    )
    planned = read(path)
    names = [p.config.name for p in planned]
    assert all(NAME.fullmatch(name) for name in names)
    assert names[1] == "arm-a-m-del-refs-pr-1"
    assert names[2][:55] == names[3][:55]
    assert names[2] != names[3]
    # a revision that YAML would take for a number
    assert planned[4].config.model.revision == "7"


@pytest.mark.parametrize(
    ("checkpoints", "told"),
    [
        ("null", "checkpoints: null must hold the keys"),
        ("[]", "checkpoints: [] must hold the keys"),
        ("step-1", "checkpoints: 'step-1' must hold the keys"),
        ("{revisions: [a]}", "checkpoints.name_or_path: is missing"),
        ("{name_or_path: 5, revisions: [a]}", "checkpoints.name_or_path: 5 must be"),
        ("{name_or_path: '', revisions: [a]}", "checkpoints.name_or_path: '' must be"),
        ("{name_or_path: m}", "checkpoints.revisions: is missing"),
        ("{name_or_path: m, revisions: []}", "checkpoints.revisions: [] must be a list"),
        ("{name_or_path: m, revisions: a}", "checkpoints.revisions: 'a' must be a list"),
        ("{name_or_path: m, revisions: [a, 5]}", "checkpoints.revisions.1: 5 must be the name"),
        ("{name_or_path: m, revisions: [a, b, a]}", "checkpoints.revisions.2: 'a' is a duplicate"),
        ("{name_or_path: m, revisions: ['a,b']}", "checkpoints.revisions.0: 'a,b' has a comma"),
        ("{name_or_path: m, revisions: [a], random_twin: 1}", "checkpoints.random_twin: 1 must be a boolean"),
        ("{name_or_path: m, revision: [a], revisions: [b]}", "did you mean 'revisions'?"),
        ("[{name_or_path: m, revisions: [a]}, 5]", "checkpoints.1: 5 must hold the keys"),
        (
            "{name_or_path: m, revisions: [a/b, a-b]}",
            "the runs of 'a-b' of 'm' would be those of 'a/b' of 'm'",
        ),
        ("{name_or_path: m, revisions: [a, random]}", "would be those of the random twin of 'm'"),
    ],
)
def test_a_wrong_list_is_one_fault_that_names_its_key(folder, checkpoints, told):
    (fault,) = faults_of(load_comparison, folder(checkpoints))
    assert fault.startswith("checkpoints")
    assert told in fault


def test_repositories_whose_runs_would_share_folders_are_reported(folder):
    same = (
        "[{name_or_path: one/m, revisions: [a, b]}, {name_or_path: two/m, revisions: [b], random_twin: %s}]"
    )
    faults = faults_of(load_comparison, folder(same % "true"))
    assert [fault.split(" would")[0] for fault in faults] == [
        "checkpoints.1: the runs of the random twin of 'two/m'",
        "checkpoints.1: the runs of 'b' of 'two/m'",
    ]
    assert len(faults_of(load_comparison, folder(same % "false"))) == 1


def test_all_faults_are_reported_at_once(folder):
    faults = faults_of(load_comparison, folder("{name: m, revisions: [1, 2], random_twin: no}", seeds="[]"))
    keys = [fault.split(": ")[0] for fault in faults]
    assert keys == [
        "seeds",
        "checkpoints.name",
        "checkpoints.name_or_path",
        "checkpoints.revisions.0",
        "checkpoints.revisions.1",
        "checkpoints.random_twin",
    ]


def test_an_arm_with_sizes_of_its_own_is_reported_once_beside_the_other_s_faults(folder):
    path = folder(a="model: {layers: 2}\n", b="train: {stesp: 1}\n")
    faults = faults_of(read, path)
    assert len(faults) == 2
    assert faults[0].startswith("a: model.layers: 2 is for a model trained from scratch")
    assert faults[1].startswith("b: train.stesp: unknown key")


@pytest.mark.parametrize(
    "override", ["model.init=random", "model.name_or_path=x", "model.revision=x", "model={}", "seed.data=1"]
)
def test_an_override_of_what_the_comparison_sets_is_not_dropped_silently(folder, override):
    (fault,) = faults_of(read, folder(), [override])
    assert fault.startswith(override.split("=")[0] + ": ")


def test_arms_of_one_name_are_reported(folder):
    assert faults_of(read, folder(), ["name=x"]) == ["b: name: its runs would be those of a"]


def test_some_of_the_revisions_can_be_chosen_and_the_twin_stays_the_same_run(folder):
    comparison = load_comparison(folder())
    chosen = dataclasses.replace(comparison, checkpoints=choose(comparison.checkpoints, " step-20,step-20"))
    kept = plan(chosen)
    assert [p.checkpoint.label for p in kept if p.arm == "a" and p.seed == 0] == ["random", "step-20"]
    everything = plan(comparison)
    assert all(item in everything for item in kept)


def test_unknown_revisions_are_reported_with_those_that_are_there():
    lists = [CheckpointList("a", ("step-1", "step-2"), "step-1"), CheckpointList("b", ("main",), None)]
    faults = faults_of(choose, lists, "step-2,stp-1,9")
    assert len(faults) == 2
    assert "unknown revision 'stp-1'; did you mean 'step-1'? (known: step-1, step-2, main)" in faults[0]
    assert all(fault.startswith("--checkpoints: ") for fault in faults)
    assert choose(lists, "main") == (lists[1],)
    assert faults_of(choose, [], "main") == ["--checkpoints: the comparison lists no checkpoints"]


def finish(item):
    (item.config.run_dir / "model").mkdir(parents=True)
    (item.config.run_dir / "config.yaml").write_text(yaml.dump(item.config.to_dict()))


@pytest.fixture
def resolved(monkeypatch):
    """Stands in for the search for checkpoints: knows step-1 alone; gives what was asked for."""
    asked = []

    def resolve(model):
        asked.append((model.name_or_path, model.revision))
        if model.revision != "step-1":
            raise ConfigError([f"model.revision: unknown revision {model.revision!r} (known: step-1)"])

    def check_weights(checkpoint, model):
        assert model.init == "pretrained"

    found = SimpleNamespace(resolve=resolve, check_weights=check_weights)
    monkeypatch.setitem(sys.modules, "hf_lgt.models.resolve", found)
    return asked


def test_each_checkpoint_is_looked_for_once_and_every_one_that_is_not_there_told(folder, resolved):
    planned = read(folder("{name_or_path: m, revisions: [step-1, step-2, step-3]}"))
    faults = faults_of(check_checkpoints, planned)
    assert resolved == [("m", "step-1"), ("m", "step-2"), ("m", "step-3")]
    assert faults == [f"model.revision: unknown revision 'step-{i}' (known: step-1)" for i in (2, 3)]


def test_the_checkpoints_of_finished_runs_are_not_looked_for(folder, resolved):
    planned = read(folder())
    for item in planned:
        if item.checkpoint.label == "step-20":
            finish(item)
    check_checkpoints(planned)
    assert resolved == [("org/some-model", "step-1")]


def test_models_of_their_own_need_no_checkpoint(root, resolved):
    check_checkpoints(plan(load_comparison(root / "recipes/demo")))
    assert resolved == []


def test_nothing_is_run_where_a_checkpoint_is_not_there(folder, resolved, call_recipe):
    path = folder()
    done = call_recipe("compare.py", path, "--output_dir", path / "runs")
    assert done.returncode == 2
    assert "unknown revision 'step-20' (known: step-1)" in done.stderr
    assert not (path / "runs").exists()


def test_the_full_comparisons_are_the_paper_s_checkpoints(root):
    planned = plan(load_comparison(root / "recipes/smollm"))
    steps = [p.config.model.revision for p in planned if p.arm == "reverse_add" and p.seed == 0]
    assert steps == ["step-160000", *(f"step-{160_000 * i}" for i in range(1, 17))]
    assert {(p.arm, p.config.mixture[0].lengths, p.config.eval.lengths) for p in planned} == {
        ("reverse_add", (1, 16), (1, 40)),
        ("shortest_path", (2, 32), (2, 64)),
    }
