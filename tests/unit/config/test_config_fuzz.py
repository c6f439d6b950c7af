"""Whatever a file or an override holds, `load_config` gives a config or tells its faults."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_builders.texts import CONTROLS
from hf_lgt.config.load import config_from_dict, load_config
from hf_lgt.config.schema import Config
from hf_lgt.utils import yaml
from hf_lgt.utils.errors import ConfigError
from tests.conftest import ROOT
from tests.support.merging import merged

DEMO = ROOT / "recipes" / "demo" / "transfer.yaml"
# a loaded machine draws slowly, which is no fault
STEADY = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])

DATA = yaml.load(DEMO.read_text(encoding="utf-8"))


def places(value, path=()):
    """Paths of everything in a config."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


FULL = config_from_dict(DATA).to_dict()
PLACES = [path for path in places(FULL) if path]
KEYS = sorted({str(part) for path in PLACES for part in path} | {"base", "x", "", "alphabet", "queries"})
WORDS = ["reverse", "mqar", "cot_multiply", "target", "auxiliary", "nope", "tensorboard", "no", "a/b", ".."]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-3, 40) | st.integers() | st.sampled_from([2**31, 2**63, 2**64, 10**30, 511, 512])
scalars = st.none() | st.booleans() | numbers | st.floats() | st.sampled_from(WORDS) | texts
keys = st.sampled_from(KEYS) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
changes = st.lists(st.tuples(st.sampled_from(PLACES), values), min_size=1, max_size=4)
dotted = st.lists(st.sampled_from(KEYS) | st.text(max_size=4), min_size=1, max_size=4).map(".".join)
written = values.map(yaml.dump) | st.text(max_size=20)
overrides = st.builds("{}={}".format, dotted, written) | st.text(max_size=30)


def check(load):
    """A config that comes back from its own file, or faults, each told once."""
    try:
        config = load()
    except ConfigError as error:
        faults = error.faults
    else:
        faults = None
    if faults is not None:
        assert faults
        assert all(fault.strip() for fault in faults)
        assert len(set(faults)) == len(faults)
        assert not set(CONTROLS.findall("".join(faults))) - {"\n", "\t"}
        return
    assert isinstance(config, Config)
    assert config_from_dict(yaml.load(yaml.dump(config.to_dict()))) == config


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "config.yaml"


@given(changed=changes)
@settings(STEADY, max_examples=120)
def test_any_values_in_a_file(path, changed):
    path.write_text(yaml.dump(merged(FULL, changed)), encoding="utf-8")
    check(lambda: load_config(path))


@given(changed=changes)
@settings(STEADY, max_examples=120)
def test_any_values_in_plain_data(changed):
    data = merged(FULL, changed)
    check(lambda: config_from_dict(data))


@given(given_overrides=st.lists(overrides, min_size=1, max_size=3))
@settings(STEADY, max_examples=120)
def test_any_overrides(given_overrides):
    check(lambda: load_config(DEMO, given_overrides))


@given(content=st.binary(max_size=60) | texts.map(str.encode) | values.map(yaml.dump).map(str.encode))
@settings(STEADY, max_examples=120)
def test_any_file(path, content):
    path.write_bytes(content)
    check(lambda: load_config(path))


@given(below=values, above=values, name=st.just("base.yaml") | scalars)
@settings(STEADY, max_examples=60)
def test_any_base(path, below, above, name):
    base = path.with_name("base.yaml")
    base.write_text(yaml.dump({**DATA, "train": below, "mixture": above}), encoding="utf-8")
    path.write_text(yaml.dump({"base": name, "train": above, "model": below}), encoding="utf-8")
    check(lambda: load_config(path))


@given(text=st.text("{}[]:,-?&*!|>'\"%@`#~ \n\tabc019.eE<=x", max_size=40))
@settings(STEADY, max_examples=120)
def test_any_yaml_signs(path, text):
    path.write_text(f"base: {DEMO}\ntrain: {text}\n", encoding="utf-8")
    check(lambda: load_config(path, [f"model={text}"]))


@pytest.mark.parametrize("sign", ["\x1b", "\n", "\x07", "\x9b", "\u2028", "\u202e", "\0"])
def test_a_folder_with_controls_in_its_name_is_refused(sign):
    with pytest.raises(ConfigError, match=r"output_dir: .* without control characters") as caught:
        load_config(DEMO, [f"output_dir={yaml.dump(f'a{sign}b')}"])
    assert sign not in str(caught.value)


@pytest.mark.parametrize("name", ["a\x1b[31m.yaml", "a\x9b.yaml", "\u202ea.yaml"])
def test_the_name_of_a_file_does_not_move_the_cursor(name):
    with pytest.raises(ConfigError, match="config file") as caught:
        load_config(name)
    assert not CONTROLS.search(str(caught.value))


def test_weights_wider_than_the_library_takes_are_refused():
    with pytest.raises(ConfigError, match=r"model\.initializer_range: 2\.5 must be at most 1"):
        load_config(DEMO, ["model.initializer_range=2.5"])
