import json
import os
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from hf_lgt import ConfigError, load_config
from hf_lgt.config.schema import DataConfig, short
from hf_lgt.data.codec import Codec
from hf_lgt.data.hub_open import build_codec, only_task, open_dataset
from tests.conftest import ROOT

ROWS = [
    {"task": "rev", "prompt": "a b", "target": "b a", "length": 2},
    {"task": "rev", "prompt": "c", "target": "c", "length": 1},
    {"task": "copy", "prompt": "a", "target": "a", "length": 1},
    {"task": "copy", "prompt": "b", "target": "b", "length": 1},
    {"task": "copy", "prompt": "d", "target": "d", "length": 1},
]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def opened(path, **data):
    data = {"train_split": "train", "test_split": "train", **data}
    return open_dataset(DataConfig(source="dataset", path=str(path), **data))


def refused(path, **data):
    with pytest.raises(ConfigError) as caught:
        opened(path, **data)
    return caught.value.faults


def config(*overrides, tasks=("rev",)):
    mixture = [{"task": t, "role": "target", "lengths": [1, 5]} for t in tasks]
    every = ["data={source: dataset, path: x}", f"mixture={json.dumps(mixture)}", *overrides]
    return load_config(ROOT / "recipes/demo/transfer.yaml", every)


def config_faults(*overrides, **options):
    with pytest.raises(ConfigError) as caught:
        config(*overrides, **options)
    return caught.value.faults


@pytest.fixture(params=["jsonl", "json", "csv", "tsv", "parquet", "parquet folder", "saved", "saved single"])
def stored(request, tmp_path):
    """The rows in each form that is read; all have one split, train."""
    dataset, kind = Dataset.from_list(ROWS), request.param
    path = tmp_path / f"rows.{kind}" if " " not in kind else tmp_path / "folder"
    if kind == "jsonl":
        jsonl(path, ROWS)
    elif kind == "json":
        path.write_text(json.dumps(ROWS))
    elif kind in ("csv", "tsv"):
        cells = [list(ROWS[0]), *([str(v) for v in row.values()] for row in ROWS)]
        path.write_text("".join(("," if kind == "csv" else "\t").join(row) + "\n" for row in cells))
    elif kind == "parquet":
        dataset.to_parquet(path)
    elif kind == "parquet folder":
        dataset.to_parquet(path / "data/train-00000-of-00001.parquet")
    elif kind == "saved":
        DatasetDict(train=dataset).save_to_disk(path)
    else:
        dataset.save_to_disk(path)
    return path


def test_every_form_gives_the_same_rows_whole_and_cut(stored):
    both = opened(stored, train_split="train[:80%]", test_split="train[80%:]")
    assert both.train.select_columns(list(ROWS[0])).to_list() == ROWS[:4]
    assert both.test.select_columns(list(ROWS[0])).to_list() == ROWS[4:]
    assert both.revision is None
    assert opened(stored).train.num_rows == 5


def test_a_split_that_is_not_there_is_named_with_those_that_are(stored):
    (fault,) = refused(stored, test_split="test")
    told, _, hint = fault.partition("; ")
    assert told == "data.test_split: unknown split 'test' (known: train)"
    assert bool(hint) == stored.is_file(), "a folder may hold more splits, a file does not"
    assert refused(stored, train_split="trian[:50%]")[0].startswith(
        "data.train_split: unknown split 'trian'; did you mean 'train'?"
    )


def test_both_splits_are_reported_at_once_and_may_have_any_name(tmp_path):
    path = tmp_path / "saved"
    DatasetDict({"to-learn": Dataset.from_list(ROWS), "exam": Dataset.from_list(ROWS[:2])}).save_to_disk(path)
    faults = refused(path, train_split="train", test_split="test")
    assert faults == [
        "data.train_split: unknown split 'train' (known: to-learn, exam)",
        "data.test_split: unknown split 'test' (known: to-learn, exam)",
    ]
    assert len(opened(path, train_split="to-learn", test_split="exam[1:]").test) == 1


@pytest.mark.parametrize("cut", ["train[:", "train[a:b]", "train[:200%]", "train[]"])
def test_a_cut_that_is_none_is_refused(tmp_path, cut):
    (fault,) = refused(jsonl(tmp_path / "a.jsonl", ROWS), train_split=cut)
    assert fault.startswith(f"data.train_split: '{cut}' must be as 'train' or 'train[:90%]': ")


