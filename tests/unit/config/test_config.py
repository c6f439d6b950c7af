import importlib.util

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_builders import list_tasks
from hf_lgt.config.load import config_from_dict, load_config
from hf_lgt.config.schema import Config, describe_keys
from hf_lgt.experiments.plan import plan
from hf_lgt.experiments.probe.battery import load_battery
from hf_lgt.experiments.probe.subjects import planned_runs, subjects_of
from hf_lgt.experiments.spec import load_comparison, load_sweep
from hf_lgt.pretraining.config import load_pretrain_config
from hf_lgt.utils import yaml
from hf_lgt.utils.errors import ConfigError
from tests.conftest import ROOT

DEMO = ROOT / "recipes" / "demo" / "transfer.yaml"
LEAST = "name: least\nmixture: [{task: reverse, role: target, lengths: [1, 8]}]\n"

# a loaded machine draws slowly, which is no fault
STEADY = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture
def file(tmp_path):
    """Writes a config file and gives its path."""

    def write(text, name="config.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults_of(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    faults = caught.value.faults
    assert faults
    assert str(caught.value) == "\n".join(faults)
    return faults


def keys_of(faults):
    return [fault.split(": ")[0] for fault in faults]


# ---------------------------------------------------------------------------------- what is read


def test_every_recipe_config_is_valid():
    paths = [
        p
        for p in sorted((ROOT / "recipes").rglob("*.yaml"))
        if p.parent.name not in ("lm_eval", "accelerate")
    ]
    keys = {p: set(yaml.load(p.read_text())) for p in paths}
    batteries = [p for p in paths if "families" in keys[p]]
    sweeps = [
        p for p in paths if "seeds" in keys[p] and keys[p] & {"config", "groups"} and p not in batteries
    ]
    comparisons = [p for p in paths if "arms" in keys[p] and p not in sweeps]
    pretrainings = [p for p in paths if p.name.startswith("pretrain")]
    runs = set(paths) - set(sweeps) - set(comparisons) - set(pretrainings) - set(batteries)
    assert len(runs) >= 7
    for path in runs:
        assert load_config(path).name
    assert len(pretrainings) >= 2
    for path in pretrainings:
        assert load_pretrain_config(path).name
    assert len(comparisons) >= 3
    for path in comparisons:
        assert plan(load_comparison(path))
    assert len(sweeps) >= 26
    for path in sweeps:
        assert plan(load_sweep(path))
    assert batteries
    for path in batteries:
        assert planned_runs(load_battery(path), subjects_of(["org/model"]), ROOT / "corpora", [])


def test_the_demo_file_is_read():
    config = load_config(DEMO)
    assert config.name == "demo-transfer"
    assert [(c.task, c.role, c.lengths) for c in config.mixture] == [
        ("capitalize_reverse", "target", (1, 8)),
        ("capitalize", "auxiliary", (1, 16)),
        ("reverse", "auxiliary", (1, 16)),
    ]
    assert config.mixture[0].options == {"alphabet": "abcd"}
    assert config.model.rope_theta == 1e2
    assert config.train.precision == "no"
    assert config.eval.grid == list(range(1, 21))


def test_what_a_file_does_not_say_takes_its_default(file):
    config = load_config(file(LEAST))
    defaults = Config(name="least", mixture=config.mixture)
    assert config == defaults
    assert config.output_dir == "runs"
    assert (config.seed.init, config.seed.data, config.eval.seed) == (0, 0, 1234)
    assert (config.model.layers, config.model.hidden_size, config.model.heads) == (6, 384, 6)
    assert (config.train.steps, config.train.batch_size, config.train.learning_rate) == (20_000, 1024, 1e-3)
    assert config.train.betas == (0.9, 0.98)
    assert config.eval.lengths == (1, 40)
    assert config.mixture[0].weight == 1.0
    assert config.mixture[0].options == {}


def test_the_run_folder_is_made_of_output_dir_name_and_seed(file):
    config = load_config(file(LEAST), ["output_dir=some/where", "seed.init=7"])
    assert config.run_dir.as_posix() == "some/where/least/seed-7"


def test_the_grid_takes_every_so_many_lengths():
    assert load_config(DEMO, ["eval.lengths=[2,11]", "eval.every=3"]).eval.grid == [2, 5, 8, 11]


def test_the_mixture_is_what_the_data_builders_take():
    mixture = load_config(DEMO, ["mixture.1.weight=3"]).build_mixture()
    assert [c.task for c in mixture.components] == ["capitalize_reverse", "capitalize", "reverse"]
    assert mixture.shares.tolist() == [0.2, 0.6, 0.2]


def test_a_config_cannot_be_changed():
    config = load_config(DEMO)
    with pytest.raises(AttributeError):
        config.name = "other"


# ------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.steps=5", lambda c: c.train.steps, 5),
        ("--train.steps=5", lambda c: c.train.steps, 5),
        ("train.steps=0x10", lambda c: c.train.steps, 16),
        ("name=other", lambda c: c.name, "other"),
        ("name='2024'", lambda c: c.name, "2024"),
        ("train.learning_rate=3e-3", lambda c: c.train.learning_rate, 0.003),
        ("train.learning_rate=1", lambda c: c.train.learning_rate, 1.0),
        ("model.rope_theta=1e5", lambda c: c.model.rope_theta, 1e5),
        ("train.precision=no", lambda c: c.train.precision, "no"),
        ("train.compile=true", lambda c: c.train.compile, True),
        ("model={layers: 3}", lambda c: c.model.layers, 3),
        ("train.save_every=null", lambda c: c.train.save_every, None),
        ("train.eval_every=~", lambda c: c.train.eval_every, None),
        ("train.max_grad_norm=null", lambda c: c.train.max_grad_norm, None),
        ("model.kv_heads=2", lambda c: c.model.kv_heads, 2),
        ("train.betas=[0.8, 0.95]", lambda c: c.train.betas, (0.8, 0.95)),
        ("eval.lengths=[2,9]", lambda c: c.eval.lengths, (2, 9)),
        ("mixture.0.lengths=[1,4]", lambda c: c.mixture[0].lengths, (1, 4)),
        ("mixture.0.lengths.1=5", lambda c: c.mixture[0].lengths, (1, 5)),
        ("mixture.2.options.alphabet=xyz", lambda c: c.mixture[2].options, {"alphabet": "xyz"}),
        ("mixture.2.options={}", lambda c: c.mixture[2].options, {}),
        ("mixture.1={task: mqar, role: auxiliary, lengths: [3, 9]}", lambda c: c.mixture[1].task, "mqar"),
        ("output_dir=a=b", lambda c: c.output_dir, "a=b"),
        ("output_dir=/päth/to runs", lambda c: c.output_dir, "/päth/to runs"),
    ],
)
def test_an_override_sets_one_key(override, read, value):
    config = load_config(DEMO, [override])
    assert read(config) == value
    assert type(read(config)) is type(value)


