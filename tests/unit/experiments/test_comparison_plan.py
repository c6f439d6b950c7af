from pathlib import Path

import pytest

from hf_lgt.commands import cli
from hf_lgt.config.load import load_config
from hf_lgt.experiments.launch import check_data, last_error
from hf_lgt.experiments.plan import plan, todo
from hf_lgt.experiments.spec import ArmSpec, ExperimentSpec, load_comparison, seed_faults
from hf_lgt.utils import yaml
from hf_lgt.utils.errors import ConfigError
from tests.conftest import ROOT

ARM = "mixture: [{task: reverse, role: target, lengths: [1, 8]}]\neval: {lengths: [1, 8]}\n"


@pytest.fixture
def folder(tmp_path):
    """Writes files of a comparison; gives their folder."""

    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def faults_of(make, *arguments):
    with pytest.raises(ConfigError) as caught:
        make(*arguments)
    return caught.value.faults


def read(folder, overrides=()):
    return plan(load_comparison(folder), [f"output_dir={folder / 'runs'}", *overrides])


def test_the_demo_has_its_controls_over_eight_seeds():
    comparison = load_comparison(ROOT / "recipes" / "demo")
    assert comparison == load_comparison(str(ROOT / "recipes" / "demo" / "compare.yaml"))
    assert comparison.name == "demo"
    assert comparison.seeds == tuple(range(8))
    assert [arm.name for arm in comparison.arms] == [
        "transfer", "target_alone", "control", "target_long", "target_alone_same_examples"
    ]  # fmt: skip
    assert all(arm.file.is_file() for arm in comparison.arms)


def test_arms_lie_beside_the_comparison_wherever_it_is_read_from(folder, tmp_path, monkeypatch):
    folder(compare="name: c\narms: [a.yaml]\nseeds: [0]\n", a="name: a\n" + ARM)
    monkeypatch.chdir(tmp_path.parent)
    for path in (tmp_path, Path(tmp_path.name), Path(tmp_path.name) / "compare.yaml"):
        (item,) = plan(load_comparison(path))
        assert item.config.name == "a"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "must hold the keys name, arms and seeds"),
        (b"[a.yaml, b.yaml]", "must hold the keys name, arms and seeds"),
        (b"transfer.yaml", "must hold the keys name, arms and seeds"),
        (b"name: [", "line 1"),
        (b"name: a\nname: b\n", "duplicate key 'name'"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_comparison_is_reported_by_its_name(tmp_path, content, told):
    path = tmp_path / "compare.yaml"
    path.write_bytes(content)
    (fault,) = faults_of(load_comparison, tmp_path)
    assert fault.startswith(f"comparison {path}: ")
    assert told in fault
    assert "\n" not in fault


def test_a_missing_comparison_is_reported_by_its_name(tmp_path):
    nowhere = tmp_path / "nowhere"
    assert faults_of(load_comparison, nowhere) == [f"comparison {nowhere}: No such file or directory"]
    expected = f"comparison {tmp_path / 'compare.yaml'}: No such file or directory"
    assert faults_of(load_comparison, tmp_path) == [expected]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "null"),
        ("name", "5"),
        ("name", "a/b"),
        ("name", "''"),
        ("name", "[a]"),
        ("arms", "null"),
        ("arms", "[]"),
        ("arms", "a.yaml"),
        ("arms", "[a.yaml, 5]"),
        ("arms", "{a: b}"),
        ("seeds", "null"),
        ("seeds", "[]"),
        ("seeds", "3"),
        ("seeds", "0,1"),
        ("seeds", "[0, -1]"),
        ("seeds", "[0, 1.0]"),
        ("seeds", "[0, true]"),
        ("seeds", "[0, '1']"),
        ("seeds", "[0, [1]]"),
        ("seeds", "[1, 0, 1]"),
    ],
)
def test_a_wrong_value_is_one_fault_that_names_its_key(folder, key, value):
    lines = {"name": "c", "arms": "[a.yaml]", "seeds": "[0]"} | {key: value}
    text = "".join(f"{k}: {v}\n" for k, v in lines.items())
    (fault,) = faults_of(load_comparison, folder(compare=text))
    assert fault.startswith(f"{key}: {yaml.load(value)!r} must be ")