def test_a_split_without_rows_is_refused(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    assert refused(path, train_split="train[:0]") == ["data.train_split: train[:0] has no rows"]
    assert refused(path, test_split="train[7:]") == ["data.test_split: train[7:] has no rows"]


@pytest.mark.parametrize(
    "path", ["rows.jsonl", "/nowhere/rows", "./rows", "a/b/c", "x" * 300 + ".csv", "a\0b", "https://x.y/z"]
)
def test_a_path_that_is_nothing_is_not_looked_for_on_the_hub(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (fault,) = refused(path)
    assert fault.startswith("data.path: ")
    assert fault.endswith(" is no file or folder that can be read")


def test_a_path_that_may_be_a_hub_id_says_so(hub):
    (fault,) = refused("corpora/word-lists")
    assert fault.startswith(
        "data.path: 'corpora/word-lists' is no file or folder here, and no dataset on the"
    )
    assert "'hf auth login' or set HF_TOKEN" in fault


def test_files_that_hold_no_rows_are_reported(tmp_path):
    def told(name, content):
        (tmp_path / name).write_bytes(content)
        return refused(tmp_path / name)[0]

    assert told("a.jsonl", b"").endswith(" is empty")
    assert told("a.txt", b"x").endswith(" is none of .csv, .tsv, .json, .jsonl, .ndjson, .parquet")
    assert "b.jsonl, line 1 is no JSON: Expecting property name" in told("b.jsonl", b"{no")
    assert " cannot be loaded: ArrowInvalid: Parquet file size is 3" in told("b.parquet", b"{no")
    (tmp_path / "folder").mkdir()
    for name in ("notes.txt", "config.json", "rows.parquet.gz", "__cache__/rows.csv"):
        (tmp_path / "folder" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_text("x")
        assert "has no .csv, .tsv, .json, .jsonl, .ndjson, .parquet file" in refused(tmp_path / "folder")[0]


def test_a_file_that_may_not_be_read_is_reported(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    path.chmod(0)
    if not os.access(path, os.R_OK):  # root reads everything
        assert "PermissionError" in refused(path)[0]
    # a link to itself can be read by nobody
    loop = tmp_path / "loop.jsonl"
    loop.symlink_to(loop)
    assert refused(loop)[0].startswith(f"data.path: {short(str(loop))}")


def test_names_of_files_are_no_patterns(tmp_path):
    path = jsonl(tmp_path / "a[12]*?.jsonl", ROWS[:3])
    jsonl(tmp_path / "a1.jsonl", ROWS)
    assert len(opened(path).train) == 3


def test_revision_and_configuration_are_for_what_has_them(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    assert refused(path, revision="main")[0].startswith("data.revision: 'main' is one of the Hub")
    assert refused(path, name="x")[0].startswith("data.name: 'x' is a configuration, which ")
    Dataset.from_list(ROWS).to_parquet(tmp_path / "pq/train.parquet")
    assert refused(tmp_path / "pq", name="x") == ["data.name: unknown configuration 'x' (known: default)"]


def test_lengths_in_a_csv_are_whole_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,target,length\na,a,1\nc,c, 007\n")
    assert opened(path).train["length"] == [1, 7]
    for cell in ("", "2.0", "1e3", "two", "9" * 20):
        path.write_text(f"prompt,target,length\na,a,1\nc,c,{cell}\n")
        assert refused(path)[0].endswith(f"not integers: row 1 is {cell!r}")


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("prompt", [3, 4], "holds int64, not strings: row 0 is 3; store it as text (a string)"),
        ("prompt", [["a"], ["b"]], "not strings: row 0 is ['a']"),
        ("prompt", [None, None], "holds null, not strings: row 0 is null"),
        ("target", [{"x": 1}, {"x": 2}], "not strings: row 0 is {'x': 1}"),
        ("task", [1, 2], "holds int64, not strings: row 0 is 1"),
        ("length", ["2", "two"], "holds string, not integers: row 1 is 'two'"),
        ("length", [2.0, 2.5], "holds float64, not integers: row 1 is 2.5"),
        ("length", [2.0, None], "holds float64, not integers: row 1 is null"),
        ("length", [2.0, float("nan")], "holds float64, not integers: row 1 is nan"),
        ("length", [True, False], "holds bool, not integers: row 0 is true"),
        ("loss_mask", ["ab", "cd"], "holds string, not lists of true and false"),
        ("loss_mask", [[1, 0], [1, 1]], "holds List(Value('int64')), not lists of true and false"),
    ],
)
def test_a_column_of_another_type_is_reported_with_its_first_row(tmp_path, column, values, told):
    path = jsonl(tmp_path / "a.jsonl", [{**row, column: v} for row, v in zip(ROWS, values, strict=False)])
    (fault,) = refused(path)
    assert fault.startswith(f"data.columns: column {column!r} of train holds ")
    assert told in fault


def test_a_nan_is_reported_by_its_row(tmp_path):
    Dataset.from_dict(
        {"task": ["rev"] * 2, "prompt": ["a"] * 2, "target": ["a"] * 2, "length": [1.0, float("nan")]}
    ).save_to_disk(tmp_path / "d")
    assert refused(tmp_path / "d")[0].endswith("row 1 is nan")


FORMS = {
    "a.jsonl": lambda rows, path: jsonl(path, rows),
    "a.csv": lambda rows, path: Dataset.from_list(rows).to_csv(path),
    "a.parquet": lambda rows, path: Dataset.from_list(rows).to_parquet(path),
    "folder/train.jsonl": lambda rows, path: jsonl(path, rows),
    "folder/train.csv": lambda rows, path: Dataset.from_list(rows).to_csv(path),
    "folder/train.parquet": lambda rows, path: Dataset.from_list(rows).to_parquet(path),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_edited_file_with_its_old_time_stamp_gives_its_new_rows(tmp_path, form):
    file = tmp_path / form
    file.parent.mkdir(exist_ok=True)
    path = tmp_path / form.split("/")[0]
    FORMS[form](ROWS, file)
    assert opened(path).train["target"] == [row["target"] for row in ROWS]
    before = file.stat()
    FORMS[form]([{**row, "target": "e"} for row in ROWS], file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert opened(path).train["target"] == ["e"] * 5


@pytest.mark.parametrize("kind", ["torch", "numpy", "pandas", "arrow"])
def test_the_format_that_a_dataset_was_saved_with_is_ignored(tmp_path, kind):
    formatted = Dataset.from_list(ROWS).with_format(kind, columns=["length"])
    formatted.save_to_disk(tmp_path / "single")
    DatasetDict(train=formatted).save_to_disk(tmp_path / "dict")
    for path in (tmp_path / "single", tmp_path / "dict"):
        assert opened(path).train[:] == Dataset.from_list(ROWS)[:]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "saved"])
@pytest.mark.parametrize("lacks", ["train", "test"])
def test_a_loss_mask_in_one_split_alone_is_refused(tmp_path, form, lacks):
    masked = [{**row, "loss_mask": [True] * row["length"]} for row in ROWS]
    both = {name: ROWS if name == lacks else masked for name in ("train", "test")}
    if form == "saved":
        DatasetDict({name: Dataset.from_list(rows) for name, rows in both.items()}).save_to_disk(
            tmp_path / "d"
        )
    for name, rows in both.items():
        path = tmp_path / f"d/{name}.{form}"
        path.parent.mkdir(exist_ok=True)
        if form != "saved":
            FORMS[f"a.{form}"](rows, path)
    (fault,) = refused(tmp_path / "d", test_split="test")
    assert fault.startswith(
        f"data.columns: {lacks} has no column 'loss_mask' although the other split has it"
    )


def parquet(path, **columns):
    whole = {"task": ["rev"], "prompt": ["a"], "target": ["b"], "length": [1], **columns}
    pq.write_table(pa.table(whole), path)
    return path


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_text_of_a_parquet_file_may_be_stored_in_any_way(tmp_path, kind):
    path = parquet(tmp_path / "a.parquet", prompt=pa.array(["007"]).cast(kind))
    assert opened(path).train["prompt"] == ["007"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (pa.array([b"a"]), "holds binary, not strings: row 0 is b'a'; store it as text"),
        (
            pa.array([datetime(2020, 1, 1)]),
            "holds timestamp[us], not strings: row 0 is datetime.datetime(2020",
        ),
    ],
    ids=str,
)
def test_what_is_no_text_in_a_parquet_file_is_refused(tmp_path, values, told):
    assert told in refused(parquet(tmp_path / "a.parquet", prompt=values))[0]


def test_parquet_files_of_a_split_must_have_the_same_columns(tmp_path):
    parquet(tmp_path / "train-1.parquet")
    other = parquet(tmp_path / "train-2.parquet", prompt=[7])
    (fault,) = refused(tmp_path)
    assert "column 'prompt' of " in fault
    assert fault.endswith(f"is string, that of {other} int64; store it as text (a string)")
    parquet(other, more=[7])
    assert refused(tmp_path)[0].endswith("train-1.parquet differ in columns: more")
    table = pa.Table.from_arrays([pa.array(["a"])] * 2, names=["prompt", "prompt"])
    pq.write_table(table, other)
    assert refused(other) == [f"data.path: {other} has the column 'prompt' twice"]
    pq.write_table(table.slice(0, 0).select([0]), other)
    assert refused(other) == [f"data.path: {other} has no rows"]


def test_damaged_text_is_refused_before_it_is_read(tmp_path):
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"a\xff"]).buffers())
    path = parquet(tmp_path / "a.parquet", prompt=broken)
    assert f"{path}: column 'prompt' is damaged: In chunk 0: Invalid: Invalid UTF8" in refused(path)[0]
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "d")
    (file,) = (tmp_path / "d").glob("*.arrow")
    content = bytearray(file.read_bytes())
    offsets = np.cumsum([0, *(len(row["prompt"]) for row in ROWS)]).astype(np.int32).tobytes()
    place = content.index(offsets)
    content[place + 4 : place + 8] = (2**30).to_bytes(4, "little")  # reading there would end the process
    file.write_bytes(content)
    assert (
        "column 'prompt' is damaged: In chunk 0: Invalid: Offset invariant failure"
        in refused(tmp_path / "d")[0]
    )