def test_an_override_leaves_the_other_keys_alone():
    config, other = load_config(DEMO), load_config(DEMO, ["mixture.0.options.alphabet=xy"])
    assert other.mixture[0].options == {"alphabet": "xy"}
    assert other.mixture[1:] == config.mixture[1:]
    assert other.model == config.model


def test_an_override_of_what_an_alias_shares_changes_one_place(file):
    text = """
name: shared
mixture:
  - {task: capitalize_reverse, role: target, lengths: [1, 8], options: &letters {alphabet: abcd}}
  - {task: reverse, role: auxiliary, lengths: [1, 8], options: *letters}
"""
    config = load_config(file(text), ["mixture.0.options.alphabet=xy"])
    assert [c.options["alphabet"] for c in config.mixture] == ["xy", "abcd"]


def test_the_last_of_two_overrides_wins():
    assert load_config(DEMO, ["train.steps=5", "train.steps=6"]).train.steps == 6


def test_an_override_can_make_a_section_that_the_file_has_not(file):
    assert load_config(file(LEAST), ["train.steps=5"]).train.steps == 5


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("train.steps", "override 'train.steps' is not of the form section.key=value"),
        ("=5", "override '=5' is not of the form section.key=value"),
        ("--", "override '--' is not of the form section.key=value"),
        ("", "override '' is not of the form section.key=value"),
        ("a\nb=5", "override 'a\\nb=5' is not of the form section.key=value"),
        ("a\udcff=5", "override 'a\\udcff=5' is not of the form section.key=value"),
        ("mixture.3.task=reverse", "mixture.3.task: '3' is no index of mixture, a list of 3, from 0"),
        ("mixture.-1.task=reverse", "mixture.-1.task: '-1' is no index of mixture, a list of 3, from 0"),
        ("mixture.first.task=x", "mixture.first.task: 'first' is no index of mixture, a list of 3, from 0"),
        ("mixture.3={}", "mixture.3: '3' is no index of mixture, a list of 3, from 0"),
        ("model.layers.x=5", "model.layers.x: model.layers is 3, which has no keys"),
        ("name.x.y=5", "name.x.y: name is 'demo-transfer', which has no keys"),
        ("base=other.yaml", "base: 'other.yaml' can only stand in a config file"),
    ],
)
def test_an_override_that_leads_nowhere_is_reported(override, fault):
    assert faults_of(DEMO, override) == [fault]


def test_an_index_of_a_thousand_digits_is_only_a_fault():
    (fault,) = faults_of(DEMO, f"mixture.{'1' * 5000}.task=reverse")
    assert "is no index of mixture" in fault


@pytest.mark.parametrize("text", ["", " ", "#5", "# nothing"])
def test_an_override_without_a_value_is_not_taken_for_null(text):
    (fault,) = faults_of(DEMO, f"train.save_every={text}")
    assert fault == f"train.save_every: the value {text!r} is empty; for no value write null"


@pytest.mark.parametrize(
    "text", ["[1,", "{", '"a', "a: b: c", "!!bool x", "1" * 2000, "*x", "\t", "{a: 1, a: 2}"]
)
def test_an_override_whose_value_is_no_yaml_is_reported(text):
    (fault,) = faults_of(DEMO, f"train.steps={text}")
    assert fault.startswith(f"train.steps: the value {repr(text)[:8]}")
    assert "is not YAML: line 1" in fault


# ------------------------------------------------------------------------------------------ base


def test_a_file_holds_only_what_differs_from_its_base(file):
    file("train: {steps: 7, warmup: 0.2}\nmodel: {layers: 3}\n" + LEAST, "base.yaml")
    path = file("base: base.yaml\nname: above\ntrain: {steps: 9}\n", "above.yaml")
    config = load_config(path)
    assert config.name == "above"
    assert (config.train.steps, config.train.warmup, config.model.layers) == (9, 0.2, 3)
    assert config.mixture[0].task == "reverse"


def test_lists_of_the_base_are_replaced_not_merged():
    config = load_config(ROOT / "recipes/demo/target_alone.yaml")
    assert [c.task for c in config.mixture] == ["capitalize_reverse"]
    assert config.model == load_config(DEMO).model


def test_a_base_is_relative_to_the_file_that_names_it(file, monkeypatch, tmp_path):
    file(LEAST, "one/two/lowest.yaml")
    file("base: two/lowest.yaml\nmodel: {layers: 2}\n", "one/middle.yaml")
    path = file("base: ../one/middle.yaml\nname: top\n", "other/top.yaml")
    monkeypatch.chdir(tmp_path)
    for given_path in (path, path.relative_to(tmp_path), str(path)):
        config = load_config(given_path)
        assert (config.name, config.model.layers, config.mixture[0].task) == ("top", 2, "reverse")


def test_a_base_may_be_an_absolute_path(file):
    base = file(LEAST, "base.yaml")
    assert load_config(file(f"base: {base}\nname: above\n", "deep/above.yaml")).name == "above"


def test_files_that_are_each_others_base_are_reported(file):
    file("base: b.yaml\n", "a.yaml")
    file("base: sub/../a.yaml\n", "b.yaml")
    (file("", "sub/empty")).unlink()
    (fault,) = faults_of(file("base: a.yaml\n", "c.yaml"))
    assert fault.startswith("base: ")
    assert "is based on itself" in fault


