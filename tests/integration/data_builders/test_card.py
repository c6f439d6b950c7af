"""A written corpus: what load_dataset reads of it, its card, and that equal corpora have equal bytes."""

import json
import re
from collections import Counter

import datasets
import pytest
import yaml
from huggingface_hub import DatasetCard

from data_builders import Component, Mixture, TaskError, build_corpus, registry, write_corpus
from data_builders.corpus import folder, lm_eval
from data_builders.corpus.card import _code, _plain, _size_category, _table
from data_builders.texts import fenced

MIXTURE = Mixture(
    [
        Component("capitalize_reverse", "target", (1, 4), options={"alphabet": "ab"}),
        Component("mqar", "auxiliary", (3, 7), weight=0.5),
    ]
)
SETTINGS = {"train_examples": 4200, "test_examples": 12, "test_lengths": range(1, 8), "seed": 3}

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus")
    rows = write_corpus(out, MIXTURE, **SETTINGS)
    return out, rows


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_corpus(MIXTURE, **SETTINGS, cache_dir=tmp_path_factory.mktemp("cache"))


def load(path, *args, tmp_path, **kw):
    return datasets.load_dataset(str(path), *args, cache_dir=str(tmp_path / "hf"), **kw)


def files(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def section(text, title):
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def cells(text):
    """Rows of a Markdown table without head and line, backticks taken off."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip("`") for cell in line] for line in lines[2:]]


def test_the_folder_loads_as_the_corpus_that_was_built(written, built, tmp_path):
    loaded = load(written[0], tmp_path=tmp_path)
    assert list(loaded) == ["train", "test"]
    for split, rows in built.items():
        assert loaded[split].features == rows.features
        assert loaded[split].to_list() == rows.to_list()


@pytest.mark.parametrize("task", ["capitalize_reverse", "mqar"])
def test_one_task_loads_by_itself(written, built, tmp_path, task):
    loaded = load(written[0], task, tmp_path=tmp_path)
    streamed = load(written[0], task, tmp_path=tmp_path, streaming=True)
    for split, rows in built.items():
        expected = [row for row in rows if row["task"] == task]
        assert loaded[split].to_list() == list(streamed[split]) == expected


def test_the_folder_holds_nothing_else(written):
    names = {f"{c}/{s}-00000-of-00001.parquet" for c in written[1] for s in ("train", "test")}
    assert set(files(written[0])) == names | {"README.md", "corpus.json"}
    assert not [p for p in written[0].iterdir() if p.name.startswith(".")]
    assert list(written[1]) == ["mixture", "capitalize_reverse", "mqar"]


@pytest.mark.parametrize("num_proc", [None, 2])
def test_equal_corpora_have_equal_bytes(written, tmp_path, num_proc):
    write_corpus(tmp_path, MIXTURE, **SETTINGS, num_proc=num_proc)
    assert files(tmp_path) == files(written[0])


def test_processes_leave_no_trace_where_chunks_have_single_rows(tmp_path):
    rare = Mixture([MIXTURE.components[0], Component("mqar", "auxiliary", (3, 7), 3e-4)])
    out = [tmp_path / name for name in ("one", "three")]
    for path, num_proc in zip(out, (1, 3), strict=True):
        path.mkdir()
        write_corpus(path, rare, 4 * 4096, 3, [4], num_proc=num_proc)
    assert files(out[0]) == files(out[1])


def test_large_splits_are_cut_into_shards_in_order(written, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "SHARD_BYTES", 100_000)
    out = tmp_path / "out"
    out.mkdir()
    write_corpus(out, MIXTURE, **SETTINGS)
    shards = sorted(p.name for p in (out / "mixture").glob("train-*"))
    assert shards == [f"train-{k:05d}-of-{len(shards):05d}.parquet" for k in range(len(shards))]
    assert len(shards) > 2
    one, other = (load(path, tmp_path=tmp_path)["train"] for path in (written[0], out))
    assert one.to_list() == other.to_list()


def test_the_marker_tells_how_the_corpus_was_made(written):
    marker = folder.read_marker(written[0])
    assert marker == json.loads((written[0] / "corpus.json").read_text())
    assert marker["rows"] == written[1]
    assert marker["test_lengths"] == list(range(1, 8))
    assert (marker["seed"], marker["test_seed"], marker["train_examples"]) == (3, 1234, 4200)
    assert marker["mixture"][1]["options"] == registry.get_task("mqar").resolve({})
    assert re.fullmatch("[0-9a-f]{32}", marker["fingerprint"])


DAMAGED = ["a", {"t": "a"}, {"t": {"train": 1}}, {"t": {"train": 1, "test": "2"}}]


@pytest.mark.parametrize(
    "text",
    [None, "not json", "[1]", "{}"]
    + [json.dumps({"fingerprint": "a", "files": {}, "rows": rows}) for rows in DAMAGED]
    + [json.dumps({"fingerprint": "a", "files": {"f": 1}, "rows": {}})],
)
def test_what_is_no_marker_is_none(tmp_path, text):
    if text is not None:
        (tmp_path / "corpus.json").write_text(text)
    assert folder.read_marker(tmp_path) is None


# The card


def test_the_metadata_says_what_the_files_hold(written, built):
    text = (written[0] / "README.md").read_text()
    data = yaml.safe_load(text.split("---\n")[1])
    assert DatasetCard(text).data.to_dict() == data
    assert data["license"] == "apache-2.0"
    assert data["task_categories"] == ["text-generation"]
    assert data["tags"] == ["hf_lgt", "length-generalization"]
    assert data["size_categories"] == ["1K<n<10K"]
    assert "language" not in data
    assert {c["config_name"]: c.get("default") for c in data["configs"]} == {
        "mixture": True,
        "capitalize_reverse": None,
        "mqar": None,
    }
    for info in data["dataset_info"]:
        name = info["config_name"]
        assert {s["name"]: s["num_examples"] for s in info["splits"]} == written[1][name]
        assert [f["name"] for f in info["features"]] == list(built["train"].features)
        paths = list((written[0] / name).iterdir())
        assert info["download_size"] == sum(p.stat().st_size for p in paths)
        assert info["dataset_size"] == sum(s["num_bytes"] for s in info["splits"])
    sizes = {i["config_name"]: {s["name"]: s["num_bytes"] for s in i["splits"]} for i in data["dataset_info"]}
    for split, rows in built.items():
        assert sizes["mixture"][split] == pytest.approx(rows.data.nbytes, rel=0.05)


def test_the_tables_count_the_rows(written, built):
    text = (written[0] / "README.md").read_text()
    rows = {name: {"train": int(a), "test": int(b)} for name, a, b in cells(section(text, "Rows"))}
    assert rows == written[1]
    counts = Counter((row["task"], row["length"]) for row in built["test"])
    listed = cells(section(text, "Test rows"))
    assert [int(n) for n, *_ in listed] == list(range(1, 8))
    for n, *numbers in listed:
        for component, number in zip(MIXTURE.components, numbers, strict=True):
            if component.definition.length_fault(int(n), component.options):
                assert number == "-"
            else:
                assert int(number) == counts[component.task, int(n)]
    fewer = section(text, "Test rows").split("Fewer rows than asked for:")[1]
    assert "`capitalize_reverse`, length 1, 2: trained lengths with few prompts" in fewer
    assert "mqar" not in fewer


def test_lengths_beyond_the_trained_ones_have_all_their_prompts(tmp_path):
    mixture = Mixture([Component("reverse", "target", (2, 2), options={"alphabet": "a"})])
    write_corpus(tmp_path, mixture, 10, 100, [1, 3])
    text = (tmp_path / "README.md").read_text()
    assert cells(section(text, "Test rows")) == [["1", "2"], ["3", "8"]]
    assert "`reverse`, length 1, 3: all the prompts that were found" in text


def test_the_card_describes_each_task(written, built):
    text = (written[0] / "README.md").read_text()
    for component in MIXTURE.components:
        part = text.split(f"### `{component.task}` ({component.role})")[1].split("\n#")[0]
        assert component.definition.summary in part
        low, high = component.lengths
        assert f"training lengths {low} to {high}, in characters" in part
        assert f"weight {component.weight:g}" in part
        prompt, target = re.search(r"```text\n(.*) -> (.*)\n```", part).groups()
        assert (prompt, target) in {(row["prompt"], row["target"]) for row in built["test"]}
    assert '`alphabet` = `"ab"`' in text
    assert "2506.09251" in section(text, "Citation")
    assert "seed 3, test split with seed 1234" in text


def test_the_code_in_the_card_writes_the_same_corpus(written, tmp_path):
    text = section((written[0] / "README.md").read_text(), "How it was made")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    exec(code, {"FOLDER": tmp_path})
    assert files(tmp_path) == files(written[0])


def test_a_command_takes_the_place_of_the_code(tmp_path):
    write_corpus(tmp_path, MIXTURE, 10, 2, [3], command="make ```corpus```", licence="mit")
    text = (tmp_path / "README.md").read_text()
    assert "````bash\nmake ```corpus```\n````" in text
    assert "write_corpus(" not in text
    assert DatasetCard(text).data.license == "mit"


def test_a_command_with_a_token_is_shown_without_it(tmp_path):
    token = "hf_" + "aB3" * 12
    write_corpus(tmp_path, MIXTURE, 10, 2, [3], command=f"make {token} --name hf_datasets")
    assert "make *** --name hf_datasets" in (tmp_path / "README.md").read_text()


NASTY = "x | y ` ```\n---\n# z\n<script>alert(1)</script> ![a](http://b) {{c}}"


def test_nothing_breaks_out_of_the_card(tmp_path, monkeypatch):
    task = registry.get_task("reverse")

    def rule(strings):
        return task.rule(strings)

    rule.__doc__ = NASTY.split("\n")[2] + " | " + NASTY.replace("\n", " ")
    note = registry.Option(NASTY, NASTY, lambda value: None)
    family = registry.Family(
        "own", NASTY, lambda rng, n, note, alphabet: task._family.draw(rng, n, alphabet=alphabet), {}
    )
    options = {"alphabet": task.options["alphabet"], "note": note}
    odd = registry.Task("reverse", "own", NASTY, options, rule, family)
    monkeypatch.setitem(registry._tasks, "reverse", odd)
    write_corpus(tmp_path, Mixture([Component("reverse", "target", (2, 5))]), 10, 2, [3], licence=NASTY)
    text = (tmp_path / "README.md").read_text()
    assert DatasetCard(text).data.license == NASTY
    assert [c["config_name"] for c in DatasetCard(text).data.to_dict()["configs"]] == ["mixture", "reverse"]
    body = text.split("\n---\n", 1)[1]
    assert "\n# z" not in body
    assert "\n---\n" not in body
    outside = re.sub(r"(`+)[^`].*?(?<!`)\1(?!`)", "", body, flags=re.DOTALL)
    assert "<script>" not in outside
    assert "![a]" not in outside


@pytest.mark.parametrize(
    ("text", "code"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a|b\nc", "`a\\|b c`"), ("", "`  `")],
)
def test_code_on_a_line(text, code):
    assert _code(text) == code


def test_plain_text_and_blocks_and_tables():
    assert _plain("a *b* `c|d` <e>\n# f") == "a \\*b\\* `c\\|d` &lt;e> # f"
    assert fenced("a\n````", "x") == "`````x\na\n````\n`````"
    assert _table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (9999, "1K<n<10K"),
        (10**6, "1M<n<10M"),
        (10**9, "n>1B"),
    ],
)
def test_size_categories(rows, category):
    assert _size_category(rows) == category


@pytest.mark.parametrize("name", [NASTY, "no", "1e5", "a: b", "---", "{{7*7}}", "'", "\x85\u2028", "# a"])
def test_files_for_the_harness_hold_the_very_strings(tmp_path, name):
    settings = {"dataset_path": name, **lm_eval._task("t", name, 1, 2, name)}
    lm_eval._write(tmp_path / "a.yaml", settings)
    text = (tmp_path / "a.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == settings
    assert lm_eval.is_replaceable(tmp_path)


# Refusals


def test_only_an_empty_folder_is_written_to(tmp_path):
    (tmp_path / "mine").write_text("x")
    for path in (tmp_path, tmp_path / "mine", tmp_path / "nowhere"):
        with pytest.raises(TaskError, match="must be an empty folder; make one, or name another"):
            write_corpus(path, MIXTURE, **SETTINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_wrong_arguments_leave_the_folder_empty(tmp_path):
    for change in ({"num_proc": 0}, {"train_examples": 0}):
        with pytest.raises(TaskError, match=next(iter(change))):
            write_corpus(tmp_path, MIXTURE, **{**SETTINGS, **change})
    assert list(tmp_path.iterdir()) == []