def test_all_faults_of_a_comparison_are_reported_at_once(folder):
    path = folder(compare="nmae: c\narms: a.yaml\nseed: [0]\n")
    faults = faults_of(load_comparison, path)
    assert [fault.split(": ")[0] for fault in faults[2:]] == ["name", "arms", "seeds"]
    assert "unknown key 'nmae'; did you mean 'name'?" in faults[0]
    assert "unknown key 'seed'; did you mean 'seeds'?" in faults[1]


@pytest.mark.parametrize("seeds", [[0], (3, 1), [2**62]])
def test_different_whole_numbers_are_seeds(seeds):
    assert seed_faults(seeds) == []


def test_a_plan_holds_every_seed_of_every_arm(folder):
    path = folder(
        compare="name: c\narms: [b.yaml, a.yaml]\nseeds: [3, 0]\n",
        a="name: arm-a\n" + ARM,
        b="base: a.yaml\nname: arm-b\ntrain: {steps: 7}\n",
    )
    planned = read(path, ["train.batch_size=16"])
    assert [(item.arm, item.seed) for item in planned] == [("b", 3), ("b", 0), ("a", 3), ("a", 0)]
    assert [item.config.seed.init for item in planned] == [3, 0, 3, 0]
    assert [item.config.train.steps for item in planned] == [7, 7, 20_000, 20_000]
    assert {item.config.train.batch_size for item in planned} == {16}
    assert len({item.config.run_dir for item in planned}) == 4
    assert sorted(p.name for p in path.iterdir()) == ["a.yaml", "b.yaml", "compare.yaml"]


def test_what_a_run_is_called_with_gives_the_config_that_was_checked(folder):
    path = folder(compare="name: c\narms: [a.yaml]\nseeds: [5]\n", a="name: arm-a\n" + ARM)
    (item,) = read(path, ["train.steps=7", "eval.lengths=[1, 4]"])
    recipe = cli.parser("Trains.")
    recipe.add_argument("--config")
    known, overrides = cli.parse_options(recipe, item.arguments)
    assert known.config == str(path / "a.yaml")
    assert load_config(known.config, overrides) == item.config


def test_the_faults_of_all_arms_are_reported_at_once_each_with_its_arm(folder):
    path = folder(
        compare="name: c\narms: [a.yaml, b.yaml, fine.yaml, nowhere.yaml]\nseeds: [0, 1, 2]\n",
        a="name: a\ntrain: {stesp: 5}\n" + ARM,
        b="name: b\ntrain: {steps: -5}\n" + ARM,
        fine="name: fine\n" + ARM,
    )
    faults = faults_of(read, path)
    assert len(faults) == 3
    assert faults[0].startswith("a: train.stesp: unknown key 'stesp'; did you mean 'steps'?")
    assert faults[1] == "b: train.steps: -5 must be at least 1"
    assert faults[2] == f"nowhere: config file {path / 'nowhere.yaml'}: No such file or directory"
    assert not (path / "runs").exists()


def test_arms_that_would_share_a_folder_are_reported(folder):
    path = folder(
        compare="name: c\narms: [a.yaml, b.yaml, c.yaml]\nseeds: [0, 1]\n",
        a="name: same\n" + ARM,
        b="name: other\n" + ARM,
        c="name: same\ntrain: {steps: 7}\n" + ARM,
    )
    assert faults_of(read, path) == ["c: name: its runs would be those of a"]
    assert faults_of(read, path, ["name=all"]) == [
        "b: name: its runs would be those of a",
        "c: name: its runs would be those of a",
    ]


def test_arms_of_one_name_in_different_folders_are_different_runs(folder):
    path = folder(
        compare="name: c\narms: [a.yaml, b.yaml]\nseeds: [0]\n",
        a="name: same\noutput_dir: A\n" + ARM,
        b="name: same\noutput_dir: B\n" + ARM,
    )
    runs = plan(load_comparison(path))
    assert todo(runs) == runs
    assert [run.entry.folder for run in runs] == ["../same/seed-0", "../../B/same/seed-0"]
    assert {run.folder for run in runs} == {Path("A/c")}


def test_the_same_arm_twice_is_reported(folder):
    path = folder(compare="name: c\narms: [a.yaml, a.yaml]\nseeds: [0, 1]\n", a="name: same\n" + ARM)
    assert faults_of(read, path) == ["arms: 2 files are named a; an arm has the name of its file"]