def test_a_file_that_is_its_own_base_is_reported(file):
    (fault,) = faults_of(file("base: config.yaml\n"))
    assert "is based on itself" in fault


def test_a_long_chain_of_bases_is_refused(tmp_path):
    for i in range(60):
        (tmp_path / f"{i}.yaml").write_text(f"base: {i + 1}.yaml\n")
    (tmp_path / "60.yaml").write_text(LEAST)
    assert load_config(tmp_path / "11.yaml").name
    assert faults_of(tmp_path / "10.yaml") == [
        f"base: {tmp_path / '60.yaml'} is below 50 files that are based on one another"
    ]


@pytest.mark.parametrize("key", ["a", "mixture.0.options", "model"])
def test_a_key_with_thousands_of_parts_is_refused(file, key):
    (fault,) = faults_of(file(LEAST), f"{key}{'.a' * 5000}=1")
    assert "parts; no key has more than 20" in fault


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("nowhere.yaml", "nowhere.yaml: No such file or directory"),
        (".", "is a folder, not a file"),
        ("5", "base: 5 must be the path of a config file"),
        ("[a.yaml]", "base: ['a.yaml'] must be the path of a config file"),
        ('"a\\0b"', "is no path of a file"),
        ("a" * 300, "File name too long"),
    ],
)
def test_a_base_that_is_no_config_file_is_reported(file, base, told):
    (fault,) = faults_of(file(f"base: {base}\n" + LEAST))
    assert fault.startswith("base: ")
    assert told in fault


def test_a_base_with_a_fault_of_its_own_is_reported_by_its_name(file):
    broken = file("train: [", "broken.yaml")
    (fault,) = faults_of(file("base: broken.yaml\n" + LEAST))
    assert fault.startswith(f"base: config file {broken} is not YAML: line 1")


# --------------------------------------------------------------------------------- files as such


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty; it must hold keys"),
        (b"# nothing but a remark\n", "is empty; it must hold keys"),
        (b"just words\n", "holds 'just words'; it must hold keys"),
        (b"- task: reverse\n", "it must hold keys"),
        (b"5\n", "holds 5; it must hold keys"),
        (b"name: [1, 2\n", "is not YAML: line 2"),
        (b"name: a\n\tmixture: b\n", "is not YAML: line 2"),
        (b"\xff\xfe\x00\x01", "is not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n", "is not UTF-8 text"),
        (b"name: a\x00b\n", "is not YAML: character 8 is not allowed"),
        (b"name: a\nname: b\n", "is not YAML: line 2: duplicate key 'name'"),
        (b"train: {steps: 1, steps: 2}\n", "is not YAML: line 1: duplicate key 'steps'"),
        (b"name: !!python/name:os.system\n", "is not YAML: line 1: the tag"),
        (b"%PDF-1.7\n", "is not YAML"),
    ],
)
def test_a_file_that_is_no_config_is_reported_by_its_name(tmp_path, content, told):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    (fault,) = faults_of(path)
    assert fault.startswith(f"config file {path}")
    assert told in fault
    assert "\n" not in fault


def test_a_missing_file_is_reported_by_its_name(tmp_path):
    assert faults_of(tmp_path / "nowhere.yaml") == [
        f"config file {tmp_path / 'nowhere.yaml'}: No such file or directory"
    ]
    assert faults_of(tmp_path) == [f"config file {tmp_path} is a folder, not a file"]


def test_a_link_that_leads_to_itself_is_reported(tmp_path):
    path = tmp_path / "config.yaml"
    path.symlink_to(path)
    assert "symbolic links" in faults_of(path)[0]


def test_a_byte_order_mark_is_no_fault(file):
    assert load_config(file("\ufeff" + LEAST)).name == "least"


# ------------------------------------------------------------------------------- one fault alone

