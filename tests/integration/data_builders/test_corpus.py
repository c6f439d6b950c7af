"""The dataset of a mixture: its rows, their independence of processes, its cache, and its refusals."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from types import ModuleType, SimpleNamespace

import datasets
import numpy as np
import pytest

import data_builders
from data_builders import Component, CorpusBuilder, CorpusPlan, Mixture, TaskError, build_corpus
from data_builders import code_fingerprint as code
from data_builders.corpus import build as corpus_module
from data_builders.corpus import plan
from data_builders.corpus.build import FEATURES, build
from data_builders.sampling import CORPUS_CHUNK, HeldOut, draw_batch, draw_test_set
from tests.conftest import ROOT

STRINGS = Mixture(
    [
        Component("capitalize_reverse", "target", (1, 4), options={"alphabet": "ab"}),
        Component("reverse_add", "auxiliary", (1, 6), weight=2),
    ]
)
ALL = Mixture(
    [
        *STRINGS.components,
        Component("mqar", "auxiliary", (3, 7)),
        Component("shortest_path", "auxiliary", (3, 9), 0.1, {"side": 4}),
    ]
)
SETTINGS = {"train_examples": 4500, "test_examples": 12, "test_lengths": range(1, 11), "seed": 3}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning"),
    pytest.mark.usefixtures("quiet"),
]


@pytest.fixture(scope="module")
def quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(autouse=True)
def unchanged_since_loaded(monkeypatch):
    """Somebody may edit the package while the tests run; a test of that says so itself."""
    loaded = {name: seen for name, seen in code.LOADED.items() if name not in code.DRAWS_NOTHING}
    monkeypatch.setattr(code, "package", lambda: loaded)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def corpus(cache):
    return build_corpus(ALL, **SETTINGS, cache_dir=cache)


def texts(rows):
    """Every row as text, in order."""
    return [repr(row) for row in rows]


def is_right(row):
    """Whether a row follows its task's rule, worked out from its prompt alone."""
    prompt, target, mask = row["prompt"], row["target"], row["loss_mask"]
    assert prompt.endswith("=")
    if row["task"] == "capitalize_reverse":
        return mask is None and target == prompt[-2::-1].swapcase() and row["length"] == len(target)
    if row["task"] == "reverse_add":
        one, other = prompt[:-1].split("+")
        digits = max(len(one), len(other))
        total = str(int(one[::-1]) + int(other[::-1]))[::-1].ljust(digits + 1, "0")
        return mask is None and target == total and row["length"] == digits
    if row["task"] == "mqar":
        asked = [target[k : k + 3] for k in range(0, len(target), 3)]
        right = all(prompt[:-1].count(a[:2]) == 1 and a in prompt[:-1] for a in asked)
        return right and mask == [False, False, True] * len(asked) and row["length"] == len(prompt) - 1
    *listed, query = prompt.split(";")
    near = {}
    for entry in listed:
        node, *others = map(int, re.findall(r"\d+", entry))
        near[node] = set(others)
    start, goal = map(int, re.findall(r"\d+", query))
    before, queue = {start: None}, deque([start])
    while queue:
        here = queue.popleft()
        for there in near[here] - set(before):
            before[there] = here
            queue.append(there)
    path = [goal]
    while path[-1] != start:
        path.append(before[path[-1]])
    return mask is None and target == "".join(f"[{k}]" for k in reversed(path)) and row["length"] == len(near)


def test_columns_have_their_types(corpus):
    for split in corpus.values():
        assert split.features == FEATURES
        assert list(split.features) == ["task", "role", "length", "prompt", "target", "loss_mask"]
        assert split.data.schema.types == FEATURES.arrow_schema.types
    assert FEATURES["length"].dtype == "int32"
    assert FEATURES["loss_mask"] == datasets.List(datasets.Value("bool"))