def test_a_picture_that_is_no_text_is_not_opened(tmp_path):
    features = Features({"prompt": Image(), "target": Value("string"), "length": Value("int64")})
    rows = {"prompt": [{"bytes": None, "path": "/nowhere.png"}], "target": ["a"], "length": [1]}
    pq.write_table(pa.table(rows, features.arrow_schema), tmp_path / "a.parquet")
    assert "column 'prompt' of train holds " in refused(tmp_path / "a.parquet")[0]


@pytest.mark.parametrize("kind", ["uint8", "int16", "int64"])
def test_any_whole_numbers_are_lengths(tmp_path, kind):
    features = Features(
        {**dict.fromkeys(("task", "prompt", "target"), Value("large_string")), "length": Value(kind)}
    )
    Dataset.from_list(ROWS, features=features).save_to_disk(tmp_path / "d")
    assert opened(tmp_path / "d").train["length"] == [2, 1, 1, 1, 1]


def test_class_labels_are_no_names(tmp_path):
    dataset = Dataset.from_list(ROWS).cast_column("task", ClassLabel(names=["rev", "copy"]))
    dataset.save_to_disk(tmp_path / "d")
    assert "column 'task' of train holds int64, not strings" in refused(tmp_path / "d")[0]


def test_missing_columns_are_all_told_with_those_that_are_there(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"q": "a", "answer": "b"}])
    faults = refused(path, columns={"prompt": "q", "task": "kind"})
    there = "it has q, answer. data.columns."
    assert faults == [
        f"data.columns: train has no column 'target'; {there}target names yours",
        f"data.columns: train has no column 'length'; {there}length names yours, or data.length counts "
        "characters, words or tokens of the prompt",
        f"data.columns: train has no column 'kind'; {there}task names yours",
    ]
    assert opened(path, columns={"prompt": "q", "target": "answer"}, length="words").train.num_rows == 1


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("{promt: q}", "data.columns: unknown column 'promt'; did you mean 'prompt'?"),
        ("{prompt: x, target: x}", "data.columns: 'x' is read as prompt and as target; each needs a column"),
        ("{prompt: target}", "data.columns: 'target' is read as prompt and as target"),
        ("{prompt: task}", "data.columns: 'task' is read as task and as prompt"),
        ("{prompt: [q]}", "data.columns.prompt: ['q'] must be a string"),
        ("{prompt: null}", "data.columns.prompt: null must be a string"),
        ("{prompt: 3}", "data.columns.prompt: 3 must be a string"),
        ("[prompt]", "data.columns: ['prompt'] must be a mapping of keys"),
    ],
)
def test_wrong_names_of_columns_are_reported_with_the_config(columns, told):
    assert config_faults(f"data.columns={columns}")[0].startswith(told)