# override, key that the fault names, what it must say besides
WRONG = [
    # unknown and misspelt keys
    ("train.stesp=5", "train.stesp", ["unknown key 'stesp'", "did you mean 'steps'?"]),
    ("trian.steps=5", "trian", ["unknown key 'trian'", "did you mean 'train'?"]),
    ("mixture.0.wieght=1", "mixture.0.wieght", ["did you mean 'weight'?"]),
    ("model.n_heads=4", "model.n_heads", ["did you mean 'heads'?"]),
    ("ouput_dir=x", "ouput_dir", ["did you mean 'output_dir'?"]),
    ("seed.x=4", "seed.x", ["unknown key 'x' (known: init, data)"]),
    ("train.=4", "train.", ["unknown key ''"]),
    ("task=reverse", "task", ["unknown key 'task'"]),
    ("mixture.0.options.alphabte=abc", "mixture.0.options", ["'alphabte'", "did you mean 'alphabet'?"]),
    # unknown and misspelt words
    ("mixture.0.task=revers", "mixture.0.task", ["unknown task 'revers'", "did you mean 'reverse'?"]),
    ("mixture.0.task=zzzz", "mixture.0.task", ["unknown task 'zzzz' (known: "]),
    ("mixture.1.role=auxilary", "mixture.1.role", ["'auxilary'", "'target' or 'auxiliary'"]),
    ("train.precision=fp8", "train.precision", ["'fp8'", "'no', 'bf16' or 'fp16'"]),
    ("model.positions=absolute", "model.positions", ["'absolute'", "'rope', 'nope' or 'alibi'"]),
    ("model.position_ids=random", "model.position_ids", ["'random'", "'randomized', 'coupled' or 'abacus'"]),
    ("model.position_range=0", "model.position_range", ["0 must be at least 1"]),
    ("train.trackers=[tensorbored]", "train.trackers.0", ["'tensorbored'", "'tensorboard'"]),
    ("mixture.0.options.alphabet=ABC", "mixture.0.options", ["'ABC'", "lower-case letters"]),
    # lengths
    ("mixture.0.lengths=[0,8]", "mixture.0.lengths", ["0 is below 1", "smallest length"]),
    ("mixture.0.lengths=[-4,8]", "mixture.0.lengths", ["-4 is below 1"]),
    ("mixture.0.lengths=[9,3]", "mixture.0.lengths", ["[9, 3] must be [smallest, largest]"]),
    ("mixture.0.lengths=[1,256]", "mixture.0.lengths", ["length 256", "516 tokens", "max_positions is 512"]),
    ("mixture.0.lengths=[1,100000000000000000000]", "mixture.0.lengths", ["model.max_positions is 512"]),
    ("mixture.0.lengths=[3]", "mixture.0.lengths", ["[3] must be [smallest, largest], two integers"]),
    ("mixture.0.lengths=1-8", "mixture.0.lengths", ["'1-8' must be [smallest, largest]"]),
    ("mixture.0.lengths=[1,8.5]", "mixture.0.lengths.1", ["8.5 must be an integer"]),
    ("eval.lengths=[0,8]", "eval.lengths", ["[0, 8] must be [smallest, largest], from 1"]),
    ("eval.lengths=[9,8]", "eval.lengths", ["[9, 8] must be [smallest, largest], from 1"]),
    ("mixture.2={task: mqar, role: auxiliary, lengths: [2, 8]}", "mixture.2.lengths", ["2 is below 3"]),
    # the mixture as a whole
    ("mixture=[]", "mixture", ["is empty", "at least one component"]),
    ("mixture=null", "mixture", ["null must be a list"]),
    ("mixture.0.role=auxiliary", "mixture", ["no component has role 'target'"]),
    ("mixture.2.task=capitalize", "mixture.2.task", ["'capitalize' stands", "twice, as mixture.1 too"]),
    ("mixture.1=reverse", "mixture.1", ["'reverse' must be a mapping of keys"]),
    ("mixture.1={role: auxiliary, lengths: [1, 8]}", "mixture.1.task", ["is missing"]),
    # numbers that are negative or out of their range
    ("train.steps=-5", "train.steps", ["-5 must be at least 1"]),
    ("train.steps=0", "train.steps", ["0 must be at least 1"]),
    ("train.steps=3000000000", "train.steps", ["3000000000 must be at most 2147483648"]),
    ("train.learning_rate=-0.1", "train.learning_rate", ["-0.1 must be at least 0"]),
    ("train.warmup=1.5", "train.warmup", ["1.5 must be at most 1"]),
    ("train.betas=[0.9,1]", "train.betas.1", ["1 must be below 1"]),
    ("train.max_grad_norm=0", "train.max_grad_norm", ["0 must be above 0"]),
    ("model.rope_theta=-1", "model.rope_theta", ["-1 must be above 0"]),
    ("seed.init=-1", "seed.init", ["-1 must be at least 0"]),
    ("seed.data=9223372036854775808", "seed.data", ["must be below 9223372036854775808"]),
    ("mixture.0.weight=0", "mixture.0.weight", ["0.0 must be a number above 0"]),
    ("mixture.0.weight=-2", "mixture.0.weight", ["-2.0 must be a number above 0"]),
    ("mixture.0.weight=1e308", "mixture.0.weight", ["1e+308 must be from 1e-9 to 1e9"]),
    ("mixture.0.weight=1e-320", "mixture.0.weight", ["1e-320 must be from 1e-9 to 1e9"]),
    ("train.learning_rate=.inf", "train.learning_rate", ["inf must be a finite number"]),
    ("train.learning_rate=.nan", "train.learning_rate", ["nan must be a finite number"]),
    # values of another kind
    ("train.steps=many", "train.steps", ["'many' must be an integer"]),
    ("train.steps=1e3", "train.steps", ["1000.0 must be an integer"]),
    ("train.steps='5'", "train.steps", ["'5' must be an integer"]),
    ("train.steps=true", "train.steps", ["true must be an integer"]),
    ("train.steps=null", "train.steps", ["null must be an integer"]),
    ("train.learning_rate=fast", "train.learning_rate", ["'fast' must be a number"]),
    ("train.learning_rate=true", "train.learning_rate", ["true must be a number"]),
    ("mixture.0.weight=heavy", "mixture.0.weight", ["'heavy' must be a number"]),
    (f"model.rope_theta={'9' * 400}", "model.rope_theta", ["must be a number"]),
    ("train.compile=yes", "train.compile", ["'yes' must be a boolean"]),
    ("data.tags=1", "data.tags", ["1 must be a boolean"]),
    ("name=2024", "name", ["2024 must be a string", "in quotes"]),
    ("mixture.0.task=5", "mixture.0.task", ["5 must be a string"]),
    ("output_dir=null", "output_dir", ["null must be a string"]),
    ("train.betas=0.9", "train.betas", ["0.9 must be two numbers from 0 to 1"]),
    ("train.trackers=tensorboard", "train.trackers", ["'tensorboard' must be a list, as in [a, b]"]),
    ("mixture={task: reverse}", "mixture", ["{'task': 'reverse'} must be a list"]),
    ("mixture.0.options=abcd", "mixture.0.options", ["'abcd' must be a mapping of keys, as in {key: value}"]),
    ("mixture.0.options={5: 1}", "mixture.0.options", ["unknown option '5'"]),
    ("model=small", "model", ["'small' must be a mapping of keys, as in {key: value}"]),
    ("train=null", "train", ["null must be a mapping of keys"]),
    ("seed=5", "seed", ["5 must be a mapping of keys"]),
    # paths
    ("name=a/b", "name", ["'a/b' must be letters, digits"]),
    ("name=..", "name", ["'..' must be letters, digits"]),
    ("name='a\nb'", "name", ["must be letters, digits"]),
    (f"name={'a' * 101}", "name", ["at most 100"]),
    ("output_dir=''", "output_dir", ["'' must be at least one character long"]),
    ('output_dir="a\\0b"', "output_dir", ["must be the path of a folder"]),
    (f"output_dir=a/{'b' * 256}", "output_dir", ["must be the path of a folder"]),
    # keys that depend on each other
    ("model.heads=5", "model.heads", ["5 does not divide model.hidden_size, 96"]),
    ("model.kv_heads=3", "model.kv_heads", ["3 does not divide model.heads, 4"]),
    ("model.hidden_size=60", "model.heads", ["60", "15", "even", "model.positions 'rope'"]),
    ("model.position_range=99", "model.position_range", ["99 is for", "'abacus', not 'sequential'"]),
    ("model.positions=alibi", "model.positions", ["'alibi' is for 'bloom'", "architecture is 'llama'"]),
    ("train.warmup=0.9", "train.warmup, train.decay", ["0.9 + 0.4 is more than 1"]),
    (
        "train.gradient_accumulation_steps=500",
        "train.gradient_accumulation_steps",
        ["500 is more than train.batch_size, 64"],
    ),
]