def test_every_row_follows_its_tasks_rule(corpus):
    for split in ("train", "test"):
        wrong = [row for row in corpus[split] if not is_right(row)]
        assert wrong == []
        assert {row["task"] for row in corpus[split]} == {c.task for c in ALL.components}
        roles = {row["task"]: row["role"] for row in corpus[split]}
        assert roles == {c.task: c.role for c in ALL.components}


def test_training_rows_are_of_trained_lengths_in_the_shares_of_the_weights(corpus):
    train = corpus["train"]
    assert len(train) == SETTINGS["train_examples"]
    for component, share in zip(ALL.components, ALL.shares, strict=True):
        lengths = Counter(row["length"] for row in train if row["task"] == component.task)
        low, high = component.lengths
        assert sorted(lengths) == list(range(low, high + 1))
        assert abs(lengths.total() - share * len(train)) < 5 * np.sqrt(share * len(train))
        even = lengths.total() / len(lengths)
        assert all(abs(n - even) < 5 * np.sqrt(even) for n in lengths.values())


def test_the_test_split_holds_the_test_sets_of_the_evaluation(corpus):
    rows = [(row["task"], row["length"], row["prompt"], row["target"]) for row in corpus["test"]]
    expected = []
    for component in ALL.components:
        for length in SETTINGS["test_lengths"]:
            if component.definition.length_fault(length, component.options) is None:
                test = draw_test_set(component, length, 12, 1234)
                low, high = component.lengths
                n = test.held_out if low <= length <= high else len(test.examples)
                expected += [(component.task, length, *text) for text in test.examples.text()[:n]]
    assert rows == expected
    assert len(set(rows)) == len(rows)


def test_no_training_row_has_a_test_prompt_even_where_there_are_few(corpus):
    prompts = {s: {(row["task"], row["prompt"]) for row in corpus[s]} for s in ("train", "test")}
    assert not prompts["train"] & prompts["test"]
    # four strings of one letter: two are tested, the other two trained on
    for split in ("train", "test"):
        assert sum(t == "capitalize_reverse" and len(p) == 2 for t, p in prompts[split]) == 2


def test_a_tasks_configuration_holds_its_rows_of_the_mixture(corpus, cache):
    for name in [component.task for component in ALL.components]:
        alone = build(CorpusPlan(ALL, **SETTINGS), name, cache_dir=cache)
        for split, rows in corpus.items():
            assert texts(alone[split]) == texts(row for row in rows if row["task"] == name)


@pytest.mark.parametrize("num_proc", [1, 2, 3])
def test_any_number_of_processes_gives_the_same_rows(tmp_path, cache, num_proc):
    settings = {**SETTINGS, "train_examples": 2 * CORPUS_CHUNK + 9}
    expected = build_corpus(STRINGS, **settings, cache_dir=cache)
    built = build_corpus(STRINGS, **settings, num_proc=num_proc, cache_dir=tmp_path)
    for split, rows in expected.items():
        assert built[split].data.table.equals(rows.data.table)


def test_a_killed_process_is_reported(tmp_path, monkeypatch):
    here = os.getpid()

    def killed(self, index, *, held_out):
        assert os.getpid() != here
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(CorpusBuilder, "_chunk", killed)
    with pytest.raises(ChildProcessError, match="one of the processes was killed"):
        build_corpus(STRINGS, 2 * CORPUS_CHUNK, 2, [3], num_proc=2, cache_dir=tmp_path)


def test_more_processes_than_chunks_give_no_warning(tmp_path, caplog):
    build_corpus(STRINGS, 10, 2, [3], num_proc=5, cache_dir=tmp_path)
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["mixture", "mqar"])
def test_streaming_gives_the_same_rows(corpus, cache, name):
    builder = CorpusBuilder(CorpusPlan(ALL, **SETTINGS), name, cache_dir=cache)
    streams = builder.as_streaming_dataset()
    for split, rows in corpus.items():
        expected = [row for row in rows if name in ("mixture", row["task"])]
        assert texts(streams[split]) == texts(expected)


