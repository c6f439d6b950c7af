"""What `tests.faults.fuzz` trains with: strategies of configs, of overrides and of datasets."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from hf_lgt.config.load import config_from_dict
from hf_lgt.utils import yaml
from tests.faults.fuzz.damage import HOSTILE
from tests.faults.fuzz.planned import MODEL
from tests.faults.fuzz.running import Case
from tests.support.merging import merged

CONFIG = "config.yaml"
TINY: dict[str, Any] = {
    "name": "fuzz",
    "model": {**MODEL, "max_positions": 128},
    "mixture": [
        {"task": "reverse", "role": "target", "lengths": [1, 2]},
        {"task": "string_copy", "role": "auxiliary", "lengths": [1, 3]},
    ],
    "train": {"steps": 1, "batch_size": 4, "eval_every": None, "save_every": None},
    "eval": {"lengths": [1, 3], "examples": 4},
}
OWN: dict[str, Any] = {
    **TINY,
    "model": {**MODEL, "max_positions": 256, "tokenizer": "words"},
    "mixture": [
        {"task": "a", "role": "target", "lengths": [1, 2]},
        {"task": "b", "role": "auxiliary", "lengths": [1, 3]},
    ],
    "data": {"source": "dataset", "test_split": "train"},
}


def mostly(usual: Any, odd: Any, once_in: int = 6) -> st.SearchStrategy[Any]:
    """What is fine, so that cases get beyond the first check, and now and then something odd."""
    return st.integers(1, once_in).flatmap(lambda turn: odd if turn == once_in else usual)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Paths of everything in a config."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


FULL = config_from_dict(TINY).to_dict()
PLACES = list(_places(FULL))
KEYS = sorted({str(part) for path in PLACES for part in path} | {"base", "x", "", "alphabet", "queries"})
WORDS = ["mqar", "cot_multiply", "shortest_path", "reverse_add", "target", "auxiliary", "nope", "no", "text"]

# no text begins at the root of the disk: where a run may lie is the user's to say
SIGNS = "abcXYZ019 .,:;|<>`'\"{}[]()$\\_-#*&!@%^~=+?\n\r\t\0\x1b\x9b\u2028\u202e\u200dé漢א\U0001f600"
_chars = st.characters(exclude_categories=["Cs"], exclude_characters="/")
texts = st.text(SIGNS, max_size=12) | st.text(_chars, max_size=6) | st.sampled_from(HOSTILE)
numbers = (
    st.integers(-3, 12) | st.integers() | st.sampled_from([2**31, 2**31 + 1, 2**63, 2**64, 10**30, 10**400])
)
scalars = st.none() | st.booleans() | numbers | st.floats() | st.sampled_from(WORDS) | texts
keys = st.sampled_from(KEYS) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
written = values.map(yaml.dump) | st.text(max_size=20)
# as a shell hands bytes that are no UTF-8 on
surrogates = st.text(st.characters(categories=["Cs", "Lu"]), min_size=1, max_size=4)


def _dump(data: Any) -> bytes:
    return yaml.dump(data).encode("utf-8", "surrogatepass")


def _case(content: bytes, words: list[str]) -> Case:
    return Case(["--config", CONFIG, *words], {CONFIG: content})


def configs() -> st.SearchStrategy[Case]:
    """A config file, or options, that may hold anything."""
    one = st.tuples(st.sampled_from(PLACES), values | scalars | numbers)
    changed = st.lists(one, min_size=1, max_size=3).map(lambda changes: _dump(merged(FULL, changes)))
    names = st.fixed_dictionaries(
        {},
        optional={
            ("name",): texts,
            ("output_dir",): st.sampled_from(HOSTILE) | st.just("../up"),
            ("mixture", 0, "task"): texts,
            ("mixture", 0, "role"): texts,
            ("mixture", 1, "options"): st.dictionaries(texts, scalars, max_size=2),
            ("data", "columns"): st.dictionaries(texts, texts, max_size=2),
            ("model", "name_or_path"): texts,
        },
    ).map(lambda found: _dump(merged(FULL, list(found.items()))))
    sound = st.lists(st.sampled_from(list(SOUND)), max_size=4, unique=True).flatmap(
        lambda paths: st.tuples(*(st.tuples(st.just(path), SOUND[path]) for path in paths))
    )
    far_out = sound.map(lambda changes: _dump(merged(FULL, list(changes))))
    files = changed | names | st.binary(max_size=80) | texts.map(_encode) | values.map(_dump)
    dotted = st.lists(st.sampled_from(KEYS) | st.text(max_size=4), min_size=1, max_size=3).map(".".join)
    known = st.sampled_from([".".join(map(str, path)) for path in PLACES])
    option = st.builds("--{}={}".format, known | dotted, written | surrogates)
    pair = st.tuples(st.builds("--{}".format, known | dotted), written)
    word = (
        st.text(max_size=12)
        | surrogates
        | st.sampled_from(["--overwrite", "--private", "--", "-x", "--help"])
    )
    words = st.lists(option.map(lambda o: [o]) | pair.map(list) | word.map(lambda w: [w]), max_size=3).map(
        lambda parts: [w for part in parts for w in part]
    )
    options = st.lists(option.map(lambda o: [o]) | pair.map(list), min_size=1, max_size=2).map(
        lambda parts: [w for part in parts for w in part]
    )
    fine = st.just(_dump(TINY))
    others = (
        st.builds(_case, files, st.just([]))
        | st.builds(_case, fine, options)
        | st.builds(_case, fine | files, words)
        | st.builds(lambda path: Case(["--config", path]), texts | surrogates)
    )
    return mostly(others, st.builds(_case, far_out, st.just([])), 4)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


SOUND: dict[tuple[Any, ...], Any] = {
    ("name",): st.sampled_from(["a", "A-b.c_d", "0", "a" * 100]),
    ("output_dir",): st.sampled_from(["../up", "a b", "é", "x/../y", "漢", "-x", "$(id)", "<b>", "a'b"]),
    ("seed", "init"): st.integers(0, 2**63 - 1),
    ("seed", "data"): st.integers(0, 2**63 - 1),
    ("model", "positions"): st.sampled_from(["rope", "nope", "alibi"]),
    ("model", "architecture"): st.sampled_from(["llama", "gpt_neox", "bloom"]),
    ("model", "position_ids"): st.sampled_from(["sequential", "randomized", "coupled"]),
    ("model", "position_range"): st.none() | st.integers(1, 64),
    ("model", "rope_theta"): st.floats(1e-300, 1e300),
    ("model", "initializer_range"): st.floats(1e-300, 1e300),
    ("model", "dtype"): st.sampled_from(["float32", "bfloat16"]),
    ("model", "tie_embeddings"): st.booleans(),
    ("train", "learning_rate"): st.floats(0, 1e308),
    ("train", "weight_decay"): st.floats(0, 1e308),
    ("train", "warmup"): st.floats(0, 1),
    ("train", "max_grad_norm"): st.none() | st.floats(1e-320, 1e308),
    ("train", "precision"): st.sampled_from(["no", "bf16", "fp16"]),
    ("train", "trackers"): st.lists(st.sampled_from(["tensorboard", "wandb"]), max_size=2),
    ("train", "eval_every"): st.none() | st.integers(1, 3),
    ("train", "save_every"): st.none() | st.integers(1, 3),
    ("train", "gradient_checkpointing"): st.booleans(),
    ("eval", "lengths"): st.tuples(st.integers(0, 3), st.integers(1, 9)).map(list),
    ("eval", "seed"): st.integers(0, 2**63 - 1),
    ("mixture", 0, "task"): st.sampled_from(["reverse", "mqar", "reverse_add", "shortest_path", "dfs_trace"]),
    ("mixture", 0, "weight"): st.floats(1e-9, 1e9),
    ("mixture", 1, "role"): st.sampled_from(["target", "auxiliary"]),
}
"""values that each are fine, far out as some of them are"""


COLUMNS = ["task", "length", "prompt", "target", "loss_mask"]
_rare = st.integers(-(2**70), 2**70) | st.floats() | st.none() | st.booleans()
cells = texts | _rare | st.lists(_rare | texts, max_size=3) | st.dictionaries(texts, _rare, max_size=2)
own_texts = texts | surrogates | st.sampled_from(["w " * 400, "word", "<s> </s>", "<unk>"])


@st.composite
def good_rows(draw: Any, tasks: list[str]) -> list[dict[str, Any]]:
    """Rows that can be trained on: every task at each length."""
    length = st.integers(1, 3)
    more = draw(st.lists(st.tuples(st.sampled_from(tasks), length), max_size=6))
    prompt = draw(st.just("say w") | texts.filter(str.strip))
    grid = [(task, n) for task in tasks for n in (1, 2, 3)] + more
    return [{"task": t, "length": n, "prompt": f"{prompt} {n}", "target": "w " * n} for t, n in grid]


@st.composite
def datasets(draw: Any) -> Case:
    """A dataset of the user's, and a config that trains on it."""
    fine = st.just(["a", "b"])
    shown = st.lists(texts.filter(lambda t: t and t.isprintable()), min_size=2, max_size=2, unique=True)
    odd = st.lists(texts, min_size=2, max_size=2)
    tasks = draw(fine | fine | shown | shown | shown | odd)
    rows = draw(good_rows(tasks))
    change = st.tuples(st.integers(0, 5), st.sampled_from(COLUMNS), cells | own_texts)
    for at, column, value in draw(st.just([]) | st.lists(change, max_size=2)):
        rows[at][column] = value
    if draw(st.integers(0, 7)) == 7:
        rows = draw(
            st.lists(st.dictionaries(st.sampled_from(COLUMNS) | texts, cells, max_size=4), max_size=4)
        )
    names = draw(
        st.just({}) | st.just({}) | st.dictionaries(st.sampled_from(COLUMNS), texts.filter(bool), max_size=2)
    )
    rows = [{names.get(key, key): value for key, value in row.items()} for row in rows]
    data = copy.deepcopy(OWN)
    for component, task in zip(data["mixture"], tasks, strict=True):
        component["task"] = task
    # a name that can be no tag is refused otherwise
    data["data"] |= {"columns": names, "tags": draw(st.booleans()) and tasks == ["a", "b"]}
    places = [("data", key) for key in ("name", "revision", "train_split", "length", "columns", "path")]
    places += [("model", "tokenizer"), ("mixture", 0, "task"), ("eval", "lengths")]
    kind = draw(
        st.sampled_from(["jsonl", "json", "csv", "tsv", "parquet", "saved", "jsonl", "broken", "text"])
    )
    data["data"]["path"], files, prepare = _write(draw, kind, rows)
    if draw(st.integers(0, 4)) == 4:
        data = merged(data, [draw(st.tuples(st.sampled_from(places), values))])
    return Case(["--config", CONFIG], {CONFIG: _dump(data), **files}, prepare, repr(rows))