@pytest.mark.parametrize(("override", "key", "told"), WRONG, ids=[wrong[0][:50] for wrong in WRONG])
def test_one_mistake_is_one_fault_that_names_key_value_and_remedy(override, key, told):
    (fault,) = faults_of(DEMO, override)
    assert fault.startswith(f"{key}: ")
    for words in told:
        assert words in fault


@pytest.mark.parametrize(
    ("component", "lengths", "told"),
    [
        ("{task: reverse_add, role: target, lengths: [1, 20]}", "[1,170]", ["reverse_add", "512"]),
        ("{task: mqar, role: target, lengths: [3, 20]}", "[1,2]", ["[1, 2] has no length of mqar", "at 3"]),
        ("{task: mqar, role: target, lengths: [3, 20]}", "[1,1000000000000]", ["length 1000000000000"]),
    ],
)
def test_evaluated_lengths_must_suit_model_and_task(component, lengths, told):
    (fault,) = faults_of(DEMO, f"mixture=[{component}]", f"eval.lengths={lengths}")
    assert fault.startswith("eval.lengths: ")
    for words in told:
        assert words in fault


def test_lengths_fit_up_to_the_last_position():
    # BOS, tag, 254 letters, '=', 254 letters, EOS
    assert load_config(DEMO, ["mixture.0.lengths=[1,254]"])
    assert "takes at least 514 tokens" in faults_of(DEMO, "mixture.0.lengths=[1,255]")[0]


def test_no_length_needs_more_memory_than_there_is():
    endless = ["model.max_positions=2147483648"]
    (fault,) = faults_of(DEMO, *endless, "mixture.0.lengths=[1,2000000000]")
    assert fault == (
        "mixture.0.lengths: length 2000000000 of capitalize_reverse makes a prompt of more than 32768 symbols"
    )
    assert load_config(DEMO, [*endless, "mixture.0.lengths=[1,32767]"])
    assert "more than 32768" in faults_of(DEMO, *endless, "mixture.0.lengths=[1,32768]")[0]


@pytest.mark.parametrize("option", ["queries", "query_width"])
def test_options_that_no_array_holds_are_reported(option):
    options = f"{{{option}: 1000000000000000000000000}}"
    component = f"{{task: mqar, role: target, lengths: [3, 9], options: {options}}}"
    faults = faults_of(DEMO, f"mixture=[{component}]")
    assert (
        f"mixture.0.options: option '{option}' is 1{'0' * 24}; it must be an integer from 1 to 2147483648"
        in faults
    )


def test_a_task_that_cannot_be_drawn_is_reported():
    # no letter of 40 over {a, A} can be expected to occur once
    component = "{task: mqar, role: target, lengths: [2, 40], options: {alphabet: a, query_width: 1}}"
    faults = faults_of(DEMO, f"mixture=[{component}]", "eval.lengths=[2,3]")
    assert keys_of(faults) == ["mixture.0.lengths"]
    assert "use a larger 'alphabet'" in faults[0]


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_reported_once_with_the_remedy(monkeypatch, tracker):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    faults = faults_of(DEMO, f"train.trackers=[{tracker}, {tracker}]")
    assert faults == [f"train.trackers: {tracker!r} is not installed; pip install {tracker}"]


def test_bounds_are_reported_as_one_writes_them():
    assert faults_of(DEMO, "train.warmup=2") == ["train.warmup: 2 must be at most 1"]
    assert faults_of(DEMO, "train.min_lr_ratio=-0.5") == ["train.min_lr_ratio: -0.5 must be at least 0"]


def test_long_values_are_cut():
    (fault,) = faults_of(DEMO, f"train.steps={'x' * 5000}")
    assert len(fault) < 200


# ------------------------------------------------------------------------- many faults, and no more

MANY = """
name: my/run
output_dir: ""
sede: {init: 1}
model: {layers: 0, hidden_size: 64, heads: 5, positions: ropes, max_positions: 100}
mixture:
  - {task: revers, role: target, lengths: [1, 8]}
  - {task: capitalize, role: auxiliary, lengths: [0, 16]}
  - {task: reverse, role: auxiliary, lengths: [1, 400]}
  - {task: string_copy, role: auxilary, lengths: [1, 8], weight: -2}
  - {task: mqar, role: auxiliary, lengths: [4, 8], options: {query_width: two}}
data: {tags: 1}
train:
  stesp: 10
  batch_size: many
  learning_rate: -0.1
  warmup: 0.7
  decay: 0.7
  betas: [0.9]
  trackers: [tensorbored]
eval: {lengths: [20, 1], every: 1.5}
"""


def test_many_faults_are_all_told_at_once_and_nothing_else(file):
    faults = faults_of(file(MANY), "model.tie_embeddings=maybe", "mixture.9.task=reverse")
    assert sorted(keys_of(faults)) == sorted(
        [
            "name",
            "output_dir",
            "sede",
            "model.layers",
            "model.heads",
            "model.positions",
            "model.tie_embeddings",
            "mixture.0.task",
            "mixture.1.lengths",
            "mixture.2.lengths",
            "mixture.3.role",
            "mixture.3.weight",
            "mixture.4.options",
            "mixture.9.task",
            "data.tags",
            "train.stesp",
            "train.batch_size",
            "train.learning_rate",
            "train.warmup, train.decay",
            "train.betas",
            "train.trackers.0",
            "eval.lengths",
            "eval.every",
        ]
    )


@pytest.mark.parametrize(
    "first",
    [
        "e=5",
        "mod=5",
        "model.head=5",
        "train.a=5",
        "mixture=5",
        "mixture.0=5",
        "mixture.0.task=5",
        "mixture.0.options=5",
        "mixture.0.e=5",
        "name=5",
        "train=5",
        "data=5",
        "eval=5",
        "lengths=[1,2]",
        "task=reverse",
        "model.layers=x",
        "mixture.9.task=x",
        "mixture.0.lengths=null",
    ],
)
def test_one_fault_does_not_hide_another(first):
    faults = faults_of(DEMO, first, "model.heads=5", "seed.init=x")
    assert "model.heads: 5 does not divide model.hidden_size, 96" in faults
    assert "seed.init: 'x' must be an integer" in faults
    assert len(faults) == 3