def test_a_column_may_be_named_as_its_key_and_swapped_with_another():
    same = config("data.columns={prompt: prompt, task: task}")
    assert same.data.columns == {"prompt": "prompt", "task": "task"}
    config("data.columns={prompt: target, target: prompt}")
    config("data.columns={prompt: length}", "data.length=words")


def test_a_length_cannot_be_read_and_counted():
    (fault,) = config_faults("data.columns={length: n}", "data.length=words")
    assert fault == "data.columns: names a column for the length, but data.length counts words"


def test_generated_data_have_no_path():
    faults = config_faults("data={source: generated, path: x.jsonl}", tasks=("reverse",))
    assert faults == ["data.path: 'x.jsonl' is for data.source 'dataset', not 'generated'"]


@pytest.mark.parametrize("task", ["eos", "pad", "bos", "unk", "a b", "../x", "<b>", "a|b", "x" * 65, "rev "])
def test_a_name_that_can_be_no_tag_is_refused_where_there_are_tags(task):
    (fault,) = config_faults(tasks=(task,))
    assert fault.startswith(f"mixture.0.task: {task!r} can be no tag, which is letters, digits and '_'")
    assert "set data.tags to false" in fault
    assert config("data.tags=false", tasks=(task,)).mixture[0].task == task


@pytest.mark.parametrize("task", ["", "a\nb", "\x1b[31m", "a\0b"])
def test_a_name_that_cannot_be_printed_is_refused(task):
    (fault,) = config_faults("data.tags=false", tasks=(task,))
    assert "must be a value of the dataset's task column, printable text" in fault