def _write(
    draw: Any, kind: str, rows: list[dict[str, Any]]
) -> tuple[str, dict[str, bytes], Callable[[], None]]:
    """The path of a dataset of some kind, its file, or what makes its folder."""
    if kind in ("parquet", "saved"):
        damage = draw(st.none() | st.none() | st.tuples(st.integers(0, 9), st.binary(max_size=40)))
        name = "data.parquet" if kind == "parquet" else "saved"
        return name, {}, lambda: _save(kind, name, rows, damage)
    if kind == "broken":
        name = "data" + draw(
            st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".PARQUET", ".zip", ""])
        )
        return name, {name: draw(st.binary(max_size=200))}, lambda: None
    if kind == "text":
        name = "data" + draw(st.sampled_from([".jsonl", ".csv", ".tsv"]))
        return name, {name: _encode(draw(st.text('{}[]",:\\\n\r\t0ae1.-u\x00<|', max_size=60)))}, lambda: None
    if kind in ("jsonl", "json"):
        lines = [json.dumps(row, ensure_ascii=draw(st.booleans())) for row in rows]
        text = "\n".join(lines) if kind == "jsonl" else f"[{','.join(lines)}]"
        return f"data.{kind}", {f"data.{kind}": _encode(text)}, lambda: None
    out = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer = csv.DictWriter(out, columns, delimiter="," if kind == "csv" else "\t", quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return f"data.{kind}", {f"data.{kind}": _encode(out.getvalue())}, lambda: None


def _save(kind: str, name: str, rows: list[dict[str, Any]], damage: tuple[int, bytes] | None) -> None:
    """Rows as parquet or as `save_to_disk` writes them; with some bytes of a file put in place of others."""
    from datasets import Dataset
    from datasets.utils import disable_progress_bars

    disable_progress_bars()
    try:
        made = Dataset.from_list(rows)
        if kind == "parquet":
            made.to_parquet(name)
        else:
            made.save_to_disk(name)
    except Exception:  # no Arrow table can hold these rows
        Path(name).write_bytes(_encode(json.dumps(rows)))
    place = Path(name)
    if damage:
        files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
        file = files[damage[0] % len(files)]
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] + damage[1] + content[len(content) // 2 + 4 :])