ADD = "{task: reverse_add, role: auxiliary, lengths: [1, 9]}"


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        # the default or stand-in that the other keys are checked with would be at fault itself
        (["model.hidden_size=x", "model.heads=5"], "model.hidden_size"),
        (["model.heads=x", "model.kv_heads=4", "model.hidden_size=64"], "model.heads"),
        (["model.kv_heads=x", "model.heads=2"], "model.kv_heads"),
        (["model.positions=x", "model.hidden_size=60"], "model.positions"),
        (["train.warmup=x", "train.decay=0.95"], "train.warmup"),
        (["train.decay=x", "train.warmup=0.95"], "train.decay"),
        (["train.batch_size=x", "train.gradient_accumulation_steps=2000"], "train.batch_size"),
        (["model.max_positions=x", "mixture.0.lengths=[1,3000]"], "model.max_positions"),
        (["model.max_positions=x", "eval.lengths=[1,3000]"], "model.max_positions"),
        (["mixture.0.task=5", "eval.lengths=[1,200]"], "mixture.0.task"),
        (["mixture.0={task: 5, role: target, lengths: [1, 8]}", "eval.lengths=[1,200]"], "mixture.0.task"),
        (["mixture.0.task=nothing", "eval.lengths=[1,200]"], "mixture.0.task"),
        (["mixture.0.role=x"], "mixture.0.role"),
        (["mixture.0=5"], "mixture.0"),
        (["mixture=5", "eval.lengths=[1,254]"], "mixture"),
        (["eval.every=x", "eval.lengths=[1,255]"], "eval.every"),
        (["mixture.0={task: mqar, role: target, lengths: x}"], "mixture.0.lengths"),
        (["mixture.0={task: mqar, role: target, lengths: [9, 20], options: x}", "eval.lengths=[1,2]"],
         "mixture.0.options"),
        (["mixture.1.task=5", f"mixture.2={ADD}"], "mixture.1.task"),
        ([f"mixture.1={ADD}", "mixture.2.task=5"], "mixture.2.task"),
    ],
)  # fmt: skip
def test_what_stands_in_for_a_faulty_value_causes_no_fault(overrides, key):
    assert keys_of(faults_of(DEMO, *overrides)) == [key]


def test_a_file_without_the_required_keys_names_each(file):
    assert faults_of(file("train: {steps: 5}\n")) == ["name: is missing", "mixture: is missing"]
    text = "name: x\nmixture: [{}, {task: reverse}]\n"
    assert keys_of(faults_of(file(text))) == [
        "mixture.0.task",
        "mixture.0.role",
        "mixture.0.lengths",
        "mixture.1.role",
        "mixture.1.lengths",
    ]


def test_a_misspelt_base_brings_the_closest_name(file):
    faults = faults_of(file("bsae: other.yaml\n" + LEAST))
    assert len(faults) == 1
    assert faults[0].startswith("bsae: unknown key 'bsae'; did you mean 'base'?")


def test_lengths_that_cannot_be_read_are_not_held_against_the_model():
    faults = faults_of(DEMO, "mixture.0.lengths=x", "model.max_positions=4")
    keys = ["mixture.0.lengths", *["eval.lengths"] * 3, "mixture.1.lengths", "mixture.2.lengths"]
    assert sorted(keys_of(faults)) == sorted(keys)


def test_both_bounds_of_a_length_range_are_checked():
    faults = faults_of(DEMO, "mixture.0.lengths=[0,900]")
    assert len(faults) == 2
    assert "0 is below 1" in faults[0]
    assert "length 900" in faults[1]


def test_a_fault_elsewhere_in_a_component_does_not_hide_its_lengths():
    faults = faults_of(DEMO, "mixture.0.weight=-1", "mixture.0.lengths=[1,900]", "mixture.1.role=x")
    assert sorted(keys_of(faults)) == ["mixture.0.lengths", "mixture.0.weight", "mixture.1.role"]


def test_overrides_that_lead_nowhere_do_not_hide_other_faults():
    faults = faults_of(DEMO, "nonsense", "train.steps=[", "model.layers=0", "mixture.7.task=reverse")
    assert len(faults) == 4


def test_config_from_dict_tells_faults_as_a_file_would():
    with pytest.raises(ConfigError) as caught:
        config_from_dict({"name": "x", "mixture": [], 5: 1, "train": {None: 2}})
    assert sorted(keys_of(caught.value.faults)) == ["5", "mixture", "train.None"]


# ------------------------------------------------------------------------------- there and back

positive = st.integers(1, 64)
fractions = st.floats(0, 0.5)
paths = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=30)


@st.composite
def configs(draw):
    """Plain data of valid configs."""
    heads, pairs = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    named = [*list_tasks("arithmetic"), "string_copy", "capitalize", "reverse", "capitalize_reverse"]
    tasks = draw(st.lists(st.sampled_from(named), min_size=1, unique=True))
    lengths = st.tuples(st.integers(1, 9), st.integers(0, 9)).map(lambda ab: [ab[0], ab[0] + ab[1]])
    roles = ["target", *(draw(st.sampled_from(["target", "auxiliary"])) for _ in tasks[1:])]
    section = st.fixed_dictionaries
    return {
        "name": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True)),
        "output_dir": draw(paths),
        "seed": draw(section({}, optional={"init": st.integers(0, 2**63 - 1), "data": positive})),
        "model": draw(
            section(
                {"heads": st.just(heads), "hidden_size": st.just(2 * heads * pairs)},
                optional={
                    "kv_heads": st.sampled_from([None, 1, heads]),
                    "positions": st.sampled_from(["rope", "nope"]),
                    "rope_theta": st.floats(0, exclude_min=True, allow_infinity=False),
                    "max_positions": st.integers(256, 2**31),
                    "tie_embeddings": st.booleans(),
                },
            )
        ),
        "mixture": [
            {
                "task": task,
                "role": role,
                "lengths": draw(lengths),
                "weight": draw(st.floats(1e-9, 1e9) | positive),
                **draw(section({}, optional={"options": st.just({})})),
            }
            for task, role in zip(tasks, roles, strict=True)
        ],
        "train": draw(
            section(
                {"warmup": fractions, "decay": fractions},
                optional={
                    "steps": positive,
                    "learning_rate": st.floats(0, allow_infinity=False),
                    "betas": st.tuples(st.floats(0, 0.999), st.just(0)).map(list),
                    "max_grad_norm": st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
                    "precision": st.sampled_from(["no", "bf16", "fp16"]),
                    "save_every": st.none() | positive,
                    "trackers": st.sampled_from([[], ["tensorboard"]]),
                },
            )
        ),
        "eval": draw(section({}, optional={"lengths": lengths, "every": positive, "examples": positive})),
    }