def test_nothing_ties_the_inputs_of_two_tasks(tmp_path):
    twins = Mixture([Component("reverse", "target", (9, 9)), Component("capitalize", "auxiliary", (9, 9))])
    train = build_corpus(twins, 1000, 2, [9], cache_dir=tmp_path)["train"]
    assert len(set(train["prompt"])) == 1000


def test_a_smaller_corpus_is_the_beginning_of_a_larger(corpus, tmp_path):
    smaller = build_corpus(ALL, **{**SETTINGS, "train_examples": 700}, cache_dir=tmp_path)
    assert texts(smaller["train"]) == texts(corpus["train"].select(range(700)))


def test_a_task_without_rows_in_a_chunk_and_one_row_chunks_are_fine(tmp_path):
    rare = Mixture([STRINGS.components[0], Component("reverse", "auxiliary", (2, 3), 3e-4)])
    settings = {"train_examples": 3 * CORPUS_CHUNK, "test_examples": 2, "test_lengths": [3], "seed": 1}
    whole, alone = (
        build(CorpusPlan(rare, **settings), name, cache_dir=tmp_path)["train"]
        for name in ("mixture", "reverse")
    )
    assert texts(alone) == texts(row for row in whole if row["task"] == "reverse")
    assert len(whole) == 3 * CORPUS_CHUNK
    assert 0 < len(alone) < 20


# The cache


def test_a_second_build_reads_the_cache(corpus, cache, monkeypatch):
    monkeypatch.setattr(corpus_module, "draw_test_set", None)
    again = build_corpus(ALL, **SETTINGS, cache_dir=cache)
    assert texts(again["test"]) == texts(corpus["test"])
    assert again["train"]._fingerprint == corpus["train"]._fingerprint


def component(index, **changes):
    fields = {**vars(STRINGS.components[index]), **changes}
    parts = list(STRINGS.components)
    return Mixture([*parts[:index], Component(**fields), *parts[index + 1 :]])


CHANGES = {
    "option": {"mixture": component(0, options={"alphabet": "abc"})},
    "weight": {"mixture": component(1, weight=2.5)},
    "role": {"mixture": component(1, role="target")},
    "lengths": {"mixture": component(1, lengths=(1, 7))},
    "order": {"mixture": Mixture(STRINGS.components[::-1])},
    "seed": {"seed": 4},
    "test_seed": {"test_seed": 3},
    "train_examples": {"train_examples": 99},
    "test_examples": {"test_examples": 11},
    "test_lengths": {"test_lengths": [1, 2]},
}


def test_every_setting_changes_the_fingerprint():
    base = {"mixture": STRINGS, **SETTINGS}
    seen = {CorpusPlan(**base).fingerprint()}
    assert CorpusPlan(**base).fingerprint() in seen
    for name, change in CHANGES.items():
        fingerprint = CorpusPlan(**{**base, **change}).fingerprint()
        assert fingerprint not in seen, name
        seen.add(fingerprint)


def test_defaults_that_are_written_out_change_nothing():
    spelt = Mixture([STRINGS.components[0], Component("reverse_add", "auxiliary", [1, 6], 2.0, {"base": 10})])
    one, other = (CorpusPlan(m, **SETTINGS).fingerprint() for m in (STRINGS, spelt))
    assert one == other


@pytest.mark.parametrize("name", ["seed", "option"])
def test_a_changed_setting_is_not_answered_from_the_cache(tmp_path, name):
    base = {"mixture": STRINGS, **SETTINGS, "train_examples": 50}
    before = build_corpus(**base, cache_dir=tmp_path)
    after = build_corpus(**{**base, **CHANGES[name]}, cache_dir=tmp_path)
    assert texts(before["train"]) != texts(after["train"])


PACKAGE = code.package


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the package's files, which a test may edit; what is loaded is what they hold now."""
    shutil.copytree(code.PACKAGE, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "package", PACKAGE)
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "package")

    def load():
        loaded = {p.relative_to(code.PACKAGE).as_posix(): code.digest(p) for p in code.PACKAGE.rglob("*.py")}
        monkeypatch.setattr(code, "LOADED", loaded)

    load()
    return SimpleNamespace(folder=tmp_path / "package", load=load)