def test_a_task_stands_in_a_mixture_once():
    (fault,) = config_faults(tasks=("rev", "rev"))
    assert fault.startswith("mixture.1.task: 'rev' stands in the mixture twice, as mixture.0 too")


def test_without_a_task_column_all_rows_are_of_the_only_task(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "task"} for row in ROWS]
    both = opened(jsonl(tmp_path / "a.jsonl", rows))
    assert only_task(config(), both) == "rev"
    with pytest.raises(
        ConfigError, match=r"train has no column 'task' to tell the 2 tasks of the mixture apart"
    ):
        only_task(config(tasks=("rev", "copy")), both)


@pytest.mark.parametrize("lacks", ["train", "test"])
def test_a_task_column_in_one_split_alone_is_refused(tmp_path, lacks):
    full, bare = Dataset.from_list(ROWS), Dataset.from_list(ROWS).remove_columns("task")
    DatasetDict({n: bare if n == lacks else full for n in ("train", "test")}).save_to_disk(tmp_path / "d")
    both = opened(tmp_path / "d", test_split="test")
    for tasks in (("rev",), ("rev", "copy")):
        with pytest.raises(
            ConfigError, match=f"{lacks} has no column 'task' although the other split has it"
        ):
            only_task(config(tasks=tasks), both)


def test_the_vocabulary_is_that_of_all_training_rows_whatever_the_mixture(tmp_path):
    both = opened(jsonl(tmp_path / "a.jsonl", ROWS))
    vocabularies = [
        build_codec(config("model.tokenizer=words", tasks=tasks), both, None).tokenizer.get_vocab()
        for tasks in (("rev",), ("copy",), ("rev", "copy"))
    ]
    assert vocabularies[0] == vocabularies[1] == vocabularies[2]
    assert {"<rev>", "<copy>", " a", " d"} <= set(vocabularies[0])
    plain = build_codec(config("model.tokenizer=words", "data.tags=false"), both, None)
    assert set(vocabularies[0]) - set(plain.tokenizer.get_vocab()) == {"<rev>", "<copy>"}


@pytest.mark.parametrize("tokenizer", ["words", "symbols"])
def test_tasks_that_can_have_no_tag_do_not_disturb_the_others(tmp_path, tokenizer):
    names = ["rev", "pad", "eos", "unk", "a b", "x" * 99]
    rows = [{"task": name, "prompt": "[7]", "target": "a", "length": 1} for name in names]
    both = opened(jsonl(tmp_path / "a.jsonl", rows))
    codec = build_codec(config(f"model.tokenizer={tokenizer}"), both, None)
    ids = sorted(codec.tokenizer.get_vocab().values())
    assert ids == list(range(codec.vocab_size))
    assert (codec.pad_id, codec.bos_id, codec.eos_id) == (0, 1, 2)
    if tokenizer == "symbols":
        nodes = build_codec(config(), both, None)
        assert isinstance(nodes, Codec)
        assert "[7]" in nodes.tokenizer.get_vocab()
        assert "[8]" not in nodes.tokenizer.get_vocab()