@given(configs())
@settings(STEADY, max_examples=60)
def test_a_config_comes_back_from_its_own_file(data):
    config = config_from_dict(data)
    plain = config.to_dict()
    back = yaml.load(yaml.dump(plain))
    assert back == plain
    assert config_from_dict(back) == config
    assert config_from_dict(plain).to_dict() == plain


def test_to_dict_holds_every_key_as_plain_data():
    plain = load_config(DEMO).to_dict()
    assert list(plain) == ["name", "mixture", "output_dir", "seed", "model", "peft", "data", "train", "eval"]
    assert plain["eval"]["lengths"] == [1, 20]
    assert plain["train"]["betas"] == [0.9, 0.98]
    assert plain["mixture"][0] == {
        "task": "capitalize_reverse",
        "role": "target",
        "lengths": [1, 8],
        "weight": 1.0,
        "options": {"alphabet": "abcd"},
    }


def test_to_dict_gives_data_of_its_own():
    config = load_config(DEMO)
    config.to_dict()["mixture"][0]["options"]["alphabet"] = "changed"
    assert config.mixture[0].options == {"alphabet": "abcd"}


def test_what_is_given_to_config_from_dict_stays_as_it_is():
    data = {"name": 5, "mixture": [{"task": "reverse", "role": "target", "lengths": "x"}]}
    with pytest.raises(ConfigError):
        config_from_dict(data)
    assert data == {"name": 5, "mixture": [{"task": "reverse", "role": "target", "lengths": "x"}]}


# ------------------------------------------------------------------------------------------ help


def test_every_key_is_described_with_a_default_that_can_be_typed(file):
    rows = dict(describe_keys())
    plain = load_config(DEMO).to_dict()
    names = {f"--{key}" for key in ("name", "mixture", "output_dir")}
    names |= {f"--mixture.N.{key}" for key in plain["mixture"][0]}
    sections = ("seed", "model", "peft", "data", "train", "eval")
    names |= {f"--{section}.{key}" for section in sections for key in plain[section]}
    for section, inner in (("train", "until"), ("train", "self_improvement"), ("data", "priming")):
        names -= {f"--{section}.{inner}"}
        names |= {f"--{section}.{inner}.{key}" for key in plain[section][inner]}
    assert set(rows) == names
    defaults = {key: meaning.split(" [", 1)[1].removesuffix("]") for key, meaning in rows.items()}
    required = {key for key, default in defaults.items() if default == "required"}
    assert required == {"--name", "--mixture", *(f"--mixture.N.{key}" for key in ("task", "role", "lengths"))}
    path = file(LEAST)
    typed = [f"{key.replace('N', '0')}={defaults[key]}" for key in rows if key not in required]
    assert load_config(path, typed) == load_config(path)


def test_without_tags_tasks_whose_prompts_look_alike_are_reported():
    faults = faults_of(DEMO, "data.tags=false")
    assert [fault.split("the prompts of ")[1].split(" look")[0] for fault in faults] == [
        "capitalize_reverse and capitalize",
        "capitalize_reverse and reverse",
    ]
    sums = "mixture=[{task: reverse_add, role: target, lengths: [1, 4]}, %s]"
    other = "{task: reverse_subtract, role: auxiliary, lengths: [1, 4]}"
    assert load_config(DEMO, ["data.tags=false", sums % other]).data.tags is False


# ---------------------------------------------------------------------------- positions

SUMS = "mixture=[{task: reverse_add, role: target, lengths: [1, 8]}]"
WIDE = "model.intermediate_size=384"  # a Bloom has no other width for the demo's hidden_size
BLOOM = ("model.architecture=bloom", "model.positions=alibi", WIDE)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ("model.position_ids=randomized", "model.positions=nope"),
            ["model.position_ids: 'randomized' makes no difference with model.positions 'nope'"],
        ),
        (
            (SUMS, "model.position_ids=coupled", *BLOOM),
            ["model.position_ids: 'coupled' makes no difference with model.positions 'alibi'"],
        ),
        (
            ("model.position_ids=randomized", "model.position_range=513"),
            ["model.position_range: 513 is more than model.max_positions, 512"],
        ),
        (
            ("model.position_ids=coupled",),
            [
                f"mixture.{i}.task: {task!r} has no coupled positions, which model.position_ids asks for; "
                "the tasks that have are reverse_add, no_carry, carry_only, reverse_subtract, copy_first_op"
                for i, task in enumerate(["capitalize_reverse", "capitalize", "reverse"])
            ],
        ),
        (
            (SUMS, "model.position_ids=coupled", "data={source: dataset, path: org/data}"),
            ["model.position_ids: 'coupled' is for data.source 'generated': rows of a dataset need not"],
        ),
        # BOS, tag, 20 + 20 digits, two signs, 21 digits, EOS
        (
            (SUMS, "model.position_ids=randomized", "model.position_range=65", "eval.lengths=[1,20]"),
            ["eval.lengths: length 20 of reverse_add takes at least 66 randomized positions; model.posi"],
        ),
        (
            (SUMS, "model.position_ids=randomized", "model.position_range=20", "eval.lengths=[1,2]"),
            ["mixture.0.lengths: length 8 of reverse_add takes at least 30 randomized positions; model."],
        ),
        # 0 and 1 for BOS and the tag, 2 to 22 for the digits of the answer, 23 for EOS
        (
            (SUMS, "model.position_ids=coupled", "model.position_range=23", "eval.lengths=[1,20]"),
            [
                "eval.lengths: length 20 of reverse_add takes at least 24 coupled positions; "
                "model.position_range is 23"
            ],
        ),
        (
            (*BLOOM, "model.intermediate_size=200"),
            ["model.intermediate_size: 200 must be 4 x model.hidden_size, 384, for model.architecture"],
        ),
        ((*BLOOM, "model.kv_heads=2"), ["model.kv_heads: 2 is for 'llama'; model.architecture is 'bloom'"]),
        (
            ("model.architecture=bloom", WIDE),
            ["model.positions: 'rope' is not for model.architecture 'bloom', which has 'alibi'"],
        ),
        (
            ("model.architecture=gpt_neox", "model.positions=alibi"),
            ["model.positions: 'alibi' is for 'bloom'; model.architecture is 'gpt_neox'"],
        ),
        (
            ("model.architecture=gpt_neox", "model.positions=nope"),
            ["model.positions: 'nope' is for 'llama'; model.architecture is 'gpt_neox'"],
        ),
    ],
)
def test_positions_that_do_not_fit_are_reported(overrides, told):
    faults = faults_of(DEMO, *overrides)
    assert len(faults) == len(told)
    for fault, words in zip(faults, told, strict=True):
        assert fault.startswith(words)