def test_loaded_code_of_the_package_changes_the_fingerprint(copied):
    sources = plan.generator_sources(STRINGS)
    assert {"tasks/strings.py", "tasks/arithmetic.py", "sampling.py", "arrays.py", "corpus/build.py"} <= set(
        sources
    )
    assert not {"hub/push.py", "corpus/language.py", "language.py"} & set(sources)
    before = CorpusPlan(STRINGS, **SETTINGS).fingerprint()
    assert CorpusPlan(STRINGS, **SETTINGS).fingerprint() == before
    with (copied.folder / "tasks/strings.py").open("a") as file:
        file.write("# edited")
    copied.load()  # as another process does
    after = CorpusPlan(STRINGS, **SETTINGS).fingerprint()
    assert after != before
    assert CorpusPlan(STRINGS, **SETTINGS).fingerprint() == after


@pytest.mark.parametrize("age", [-(10**9), 10**9])
def test_only_contents_count_whatever_the_times_of_the_files(copied, age):
    """A copy may keep an older time, and the clock of a file server may be ahead."""
    file = copied.folder / "tasks/strings.py"
    before = CorpusPlan(STRINGS, **SETTINGS).fingerprint()
    os.utime(file, (time.time() + age,) * 2)
    assert CorpusPlan(STRINGS, **SETTINGS).fingerprint() == before
    file.write_text(file.read_text() + "# edited")
    os.utime(file, (time.time() + age,) * 2)
    # this process keeps what it loaded: what it draws is neither the old file's nor the new one's
    assert len({before, *(CorpusPlan(STRINGS, **SETTINGS).fingerprint() for _ in range(3))}) == 4


OWN = """
from data_builders import Sample, register_task
from data_builders.tasks.strings import STRINGS

@register_task(STRINGS)
def own_copy(strings):
    'The string.'
    return Sample(strings.prompt(), strings.text)
"""


def own_task(tmp_path, monkeypatch):
    (tmp_path / "my_own_tasks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_own_tasks", raising=False)
    __import__("my_own_tasks")
    return Mixture([Component("own_copy", "target", (1, 5))])


def test_an_edited_task_of_the_users_own_is_built_anew(own_registry, tmp_path, monkeypatch):
    mixture = own_task(tmp_path, monkeypatch)
    build_corpus(mixture, 20, 2, [4], cache_dir=tmp_path)
    again = build_corpus(mixture, 20, 2, [4], cache_dir=tmp_path)
    assert [row["target"] for row in again["test"]] == [row["prompt"][:-1] for row in again["test"]]
    edited = OWN.replace("strings.text)", "strings.flipped().text)")
    monkeypatch.delitem(sys.modules, "my_own_tasks")
    (tmp_path / "my_own_tasks.py").write_text(edited)
    __import__("importlib").invalidate_caches()
    __import__("my_own_tasks")
    built = build_corpus(mixture, 20, 2, [4], cache_dir=tmp_path)
    assert [row["target"] for row in built["test"]] == [
        row["prompt"][:-1].swapcase() for row in again["test"]
    ]


HELPED = OWN.replace("strings.text)", "my_helper.change(strings))").replace("\n@", "\nimport my_helper\n\n@")
SCRIPT = """
import sys
from pathlib import Path
import datasets
from data_builders import Component, Mixture, build_corpus
import my_own_tasks
datasets.disable_progress_bars()
if sys.argv[2:]:
    name, old, new = sys.argv[2:]
    Path(name).write_text(Path(name).read_text().replace(old, new))
rows = build_corpus(Mixture([Component("own_copy", "target", (1, 5))]), 20, 2, [4], cache_dir=sys.argv[1])
flipped = {row["target"] == row["prompt"][:-1].swapcase() for row in rows["test"]}
print(flipped, rows["train"].cache_files[0]["filename"])
"""


