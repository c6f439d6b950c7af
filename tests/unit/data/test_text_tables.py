"""Rows come through as their files have them, on every path; files that would be misread are refused."""

import bz2
import gzip
import json
import lzma

import pytest
from huggingface_hub import HfApi

from tests.unit.data.test_loading import jsonl, opened, refused

TEXTS = [
    "NA", "null", "None", "nan", "#N/A", "", "1e5", "True", "007", "0070", "-0", "1.50", "inf", " a ", "a ",
    "1_000", "2020-01-01", "2020-01-01T00:00:00", "12:00", 'a "b" c', "a,b", "a\tb", "é\u2028\x85x", "a\nb",
]  # fmt: skip
ROWS = [{"task": text or "t", "prompt": text, "target": text, "length": i} for i, text in enumerate(TEXTS)]
ONE = {"task": "rev", "prompt": "a", "target": "b", "length": 1}
HEAD = "task,prompt,target,length\n"


def table(rows, separator=","):
    """Rows as CSV, every cell of text quoted only where it must be."""

    def cell(value):
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if set(text) & {'"', separator, "\n"} else text

    lines = [list(rows[0]), *(row.values() for row in rows)]
    return "".join(separator.join(map(cell, line)) + "\n" for line in lines).encode()


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


FILES = {
    "a.csv": table(ROWS),
    "a.tsv": table(ROWS, "\t"),
    "a.csv.gz": gzip.compress(table(ROWS)),
    "a.jsonl": lines(ROWS),
    "a.json": json.dumps(ROWS, indent=1).encode(),
    "a.jsonl.xz": lzma.compress(lines(ROWS)),
    "a.ndjson": lines(ROWS),
}
FOLDERS = {
    "csv": {"train.csv": table(ROWS)},
    "bracketed [1]": {"train.csv": table(ROWS)},
    "tsv": {"deep/er/train.tsv": table(ROWS, "\t")},
    "csv.bz2": {"train.csv.bz2": bz2.compress(table(ROWS))},
    "folders": {"data/train/one.csv": table(ROWS)},
    "shards": {
        "data/train-00000-of-00002.csv": table(ROWS[:9]),
        "data/train-00001-of-00002.csv": table(ROWS[9:]),
    },
    "jsonl": {"train.jsonl": lines(ROWS[:9]), "train-1.json": json.dumps(ROWS[9:]).encode()},
    "one file": {"anything.csv": table(ROWS)},
}


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def push(name, files):
    """A dataset on the Hub."""
    api = HfApi()
    api.create_repo(name, repo_type="dataset", exist_ok=True)
    for path, content in files.items():
        api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=name, repo_type="dataset")
    return name


def rows(path, **data):
    return opened(path, **data).train.select_columns(list(ONE)).to_list()


@pytest.mark.parametrize("name", FILES)
def test_text_in_a_file_stays_as_it_is_written(tmp_path, name):
    write(tmp_path, {name: FILES[name]})
    assert rows(tmp_path / name) == ROWS


@pytest.mark.parametrize("name", FOLDERS)
def test_text_in_a_folder_stays_as_it_is_written(tmp_path, name):
    assert sorted(rows(write(tmp_path / name, FOLDERS[name])), key=lambda r: r["length"]) == ROWS


@pytest.mark.parametrize("name", ["csv", "shards", "jsonl"])
def test_text_on_the_hub_stays_as_it_is_written(hub, name):
    assert sorted(rows(push("org/texts", FOLDERS[name])), key=lambda r: r["length"]) == ROWS


@pytest.mark.parametrize("how", ["folder", "hub"])
def test_rows_of_one_split_do_not_depend_on_those_of_another(tmp_path, request, how):
    files = {
        "train.csv": b"task,prompt,target,length\nrev,a1,1a,2\n",
        "test.csv": b"task,prompt,target,length\nrev,0070,0700,4\n",
    }
    if how == "hub":
        request.getfixturevalue("hub")
    path = push("org/numbers", files) if how == "hub" else write(tmp_path, files)
    both = opened(path, test_split="test")
    assert both.train.to_list() == [{"task": "rev", "prompt": "a1", "target": "1a", "length": 2}]
    assert both.test.to_list() == [{"task": "rev", "prompt": "0070", "target": "0700", "length": 4}]


@pytest.mark.parametrize("dates", [["2020-01-01", "2020-12-31"], ["2020-01-01T00:00:00", "2020-01-01 12:00"]])
def test_prompts_that_are_all_dates_are_text(tmp_path, dates):
    given = [{**ONE, "prompt": date, "target": date, "task": date} for date in dates]
    assert rows(jsonl(tmp_path / "a.jsonl", given)) == given
    assert rows(write(tmp_path / "folder", {"train.jsonl": lines(given)})) == given


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + table([ONE]),
        table([ONE]).replace(b"\n", b"\r\n"),
        table([ONE]).replace(b"\n", b"\r"),
        b"\n\n" + table([ONE]) + b"\n  \n",
        table([ONE]).strip(),
        b",task,prompt,target,length,,\n0,rev,a,b,1,,\n",
        b"task,Prompt,prompt,target,length\nrev,x,a,b, 01 \n",
    ],
    ids=["BOM", "CRLF", "CR", "blank lines", "no last end of line", "columns without names", "other case"],
)
def test_the_forms_that_a_csv_has_are_read(tmp_path, content):
    write(tmp_path, {"a.csv": content})
    assert rows(tmp_path / "a.csv") == [ONE]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + lines([ONE]), b"\r\n\r\n" + lines([ONE]) + b"\n"])