def test_a_seed_that_a_config_does_not_take_is_reported(folder):
    path = folder(compare=f"name: c\narms: [a.yaml]\nseeds: [0, {2**63}]\n", a="name: a\n" + ARM)
    faults = faults_of(read, path)
    assert [fault[: fault.index(" must")] for fault in faults] == [
        f"a: seed.init: {2**63}", f"a: seed.data: {2**63}"
    ]  # fmt: skip


def finish(item):
    """Leaves what a finished run of this config leaves, as far as a plan looks."""
    (item.config.run_dir / "model").mkdir(parents=True)
    (item.config.run_dir / "config.yaml").write_text(yaml.dump(item.config.to_dict()), encoding="utf-8")


def test_finished_runs_of_the_same_config_are_no_fault(folder):
    path = folder(compare="name: c\narms: [a.yaml]\nseeds: [0, 1]\n", a="name: a\n" + ARM)
    finish(read(path)[0])
    assert len(read(path)) == 2


def test_a_finished_run_of_another_config_is_reported(folder):
    path = folder(compare="name: c\narms: [a.yaml]\nseeds: [0, 1]\n", a="name: a\n" + ARM)
    planned = read(path)
    finish(planned[0])
    (fault,) = faults_of(read, path, ["train.steps=7"])
    assert fault.startswith(f"a: name: {planned[0].config.run_dir} holds a run of another config")


def test_a_misspelt_key_brings_the_closest_name(folder):
    (fault,) = faults_of(load_comparison, folder(compare="name: c\narms: [a.yaml]\nseeds: [0]\nseed: 1\n"))
    assert "did you mean 'seeds'?" in fault


def test_arms_whose_files_have_one_name_are_reported(tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "arm.yaml").write_text(f"name: {place}\n{ARM}", encoding="utf-8")
    arms = tuple(ArmSpec("arm", file=tmp_path / place / "arm.yaml") for place in ("one", "two"))
    with pytest.raises(ConfigError, match="arm"):
        plan(ExperimentSpec("c", tmp_path, arms, (0,)), [f"output_dir={tmp_path / 'runs'}"])


def test_an_override_of_the_seed_is_not_dropped_silently(folder):
    path = folder(compare="name: c\narms: [a.yaml]\nseeds: [0]\n", a="name: a\n" + ARM)
    with pytest.raises(ConfigError, match=r"seed\.init"):
        read(path, ["seed.init=7"])


def test_an_unfinished_run_of_another_config_is_reported_before_anything_runs(folder):
    path = folder(compare="name: c\narms: [a.yaml]\nseeds: [0]\n", a="name: a\n" + ARM)
    (item,) = read(path)
    finish(item)
    (item.config.run_dir / "model").rmdir()
    with pytest.raises(ConfigError, match="another config"):
        read(path, ["train.steps=7"])


def test_a_finished_run_without_a_readable_config_does_not_hide_other_faults(folder):
    path = folder(
        compare="name: c\narms: [a.yaml, b.yaml]\nseeds: [0]\n",
        a="name: a\n" + ARM,
        b="name: b\n" + ARM,
    )
    first, _ = read(path)
    finish(first)
    (first.config.run_dir / "config.yaml").write_text("a: [", encoding="utf-8")
    (path / "b.yaml").write_text("name: 5\n" + ARM, encoding="utf-8")
    faults = faults_of(read, path)
    assert len(faults) == 2
    assert faults[0].startswith("a: ")


def test_what_a_run_said_last_is_shown(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("error: 1 fault:\n  old\nworking\nerror: 2 faults:\n  data.path: x\n  data.name: y\n")
    assert last_error(log) == "  error: 2 faults:\n    data.path: x\n    data.name: y"
    log.write_text("one\ntwo\nthree\nfour\n")
    assert last_error(log) == "  two\n  three\n  four"


def test_a_dataset_that_cannot_be_opened_is_reported_before_any_run(tmp_path, root):
    arm = root / "recipes/language/initials/transfer.yaml"
    comparison = ExperimentSpec("x", arm.parent, (ArmSpec("transfer", file=arm),), (0, 1))
    overrides = [f"data.path={tmp_path / 'none.jsonl'}", f"output_dir={tmp_path / 'runs'}"]
    with pytest.raises(ConfigError, match=r"transfer: data.path: .* is no file or folder"):
        check_data(plan(comparison, overrides))
    assert not (tmp_path / "runs").exists()