@pytest.mark.parametrize(
    ("name", "late"), [("my_own_tasks.py", False), ("my_helper.py", False), ("my_helper.py", True)]
)
def test_no_process_reads_rows_that_other_code_of_the_users_drew(tmp_path, name, late):
    helper = "def change(strings):\n    return strings.text\n"
    old, new = ("strings.text", "strings.flipped().text")
    tasks = OWN
    if name == "my_helper.py":
        tasks = HELPED
        if late:  # loaded when it is first drawn from
            tasks = tasks.replace("import my_helper\n", "").replace(
                "    return", "    import my_helper\n    return"
            )
    (tmp_path / "my_own_tasks.py").write_text(tasks)
    (tmp_path / "my_helper.py").write_text(helper)
    (tmp_path / "script.py").write_text(SCRIPT)

    def build(*edit):
        done = subprocess.run(
            [sys.executable, "-B", "script.py", str(tmp_path / "cache"), *edit],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    first = build()
    assert first[0] == "{False}"
    assert build() == first  # from the cache
    # edited after it was loaded: the rows are the old code's, unless it was loaded after that
    assert build(name, old, new)[0] == ("{True}" if late else "{False}")
    last = build()
    assert last[0] == "{True}"
    assert build() == last
    (tmp_path / name).write_text((tmp_path / name).read_text().replace(new, old))
    os.utime(tmp_path / name, (0, 0))
    assert build()[0] == "{False}"


def test_a_users_module_without_a_file_is_never_cached(own_registry, tmp_path, monkeypatch):
    # other tests leave modules without a file in this process, which count too
    counts, ours = code._counts, ("my_own_tasks", "of_a_notebook")
    monkeypatch.setattr(code, "_counts", lambda name, module: name in ours and counts(name, module))
    monkeypatch.setattr(code, "_modules", {})
    mixture = own_task(tmp_path, monkeypatch)
    assert len({CorpusPlan(mixture, 20, 2, [4]).fingerprint() for _ in range(3)}) == 1
    monkeypatch.setitem(sys.modules, "of_a_notebook", ModuleType("of_a_notebook"))
    assert len({CorpusPlan(mixture, 20, 2, [4]).fingerprint() for _ in range(3)}) == 3
    assert len({CorpusPlan(STRINGS, 20, 2, [4]).fingerprint() for _ in range(3)}) == 1


def test_a_task_without_a_file_is_never_cached(own_registry):
    exec(OWN, {"__name__": "a notebook"})
    mixture = Mixture([Component("own_copy", "target", (1, 5))])
    assert len({CorpusPlan(mixture, 20, 2, [4]).fingerprint() for _ in range(3)}) == 3


def test_a_process_that_was_not_forked_finds_the_users_own_tasks(own_registry, tmp_path, monkeypatch):
    import dill

    builder = CorpusBuilder(CorpusPlan(own_task(tmp_path, monkeypatch), 20, 2, [4]), cache_dir=tmp_path)
    (tmp_path / "builder.pickle").write_bytes(dill.dumps(builder))
    code = (
        "import dill; print(len(list(dill.load(open('builder.pickle', 'rb')).as_streaming_dataset('train'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "20\n", done.stderr


# Refusals


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train_examples": 0}, "train_examples is 0; it must be an integer from 1"),
        ({"train_examples": 1e5}, "train_examples is 100000.0; it must be an integer from 1"),
        ({"train_examples": True}, "train_examples is True; it must"),
        ({"train_examples": "9"}, "train_examples is '9'; it must"),
        ({"test_examples": -1}, "test_examples is -1; it must"),
        ({"test_lengths": []}, r"test_lengths is \[\]; it must be integers from 1 to 32768, such as"),
        ({"test_lengths": 20}, "test_lengths is 20; it must be integers"),
        ({"test_lengths": "20"}, "test_lengths is '20'; it must be integers"),
        ({"test_lengths": [0, 1]}, r"test_lengths is \[0, 1\]; it must be integers"),
        ({"test_lengths": [1.5, [2]]}, r"test_lengths is \[1.5, \[2\]\]; it must be integers"),
        ({"test_lengths": range(1, 10**12)}, r"test_lengths is \[1, 2, 3, 4, 5, 6, 7, 8, ...\]; it must"),
        ({"test_lengths": [32768]}, "length 32768 of capitalize_reverse makes a prompt of more than 32768"),
        ({"seed": 0.5}, "seed is 0.5; it must be an integer"),
        ({"test_seed": None}, "test_seed is None; it must"),
        ({"num_proc": 0}, "num_proc is 0; it must be an integer from 1, or None"),
        ({"num_proc": 2.0}, "num_proc is 2.0; it must"),
        ({"train_examples": 0, "seed": "x"}, "train_examples is 0.*; seed is 'x'"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, change, told):
    with pytest.raises(TaskError, match=told):
        build_corpus(STRINGS, **{**SETTINGS, **change}, cache_dir=tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_lengths_that_no_task_has_are_refused(tmp_path):
    mazes = Mixture([Component("shortest_path", "target", (2, 4), options={"side": 2})])
    with pytest.raises(TaskError, match=r"test_lengths \[5, 6\]: no task of the mixture has any of them"):
        build_corpus(mazes, 10, 2, [6, 5], cache_dir=tmp_path)


def test_a_configuration_that_is_not_there_is_refused():
    with pytest.raises(TaskError, match="unknown configuration 'mixtur'; did you mean 'mixture'"):
        CorpusBuilder(CorpusPlan(STRINGS, **SETTINGS), "mixtur")


def test_a_task_that_is_found_impossible_on_the_way_is_a_task_error(tmp_path, monkeypatch):
    def fail(*_):
        raise TaskError("no such string")

    monkeypatch.setattr(corpus_module, "draw_chunk", fail)
    with pytest.raises(TaskError, match=r"^no such string$"):
        build_corpus(STRINGS, **SETTINGS, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "result", "told"),
    [
        ("mixture", "Sample(strings.prompt(), strings.text)", "'mixture' cannot name a configuration"),
        ("näme", "Sample(strings.prompt(), strings.text)", "'näme' cannot name a configuration"),
        (
            "partly",
            "Sample(strings.prompt(), strings.text, strings.text > 20)",
            r"'partly' counts EOS, but not every symbol.*Sample\(..., scores_eos=False\)",
        ),
    ],
)
def test_a_task_that_no_corpus_can_hold_is_refused(own_registry, name, result, told):
    source = OWN.replace("own_copy", name).replace("Sample(strings.prompt(), strings.text)", result)
    exec(source, {"__name__": "a notebook"})
    with pytest.raises(TaskError, match=told):
        CorpusPlan(Mixture([Component(name, "target", (4, 5))]), 10, 2, [4])


# What the corpus shares with training


def test_sharing_code_with_the_corpus_left_the_training_batches_as_they_were():
    digest = hashlib.sha256()
    for held_out in (None, HeldOut(STRINGS, range(1, 8), 20, 5)):
        for step in range(3):
            draw = draw_batch(STRINGS, step, 300, 7, held_out)
            for rows, sample in draw.groups:
                digest.update(repr((rows.tolist(), draw.length[rows].tolist(), sample.text())).encode())
    assert digest.hexdigest() == "49c20e39de2415daddb02d866548d6b8125c1e62e3eab13f05b1bccce86b0bff"


def test_too_few_rows_for_every_task_are_reported(tmp_path):
    (tmp_path / "out").mkdir()
    mixture = Mixture([Component("reverse", "target", (1, 4)), Component("capitalize", "auxiliary", (1, 8))])
    told = r"train_examples is 1, which leaves (reverse|capitalize) without a row"
    with pytest.raises(TaskError, match=told):
        data_builders.write_corpus(tmp_path / "out", mixture, 1, 4, range(1, 9))