def test_the_forms_that_a_jsonl_has_are_read(tmp_path, content):
    write(tmp_path, {"a.jsonl": content})
    assert rows(tmp_path / "a.jsonl") == [ONE]


def test_fields_of_any_size_are_read(tmp_path):
    row = {**ONE, "prompt": "a" * 300_000}
    write(tmp_path, {"a.csv": table([row]), "a.jsonl": lines([row])})
    assert rows(tmp_path / "a.csv") == rows(tmp_path / "a.jsonl") == [row]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f'{HEAD}rev,"a,b,1\nrev,c,d,1\n', ", line 2: a quotation mark opens a cell that does not end"),
        (f'{HEAD}rev,a,b,1\nrev,"a,b,1\nrev,"c",d,1\n', ", line 3: a quotation mark opens a cell"),
        (f'{HEAD}rev,a,b,1\nrev,"a"b,c,1\n', ", line 3: a quotation mark opens a cell"),
        (
            f'{HEAD}rev,"a,b,1\nrev,c,d",1\n',
            ", line 2 (to line 3, as a quotation mark opens a cell): 3 cells",
        ),
        (f"{HEAD}\nrev,a,b\n", ", line 3: 3 cells; the header has 4"),
        (f"{HEAD}rev,a,b,1,2\n", ", line 2: 5 cells; the header has 4"),
        ("task,prompt,prompt,length\nrev,a,b,1\n", " has the column 'prompt' twice"),
        (HEAD.replace(",", ";"), ": its header is one cell, 'task;prompt;target;length'; cells must be"),
        (HEAD.encode("utf-16"), ", line 1 is not UTF-8 text; save the file as UTF-8"),
        (HEAD.encode("utf-16-le"), ", line 1 holds a NUL character"),
        (f"{HEAD}rev,a,b,1\nrev,\xe9,b,1\n".encode("latin-1"), ", line 3 is not UTF-8 text"),
        (f"{HEAD}rev,a\0,b,1\n", ", line 2 holds a NUL character"),
        ("\n\n", " has no header"),
        ("", " is empty"),
    ],
)
def test_a_csv_that_would_be_misread_is_refused_with_its_line(tmp_path, content, told):
    for path in (tmp_path / "a.csv", tmp_path / "folder/train.csv"):
        write(path.parent, {path.name: content})
        (fault,) = refused(path if path.name == "a.csv" else path.parent)
        assert fault.startswith("data.path: ")
        assert f"{path}{told}" in fault


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"prompt": "a", "prompt": "b"}', ", line 1 cannot be read: duplicate key 'prompt'"),
        (f'{json.dumps(ONE)}\n{{"prompt": "a', ", line 2 is no JSON: Unterminated string"),
        (f"{json.dumps(ONE)}\n[1]", ", line 2 is [1]; a row is an object"),
        ("[1, 2]", ", element 1 is 1; a row is an object"),
        (json.dumps(ONE, indent=1), ", line 1 is no JSON"),
        (json.dumps(ONE) + "\r" + json.dumps(ONE), ", line 1 is no JSON: Extra data"),
        (json.dumps(ONE).encode("utf-16"), ", line 1 is not UTF-8 text"),
        (json.dumps({**ONE, "prompt": "\ud800"}), r", line 1: 'prompt' is '\ud800', which cannot be stored"),
        (json.dumps({**ONE, "length": 10**40}), ", line 1: 'length' is 1000"),
        ('{"length": ' + "9" * 5000 + "}", ", line 1 cannot be read: Exceeds the limit"),
        ('{"length": ' + "[" * 100_000 + "]" * 100_000 + "}", ", line 1 is nested too deeply"),
        (lines([ONE, ONE, {**ONE, "prompt": 3}]), ", line 3: 'prompt' is 3, while line 1 has 'a'"),
        ("\n \n", " has no rows"),
        ("[]", " has no rows"),
        (b"", " is empty"),
    ],
)
def test_a_jsonl_that_would_be_misread_is_refused_with_its_line(tmp_path, content, told):
    write(tmp_path, {"a.jsonl": content})
    (fault,) = refused(tmp_path / "a.jsonl")
    assert fault.startswith(f"data.path: {tmp_path / 'a.jsonl'}{told}")


def test_files_of_a_split_whose_values_do_not_go_together_are_refused(tmp_path):
    write(tmp_path, {"train-1.jsonl": lines([ONE]), "train-2.jsonl": lines([{**ONE, "prompt": 7}])})
    (fault,) = refused(tmp_path)
    assert "train-1.jsonl and the other files of its split hold values of several types" in fault
    assert "Field prompt has incompatible types: string vs int64" in fault


def test_columns_that_are_not_read_may_hold_anything(tmp_path):
    given = [{**ONE, "note": note} for note in (1, "a", [1, "b"], 10**40, {"x": "\ud800"})]
    assert rows(jsonl(tmp_path / "a.jsonl", given)) == [ONE] * 5


def test_a_column_that_only_some_rows_have_is_null_in_the_others(tmp_path):
    given = [ONE, {**ONE, "loss_mask": [True]}]
    assert opened(jsonl(tmp_path / "a.jsonl", given)).train["loss_mask"] == [None, [True]]
