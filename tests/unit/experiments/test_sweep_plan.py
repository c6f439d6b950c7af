"""A sweep's file, and the runs that it stands for."""

import dataclasses
import json

import pytest

from hf_lgt.config.load import config_from_dict, load_config
from hf_lgt.experiments.manifest import Entry, Manifest, read_manifest, write_manifest
from hf_lgt.experiments.plan import config_digest, distinct, manifest_of, plan, record_plan, todo
from hf_lgt.experiments.spec import load_sweep
from hf_lgt.utils.atomic_io import write_text
from hf_lgt.utils.errors import ConfigError
from tests.conftest import ROOT
from tests.integration.utils.test_atomic_io import left_by_killed
from tests.integration.utils.test_run_lock import leave

STRINGS = ROOT / "recipes" / "paper" / "strings_cpu.yaml"
LEAST = f"name: s\nconfig: {STRINGS}\nseeds: [0]\n"


@pytest.fixture
def sweep(tmp_path):
    """Reads a sweep from its text, its runs below the test's own folder."""

    def read(text, *overrides):
        file = tmp_path / "sweep.yaml"
        file.write_text(text)
        return plan(load_sweep(file), [f"output_dir={tmp_path / 'runs'}", *overrides])

    return read


def faults(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return caught.value.faults


# ---------------------------------------------------------------------------------- which runs


def test_the_least_sweep_is_its_config_once(sweep):
    (run,) = sweep(LEAST)
    assert (run.arm, run.group, dict(run.point), run.seed) == ("transfer", "", {}, 0)
    own = load_config(STRINGS)
    assert dataclasses.replace(run.config, name="strings-cpu", output_dir="runs") == own
    assert run.config.name.startswith("strings-cpu-transfer-")


def test_every_combination_is_a_run_in_a_fixed_order(sweep):
    runs = sweep(
        f"name: s\nconfig: {STRINGS}\narms: [transfer, target_alone]\nseeds: [3, 1]\n"
        "grid: {model.rope_theta: [1.0e+3, 1.0e+5], train.batch_size: [8, 16]}\n"
    )
    assert len(runs) == len(distinct(runs)) == 2 * 2 * 2 * 2
    assert [(dict(r.point), r.arm, r.seed) for r in runs[:5]] == [
        ({"model.rope_theta": "1000", "train.batch_size": "8"}, "transfer", 3),
        ({"model.rope_theta": "1000", "train.batch_size": "8"}, "transfer", 1),
        ({"model.rope_theta": "1000", "train.batch_size": "8"}, "target_alone", 3),
        ({"model.rope_theta": "1000", "train.batch_size": "8"}, "target_alone", 1),
        ({"model.rope_theta": "1000", "train.batch_size": "16"}, "transfer", 3),
    ]
    for run in runs:
        assert run.config.model.rope_theta == float(run.point["model.rope_theta"])
        assert run.config.train.batch_size == int(run.point["train.batch_size"])
        assert run.config.seed.init == run.config.seed.data == run.seed


def test_length_axes_set_the_bounds_of_a_role_before_arms_are_made(sweep):
    runs = sweep(
        f"name: s\nconfig: {STRINGS}\narms: [transfer, target_long]\nseeds: [0]\n"
        "grid: {target_length: [4], auxiliary_length: [12]}\n"
    )
    assert [[(c.task, tuple(c.lengths)) for c in run.config.mixture] for run in runs] == [
        [("capitalize_reverse", (1, 4)), ("capitalize", (1, 12)), ("reverse", (1, 12))],
        [("capitalize_reverse", (1, 12))],
    ]


def test_named_values_set_several_keys(sweep):
    runs = sweep(
        f"name: s\nconfig: {STRINGS}\nseeds: [0]\n"
        "grid: {size: {small: {model: {layers: 1, heads: 2}, train: {steps: 5}}, usual: {}}}\n"
    )
    small, usual = (run.config for run in runs)
    assert (small.model.layers, small.model.heads, small.train.steps) == (1, 2, 5)
    assert usual.model == load_config(STRINGS).model
    assert [dict(run.point) for run in runs] == [{"size": "small"}, {"size": "usual"}]


def test_groups_and_arms_say_what_differs(sweep):
    runs = sweep(
        f"name: s\nconfig: {{base: {STRINGS}, train: {{steps: 9}}}}\nseeds: [0]\n"
        "groups:\n"
        "  one: {}\n"
        f"  two: {{base: {ROOT / 'recipes/paper/recall_cpu.yaml'}, train: {{steps: 4}}}}\n"
        "arms: [transfer, {name: wide, config: {model: {hidden_size: 32}}},\n"
        "       {name: alone_long, arm: target_alone, config: {train: {steps: 11}}}]\n"
    )
    told = [
        (r.group, r.arm, r.config.train.steps, r.config.model.hidden_size, len(r.config.mixture))
        for r in runs
    ]
    assert told == [
        ("one", "transfer", 9, 64, 3),
        ("one", "wide", 9, 32, 3),
        ("one", "alone_long", 11, 64, 1),
        ("two", "transfer", 4, 64, 2),
        ("two", "wide", 4, 32, 2),
        ("two", "alone_long", 11, 64, 1),
    ]


def test_an_arm_can_be_of_some_groups_alone(sweep):
    text = f"name: s\nconfig: {STRINGS}\nseeds: [0, 1]\ngroups: {{one: {{}}, two: {{train: {{steps: 9}}}}}}\n"
    runs = sweep(text + "arms: [transfer, {name: wide, groups: [two], config: {model: {hidden_size: 32}}}]\n")
    assert [(r.group, r.arm, r.seed) for r in runs] == [
        ("one", "transfer", 0),
        ("one", "transfer", 1),
        ("two", "transfer", 0),
        ("two", "transfer", 1),
        ("two", "wide", 0),
        ("two", "wide", 1),
    ]
    for groups, told in (
        ("[tow]", "arms.0.groups: unknown group 'tow'; did you mean 'two'? (known: one, two)"),
        ("two", "arms.0.groups: 'two' must be a list of groups"),
        ("[]", "arms.0.groups: [] must be a list of groups"),
    ):
        assert faults(sweep, text + f"arms: [{{name: transfer, groups: {groups}}}]\n") == [told]


def test_checkpoints_are_swept_over_with_their_twin(sweep):
    demo = ROOT / "recipes" / "pretrained_demo" / "mqar.yaml"
    runs = sweep(
        f"name: s\nconfig: {demo}\nseeds: [0, 4]\n"
        "checkpoints: {name_or_path: org/model, revisions: [step-1, step-2]}\n"
    )
    assert [(r.entry.checkpoint, r.seed, r.config.model.init, r.config.model.revision) for r in runs] == [
        ("random", 0, "random", "step-1"),
        ("random", 4, "random", "step-1"),
        ("step-1", 0, "pretrained", "step-1"),
        ("step-1", 4, "pretrained", "step-1"),
        ("step-2", 0, "pretrained", "step-2"),
        ("step-2", 4, "pretrained", "step-2"),
    ]
    assert all(run.config.seed.data == run.seed for run in runs)
    names = [run.config.name for run in runs]
    assert names[0] == names[1] != names[2], "seeds of one setting lie in one folder"


def test_a_section_without_keys_changes_nothing(sweep):
    named = sweep(LEAST + "grid: {p: {as_is: {model: {}}, nope: {model: {positions: nope}}}}\n")
    listed = sweep(LEAST + "grid: {model: [{}, {positions: nope}]}\n")
    own = load_config(STRINGS).model
    for as_is, nope in (named, listed):
        assert as_is.config.model == own
        assert nope.config.model == dataclasses.replace(own, positions="nope")


def test_a_ready_arm_with_a_config_is_still_that_arm(sweep):
    (run,) = sweep(LEAST + "arms: [{name: target_alone, config: {train: {steps: 9}}}]\n")
    assert (len(run.config.mixture), run.config.train.steps) == (1, 9)


def test_values_are_reported_apart_by_all_their_digits(sweep):
    runs = sweep(LEAST + "grid: {train.learning_rate: [0.0010000001, 0.001]}\n")
    assert [run.point["train.learning_rate"] for run in runs] == ["0.0010000001", "0.001"]


# ---------------------------------------------------------------------------------- ids


def test_a_run_is_named_by_what_it_is_not_by_what_asks_for_it(sweep):
    (one,) = sweep(LEAST)
    (other,) = sweep(f"name: another\nconfig: {STRINGS}\nseeds: [0]\n")
    assert one.id == other.id
    assert one.run_dir == other.run_dir
    (changed,) = sweep(LEAST, "train.steps=17")
    assert changed.id != one.id


def test_settings_that_come_to_the_same_are_one_run(sweep):
    runs = sweep(
        f"name: s\nconfig: {STRINGS}\nseeds: [0]\n"
        "grid: {theta: {a: {}, b: {model: {rope_theta: 1.0e+5}}}}\n"
    )
    assert [run.id for run in runs] == [runs[0].id] * 2
    assert len(distinct(runs)) == 1
    assert len(manifest_of(load_sweep(runs[0].folder.parents[1] / "sweep.yaml"), runs).runs) == 2


def test_the_target_alone_of_a_group_without_auxiliaries_is_not_run_a_second_time(sweep):
    runs = sweep(
        f"name: s\nconfig: {STRINGS}\narms: [transfer, target_alone]\nseeds: [0, 1]\n"
        "groups: {copy: {mixture: [{task: string_copy, role: target, lengths: [1, 8]}]}}\n"
    )
    assert [(run.arm, run.seed) for run in runs] == [
        ("transfer", 0),
        ("transfer", 1),
        ("target_alone", 0),
        ("target_alone", 1),
    ]
    assert [run.id for run in distinct(runs)] == [run.id for run in runs[:2]]


def test_the_hash_knows_every_key_but_name_place_and_seeds():
    first = config_digest(load_config(STRINGS))
    for same in ("name=x", "output_dir=/elsewhere", "seed.init=5", "seed.data=5"):
        assert config_digest(load_config(STRINGS, [same])) == first
    for other in ("train.steps=1", "eval.seed=3", "mixture.0.weight=2.0", "model.layers=1",
                  "mixture.1.options.alphabet=ab", "eval.every=2", "train.log_every=7"):  # fmt: skip
        assert config_digest(load_config(STRINGS, [other])) != first, other


def test_the_hash_is_kept_by_later_versions():
    """What lies on disk by this name must be found again: keys with their default value do not count."""
    data = {"name": "x", "mixture": [{"task": "reverse", "role": "target", "lengths": [1, 4]}]}
    assert config_digest(config_from_dict(data)) == "c2fc39a76e"
    assert config_digest(config_from_dict({**data, "train": {"compile": False}})) == "c2fc39a76e"
    assert config_digest(config_from_dict({**data, "seed": {"data": 7}})) == "c2fc39a76e"


# ---------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nmae: s\nconfig: {}\nseeds: [0]\n", ["did you mean 'name'", "name: null must be letters"]),
        (f"name: s\nconfig: {STRINGS}\n", ["seeds: None must be"]),
        ("name: s\nseeds: [0]\n", ["config: is missing"]),
        ("name: s\nseeds: [0]\nconfig: nowhere.yaml\n", ["config: config file", "No such file"]),
        ("name: s\nseeds: [0]\nconfig: 5\n", ["config: 5 must hold keys"]),
        (LEAST + "groups: [a]\n", ["groups: ['a'] must map names"]),
        (LEAST + "groups: {a: 7}\n", ["groups.a: 7 must hold keys"]),
        (LEAST + "arms: transfer\n", ["arms: 'transfer' must be a list"]),
        (LEAST + "arms: [{arm: transfer}, transfer, transfer]\n",
         ["arms.0: ", "'transfer' is a duplicate"]),
        (LEAST + "arms: [{name: a, confg: {}}]\n", ["arms.0: unknown key 'confg'; did you mean 'config'"]),
        (LEAST + "grid: [1]\n", ["grid: [1] must map keys"]),
        (LEAST + "grid: {train.steps: 5}\n", ["grid.train.steps: 5 must be a list of values"]),
        (LEAST + "grid: {train.steps: [5, 5]}\n", ["grid.train.steps: 5 is a duplicate"]),
        (LEAST + "grid: {size: {small: 5}}\n", ["grid.size.small: 5 must be a mapping"]),
        (LEAST + "grid: {target_length: [a, 0]}\n",
         ["'a' must be an integer", "0 must be an integer"]),
        (LEAST + "slurm: 5\n", ["slurm: 5 must be a mapping"]),
        (LEAST + "checkpoints: {revisions: [a]}\n", ["checkpoints.name_or_path: is missing"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_file_is_reported(sweep, text, told):
    found = "\n".join(faults(sweep, text))
    assert all(words in found for words in told), found


@pytest.mark.parametrize(
    ("text", "overrides", "told"),
    [
        (LEAST + "grid: {train.stepz: [5]}\n", [],
         "train.stepz 5: train.stepz: unknown key 'stepz'; did you mean"),
        (LEAST + "arms: [target_alon]\n", [], "target_alon: arms: unknown arm 'target_alon'; did you mean"),
        (LEAST + "arms: [{name: a, config: {train: {steps: 0}}}]\n", [],
         "a: train.steps: 0 must be at least 1"),
        (LEAST, ["seed.init=3"], "seed.init: is set by the sweep's seeds"),
        (LEAST, ["name=x"], "name: a run is named by"),
        (LEAST + "grid: {train.steps: [5]}\n", ["train.steps=3"],
         "is set by the sweep's grid, axis train.steps"),
        (LEAST + "grid: {auxiliary_length: [5]}\narms: [transfer]\n",
         ["mixture=[{task: reverse, role: target, lengths: [1, 4]}]"],
         "the mixture has no task with role auxiliary"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_run_is_reported_with_its_place(sweep, text, overrides, told):
    assert told in "\n".join(faults(sweep, text, *overrides))


def test_faults_of_all_runs_come_at_once_each_once(sweep):
    found = faults(sweep, LEAST.replace("[0]", "[0, 1, 2]") + "grid: {train.steps: [0, -1]}\n")
    assert found == [
        "train.steps 0: train.steps: 0 must be at least 1",
        "train.steps -1: train.steps: -1 must be at least 1",
    ]


def test_a_secret_is_not_repeated(sweep, tmp_path):
    token = "hf_" + "a1B2" * 9
    found = "\n".join(faults(sweep, LEAST + f"grid: {{train.steps: {token}}}\n"))
    assert "secret" in found
    assert token not in found


def test_a_folder_is_no_sweep(tmp_path):
    assert "name a YAML file in it" in faults(load_sweep, tmp_path)[0]


def test_a_folder_with_something_else_is_reported(sweep, tmp_path):
    (run,) = sweep(LEAST)
    run.run_dir.mkdir(parents=True)
    (run.run_dir / "thesis.txt").write_text("mine")
    assert "holds files that are no run" in faults(sweep, LEAST)[0]


# ---------------------------------------------------------------------------------- on disk


def test_configs_and_manifest_are_written_and_left_alone(sweep, tmp_path):
    runs = sweep(LEAST.replace("[0]", "[0, 1]"))
    spec = load_sweep(tmp_path / "sweep.yaml")
    record_plan(spec, runs)
    folder = tmp_path / "runs" / "s"
    for run in runs:
        assert load_config(run.config_file) == run.config
    manifest = read_manifest(folder)
    assert manifest.name == "s"
    assert [entry.id for entry in manifest.runs] == [run.id for run in runs]
    assert [manifest.run_dir(entry, folder) for entry in manifest.runs] == [run.run_dir for run in runs]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    record_plan(spec, runs)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    runs[0].config_file.write_text(runs[0].config_file.read_text().replace("runs", "elsewhere"))
    record_plan(spec, runs)
    assert load_config(runs[0].config_file) == runs[0].config, "a folder that was moved trains where it is"
    assert manifest.unfinished(folder) == list(manifest.runs)
    (runs[0].run_dir / "model").mkdir(parents=True)
    assert todo(runs) == [runs[1]]
    assert manifest.unfinished(folder) == [manifest.runs[1]]


ENTRY = Entry("a/seed-0", "g", "transfer", 0, "../a/seed-0", {"x": "1"}, "step-5")


def test_a_manifest_comes_back(tmp_path):
    manifest = Manifest("n", (ENTRY,), {"x": ("1", "2")}, "f.yaml")
    write_manifest(manifest, tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert ENTRY.label == "g, transfer, x 1 from step-5"


def test_what_killed_commands_left_in_an_experiment_goes_once_it_is_given_again(tmp_path):
    folder = tmp_path / "n"
    manifest = Manifest("n", (ENTRY,))
    write_manifest(manifest, folder)
    run_dir = manifest.run_dir(ENTRY, folder)
    (run_dir / "model").mkdir(parents=True)
    drafts = [left_by_killed(folder / "comparison", ".json"), left_by_killed(folder / "configs/a", ".yaml")]
    for draft in drafts:
        write_text(draft, "half a fi")
    write_text(folder / "configs/.mine.yaml", "mine")
    leave(run_dir, b"process 1 on host a")
    write_manifest(manifest, folder)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        ".mine.yaml",
        "manifest.json",
    ]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:40], "is not JSON"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "no manifest of format 1"),
        (lambda text: text.replace('"seed": 0', '"seed": "0"'), "is damaged"),
        (lambda text: text.replace('"folder"', '"flder"'), "is damaged"),
        (lambda text: "[]", "holds no JSON object"),
        (lambda text: "[" * 100_000, "nested too deeply"),
        (lambda text: text.replace('"axes": {}', '"axes": {"a": []}'), "is damaged"),
        (lambda text: text.replace("../a/seed-0", "../a\\u0000"), "is damaged"),
        (lambda text: json.dumps({**json.loads(text), "runs": json.loads(text)["runs"] * 2}), "is damaged"),
    ],
)
def test_a_damaged_manifest_is_reported(tmp_path, damage, told):
    path = write_manifest(Manifest("n", (ENTRY,)), tmp_path)
    write_text(path, damage(path.read_text()))
    assert told in faults(read_manifest, tmp_path)[0]


def test_a_missing_manifest_is_reported(tmp_path):
    assert "No such file" in faults(read_manifest, tmp_path)[0]


OTHER = "[{task: reverse, role: target, lengths: [1, 4]}]"
TWICE = [
    ("grid: {seed.init: [3, 4]}", "grid.seed.init: seed.init: is set by the sweep's seeds"),
    ("arms: [{name: a, config: {seed: {init: 3}}}]", "arms.0.config: seed.init: is set by the sweep's seeds"),
    (
        "grid: {train.steps: [1, 2]}\narms: [{name: a, config: {train: {steps: 3}}}]",
        "arms.0.config: train.steps replaces what grid.train.steps sets",
    ),
    (
        "grid: {model.positions: [rope], p: {nope: {model: {positions: nope}}}}",
        "grid.p: model.positions replaces what grid.model.positions sets",
    ),
    (
        f"grid: {{target_length: [4], mixture: [{OTHER}]}}",
        "grid.mixture: mixture replaces what grid.target_length sets",
    ),
    (
        f"grid: {{target_length: [4]}}\narms: [{{name: a, config: {{mixture: {OTHER}}}}}]",
        "arms.0.config: mixture replaces what grid.target_length sets",
    ),
]


@pytest.mark.parametrize(("text", "told"), TWICE)
def test_no_setting_is_replaced_unseen(sweep, text, told):
    (fault,) = faults(sweep, f"{LEAST}{text}\n")
    assert fault.startswith(told)


def test_a_part_of_what_was_set_before_can_be_set(sweep):
    runs = sweep(f"{LEAST}grid: {{mixture: [{OTHER}], target_length: [2, 3]}}\n")
    assert [run.config.mixture[0].lengths for run in runs] == [(1, 2), (1, 3)]


def test_what_checkpoints_set_is_set_by_nothing_else(sweep):
    demo = ROOT / "recipes" / "pretrained_demo" / "mqar.yaml"
    told = faults(
        sweep,
        f"name: s\nconfig: {demo}\nseeds: [0]\ncheckpoints: {{name_or_path: o/m, revisions: [a]}}\n"
        "arms: [{name: a, config: {seed: {data: 1}, model: {revision: b}}}]\n",
    )
    assert told == [
        "arms.0.config: seed.data: is set by the sweep's seeds; --seeds 0,1,2 chooses them",
        "arms.0.config: model.revision: is set by the sweep's checkpoints",
    ]


def test_an_override_of_what_an_arm_sets_is_refused(sweep):
    (fault,) = faults(sweep, LEAST + "arms: [{name: a, config: {train: {steps: 9}}}]\n", "train.steps=2")
    assert fault == "train.steps: is set by the sweep's arm a"


def test_all_runs_have_one_output_dir(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(LEAST + "groups: {a: {output_dir: A}, b: {output_dir: B}}\n")
    (fault,) = faults(plan, load_sweep(file))
    assert fault == "output_dir: is A, B; all runs of a sweep have one"


VALUES = [
    ("{train.steps: [5, 5]}", "grid.train.steps: 5 is a duplicate"),
    ("{train.steps: [5, '5']}", "grid.train.steps: 2 values read 5; give them names"),
    ('{data.path: ["a\\nb"]}', "grid.data.path: 'a\\nb' must be printable text"),
]


@pytest.mark.parametrize(("grid", "told"), VALUES)
def test_values_that_cannot_be_told_apart_or_shown(sweep, grid, told):
    (fault,) = faults(sweep, f"{LEAST}grid: {grid}\n")
    assert fault.startswith(told)


def test_a_mixture_that_is_no_list_is_reported(sweep):
    (fault,) = faults(sweep, LEAST + "groups: {a: {mixture: 3}}\ngrid: {target_length: [4]}\n")
    assert fault == "a, target_length 4: mixture: 3 must be a list of tasks"


def test_more_runs_than_anybody_means(sweep):
    values = ", ".join(f"v{i}: {{}}" for i in range(101))
    (fault,) = faults(sweep, f"{LEAST}grid: {{a: {{{values}}}, b: {{{values}}}}}\n")
    assert fault == "grid, arms, seeds: make 10201 runs; a sweep has at most 10000"