@pytest.mark.parametrize(
    "overrides",
    [
        (SUMS, "model.position_ids=randomized", "model.position_range=66"),
        (SUMS, "model.position_ids=coupled", "model.position_range=24"),
        (SUMS, "model.position_ids=coupled", "data.tags=false", "model.position_range=24"),
        ("model.position_ids=randomized", "model.architecture=gpt_neox"),
        ("model.position_ids=randomized", "data={source: dataset, path: org/data}"),
        BLOOM,
    ],
)
def test_positions_that_fit_are_read(overrides):
    config = load_config(DEMO, [*overrides, "eval.lengths=[1,20]"])
    assert config_from_dict(config.to_dict()) == config


# ---------------------------------------------------------------------------- checkpoints and adapters

START = LEAST + "model: {init: pretrained, name_or_path: org/llm, revision: step-10}\n"


def test_a_checkpoint_and_adapters_are_read(file):
    config = load_config(
        file(START), ["model.dtype=bfloat16", "peft={method: lora, rank: 8, target_modules: [q_proj]}"]
    )
    assert (config.model.name_or_path, config.model.revision) == ("org/llm", "step-10")
    assert (config.peft.method, config.peft.rank, config.peft.target_modules) == ("lora", 8, ["q_proj"])
    assert config.model.position_limit is None
    assert load_config(file(START), ["model.max_positions=640"]).model.position_limit == 640
    assert load_config(file(LEAST)).model.position_limit == 2048
    assert config_from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model.name_or_path=null", "model.revision=null"], "model.name_or_path: is missing; model.init"),
        (
            ["model.architecture=gpt_neox"],
            "model.architecture: 'gpt_neox' is for a model trained from scratch; 'org/llm'",
        ),
        (["model.layers=2"], "model.layers: 2 is for a model trained from scratch"),
        (["model.hidden_size=64"], "model.hidden_size: 64 is for a model trained from scratch"),
        (["model.heads=2"], "model.heads: 2 is for a model trained from scratch"),
        (["model.kv_heads=2"], "model.kv_heads: 2 is for a model trained from scratch"),
        (["model.intermediate_size=64"], "model.intermediate_size: 64 is for a model trained from scratch"),
        (["model.positions=nope"], "model.positions: 'nope' is for a model trained from scratch"),
        (["model.rope_theta=1e3"], "model.rope_theta: 1000.0 is for a model trained from scratch"),
        (["model.initializer_range=0.1"], "model.initializer_range: 0.1 is for a model trained from scratch"),
        (["model.tie_embeddings=true"], "model.tie_embeddings: true is for a model trained from scratch"),
        (["model.tokenizer=text"], "model.tokenizer: 'text' is for a dataset; with data.source 'generated'"),
        (["peft.rank=4"], "peft.rank: 4 is for peft.method 'lora', which is 'none'"),
        (["peft.dropout=0.5"], "peft.dropout: 0.5 is for peft.method 'lora'"),
        (["peft.target_modules=[q]"], "peft.target_modules: ['q'] is for peft.method 'lora'"),
        (["peft={method: lora, target_modules: []}"], "peft.target_modules: is empty; null adapts all"),
        (["model.init=random", "peft={method: lora}"], "peft.method: 'lora' adapts a pretrained model"),
        (["peft.method=qlora"], "peft.method: 'qlora' must be "),
        (["model.dtype=float16"], "model.dtype: 'float16' must be "),
        (["model.max_positions=8"], "mixture.0.lengths: length 8 of reverse takes at least"),
        (["model.init=pretrainde"], "model.init: 'pretrainde' must be "),
    ],
)
def test_keys_that_do_not_fit_a_checkpoint_are_reported(file, overrides, told):
    faults = faults_of(file(START), *overrides)
    assert faults[0].startswith(told)
    assert len(keys_of(faults)) == (2 if "max_positions" in overrides[0] else 1)


@pytest.mark.parametrize(
    "override", ["revision=main", "use_safetensors=false", "trust_remote_code=true", "tokenizer=text"]
)
def test_keys_of_a_checkpoint_without_one_are_reported(file, override):
    faults = faults_of(file(LEAST), f"model.{override}")
    assert any(
        f.startswith(f"model.{override.split('=')[0]}: ") and "model.name_or_path names none" in f
        for f in faults
    )


def test_words_are_no_tokenizer_of_a_checkpoint(file):
    data = "data={source: dataset, path: org/data}"
    (told,) = faults_of(file(START), data, "model.tokenizer=words")
    assert told.startswith("model.tokenizer: 'words' is for a model trained from scratch")
    assert load_config(file(START), [data, "model.tokenizer=text"]).model.tokenizer == "text"
