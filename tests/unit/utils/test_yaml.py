import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_lgt.utils import yaml

# a loaded machine draws slowly, which is no fault
STEADY = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("False", False),
        ("12", 12),
        ("-3", -3),
        ("+7", 7),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e5", 1e5),
        ("3e-3", 0.003),
        ("1.0e5", 1e5),
        ("-2.5E+3", -2500.0),
        (".5", 0.5),
        ("1.", 1.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        ("[1, a, null]", [1, "a", None]),
        ("{a: {b: [c]}}", {"a": {"b": ["c"]}}),
    ],
)
def test_scalars_follow_the_core_schema(text, value):
    loaded = yaml.load(text)
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(
    "text",
    ["no", "yes", "on", "off", "n", "y", "nO", "1_000", "0b11", "1:30", "12:30:45", "2001-01-01", "=", "<<"],
)
def test_what_only_yaml_1_1_reads_as_something_else_is_text(text):
    assert yaml.load(text) == text


@pytest.mark.parametrize("text", ['"12"', "'true'", "'null'", '"1e5"', "!!str 1e5"])
def test_quoted_scalars_are_text(text):
    assert isinstance(yaml.load(text), str)


def test_not_a_number_is_read():
    assert math.isnan(yaml.load(".nan"))


def test_keys_are_text_whatever_they_look_like():
    text = "1: a\ntrue: b\nnull: c\n1.5: d\n"
    assert yaml.load(text) == {"1": "a", "true": "b", "null": "c", "1.5": "d"}


def test_there_are_no_merge_keys():
    assert yaml.load("<<: {a: 1}") == {"<<": {"a": 1}}


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a"),
        ("x:\n  steps: 1\n  steps: 1\n", 3, "steps"),
        ("[{a: 1, a: 2}]", 1, "a"),
        ("1: a\n'1': b\n", 2, "1"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(text, line, key):
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.load(text)
    assert str(caught.value) == f"line {line}: duplicate key '{key}'"


def test_the_same_text_gives_values_of_its_own_each_time():
    first = yaml.load("{a: [1, {b: 2}]}")
    first["a"][1]["b"] = 3
    first["a"].append(4)
    assert yaml.load("{a: [1, {b: 2}]}") == {"a": [1, {"b": 2}]}


def test_what_an_alias_repeats_is_a_copy():
    data = yaml.load("a: &options {alphabet: [x]}\nb: *options\n")
    data["a"]["alphabet"].append("y")
    assert data["b"] == {"alphabet": ["x"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1, 2", "line 1, column 9: while parsing a flow sequence"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        ("a: 1\n\tb: 2", "line 2"),
        ("a: 'b", "line 1"),
        ("a: 1\n---\nb: 2", "another document"),
        ("*nothing", "undefined alias 'nothing'"),
        ("a: &a [*a]", "recursive"),
        ("a: '\0'", "character 5"),
        ("? [a, b]\n: 1", "line 1: a key must be a word"),
        ("? {a: b}\n: 1", "line 1: a key must be a word"),
        ('"\\ud800"', "no valid text"),
        ('"\\udcff": 1', "no valid text"),
        ("a: 1\nb: !!int x", "line 2: 'x' is no int"),
        ("!!bool yes", "'yes' is no bool"),
        ("!!null nothing", "'nothing' is no null"),
        ("!!float x", "'x' is no float"),
        ("!!int [1]", "expected a scalar node"),
        ("!!map [a]", "is no mapping"),
        ("!!map a", "is no mapping"),
        ("!!seq {}", "expected a sequence node"),
        ("!!str [a]", "expected a scalar node"),
        ("!!set {a}", "the tag 'tag:yaml.org,2002:set' is not known here"),
        ("!!binary eA==", "the tag 'tag:yaml.org,2002:binary' is not known here"),
        ("!!timestamp 2001-01-01", "the tag 'tag:yaml.org,2002:timestamp' is not known here"),
        ("!mine 3", "the tag '!mine' is not known here"),
        ("!!python/object/apply:os.getcwd []", "python/object/apply:os.getcwd' is not known here"),
        ("1" * 5000, "more than 1000 digits"),
        ("0x" + "f" * 5000, "more than 1000 digits"),
        ("[" * 2000, "nested too deeply"),
        ('"\\UFFFFFFFF"', "line 1, column 4: the number of a character"),
        ('a: 1\nb: ["\\U7FFFFFFF"]', "line 2, column 8: the number of a character"),
        ('"\\U00110000": 1', "line 1, column 4: the number of a character"),
        ("%YAML " + "1" * 5000 + ".1\n---\na: 1", "line 1, column 7: the number of a character"),
        ("%YAML 1." + "1" * 5000 + "\n---\na: 1", "line 1, column 9: the number of a character"),
    ],
)
def test_what_cannot_be_read_is_reported_in_one_line(text, told):
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.load(text)
    message = str(caught.value)
    assert told in message
    assert "\n" not in message
    assert "unicode string" not in message


def test_aliases_of_aliases_do_not_fill_the_memory():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(yaml.YAMLError, match="more than 100000 values"):
        yaml.load("\n".join(lines))


def test_a_long_text_that_aliases_repeat_is_refused():
    text = f"a: &a {'x' * 1_000_000}\nb: [" + "*a, " * 20_000 + "]"
    with pytest.raises(yaml.YAMLError, match="more than 1048576 characters together"):
        yaml.load(text)


def test_a_document_with_too_many_values_is_refused_before_it_is_read_to_its_end():
    with pytest.raises(yaml.YAMLError, match="more than 100000 values"):
        yaml.load("- 1\n" * 200_000 + "]")


def test_dump_keeps_the_order_of_keys_and_quotes_nothing_in_vain():
    assert yaml.dump({"b": "no", "a": {"d": [1, 2.5, None, True], "c": "x y"}}) == (
        "b: no\na:\n  d:\n  - 1\n  - 2.5\n  - null\n  - true\n  c: x y\n"
    )


@pytest.mark.parametrize(
    "text", ["1", "1e5", "null", "~", "", "true", "0x1F", "0o17", ".inf", "-", "#", "a: b"]
)
def test_text_that_looks_like_something_else_is_dumped_in_quotes(text):
    assert yaml.load(yaml.dump({"key": text})) == {"key": text}


def test_dump_writes_shared_values_out():
    shared = {"alphabet": "abcd"}
    assert "&" not in yaml.dump([shared, shared])


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)


def same(a, b):
    """Equal, and of the same types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(data)
@settings(STEADY, max_examples=300)
def test_load_gives_back_what_was_dumped(value):
    assert same(yaml.load(yaml.dump(value)), value)


@given(st.text(max_size=60) | st.text("[]{}:,-?&*!|>'\"%@`#~ \n\tab01.eExo<=", max_size=40))
@settings(STEADY, max_examples=500)
def test_any_text_is_read_or_refused(text):
    told = "one line"
    try:
        yaml.load(text)
    except yaml.YAMLError as error:
        told = str(error)
    assert len(told.splitlines()) == 1
