"""What `tests.faults.fuzz` calls every recipe with: arguments drawn, on work with damaged files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.faults.fuzz import template
from tests.faults.fuzz.configs import SOUND, mostly, scalars, surrogates, texts, values, written
from tests.faults.fuzz.damage import DELETE, RAW, Damage
from tests.faults.fuzz.running import Case

LOGS = ["eval.jsonl", "config.yaml", "train.jsonl", "environment.json", "data.json", "resumed.json",
        "checkpoint.json"]  # fmt: skip
"""of a run's folder; those that most runs have first"""
SAVED = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
         "model.safetensors", "special_tokens_map.json", "vocab.json", "merges.txt",
         "adapter_config.json"]  # fmt: skip
STATE = ["manifest.json", "state.json", "optimizer.pt"]
TYPES = ["F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "X", "llama", "gpt2", "bert", "t5",
         "float16", "float64", "int8", "auto", "BPE", "WordLevel", "</s>", "<s>", "relu", "eager", "default",
         "mamba", "yarn", "dynamic", "target", "auxiliary", "reverse", "step-000001", "main"]  # fmt: skip


_near = st.tuples(st.just("near"), st.integers(0, 5))
_wild = st.tuples(st.just("wild"), st.integers(0, 100))
_odd = _wild | _wild | st.just(DELETE) | values | scalars | surrogates | st.sampled_from(TYPES)
_new = mostly(_near, _odd, 3)
_changes = st.lists(st.tuples(st.integers(0, 10_000), _new), min_size=1, max_size=2).map(tuple)
_data = st.sampled_from(RAW) | st.binary(min_size=1, max_size=8)
_often = ["edit"] * 12 + ["flip", "insert", "lines", "cut", "replace", "away", "as_folder", "linked"]
_weights = ["edit"] * 3 + ["length", "overlap", "flip", "cut", "away", "linked"]


@st.composite
def _damage(draw: Any, pattern: str, special: bool) -> Damage:
    hows = _weights if pattern.endswith("safetensors") else _often
    if pattern.endswith("config.json"):
        hows = [*hows, "stranger", "stranger"]
    how = draw(st.sampled_from([*hows, "special"] if special else hows))
    which, resigned = draw(st.integers(0, 1000)), draw(st.sampled_from([True, True, True, False]))
    number, data, changes, escaped = 0.0, b"", (), True
    # nothing is drawn that makes no difference: two cases would look different that are not
    if how == "edit":
        changes = draw(_changes)
    if how in ("edit", "stranger"):
        escaped = draw(st.booleans())
    if how in ("flip", "insert", "lines", "cut", "overlap"):
        number = draw(st.floats(0, 1))
    if how in ("flip", "insert", "replace", "as_folder"):
        data = draw(_data)
    return Damage(pattern, which, how, number, data, changes, escaped, resigned)


def damages(patterns: Sequence[str], special: bool) -> st.SearchStrategy[list[Damage]]:
    """One to three changes of files of these patterns."""
    one = st.sampled_from(list(patterns)).flatmap(lambda pattern: _damage(pattern, special))
    return mostly(one.map(lambda found: [found]), st.lists(one, min_size=2, max_size=3), 4)


def _option(flag: str, value: st.SearchStrategy[Any]) -> st.SearchStrategy[list[str]]:
    return value.map(lambda found: [flag, str(found)])


def _some(*options: st.SearchStrategy[list[str]], most: int = 2) -> st.SearchStrategy[list[str]]:
    """None, or some, of these options."""
    drawn = mostly(st.lists(st.one_of(*options), max_size=1), st.lists(st.one_of(*options), max_size=most), 3)
    return drawn.map(lambda found: [word for words in found for word in words])


def _flag(name: str) -> st.SearchStrategy[list[str]]:
    return st.just([name])


names = mostly(
    st.sampled_from(["out", "x/y", "a b", "[x]", "out.png"]),
    st.sampled_from([".", "runs", "../up", "run.yaml/x", "run.yaml"]) | texts | surrogates,
    3,
)
few = mostly(
    st.sampled_from(["0", "0,1", "1", "0,1,2"]),
    st.sampled_from(["", "-1", "0,0", "x", "0,", "9" * 30, "1_0", "٣"]) | texts,
)
lengths = mostly(
    st.sampled_from(["1", "1,2", "2", "3", "4", "2,3"]),
    st.sampled_from(["1,100", "9" * 30, "0", "", ","]) | texts,
)
counts = mostly(st.sampled_from(["1", "2"]), st.sampled_from(["0", "-1", "x", "", "²", "٣", "1e3"]))
keys = st.sampled_from([
    "name", "output_dir", "seed.data", "model.dtype", "model.positions", "train.steps", "train.batch_size",
    "train.learning_rate", "train.save_every", "eval.lengths", "eval.examples", "eval.every", "eval.seed",
    "mixture.0.lengths", "mixture.0.task", "mixture.1.weight", "data.source", "data.path", "data.tags",
    "model.name_or_path", "model.revision", "model.trust_remote_code", "text.files", "text.column",
    "tokenizer.vocab_size", "sequence_length", "revisions", "validation_sequences",
])  # fmt: skip
sound = st.sampled_from([path for path in SOUND if path != ("output_dir",)]).flatmap(
    lambda path: SOUND[path].map(lambda value: [f"--{'.'.join(map(str, path))}={json.dumps(value)}"])
)
overrides = mostly(sound, st.builds(lambda key, value: [f"--{key}={value}"], keys, written | surrogates), 3)
fine = st.sampled_from([
    ["--eval.lengths", "[1,3]"], ["--eval.examples", "2"], ["--eval.seed", "7"], ["--train.log_every", "2"],
    ["--eval.batch_tokens", "64"], ["--train.keep_last", "1"],
])  # fmt: skip


def _run_files(folder: str) -> list[str]:
    saved = [f"{folder}/{place}/{name}" for place in ("checkpoints/*", "model") for name in SAVED]
    return [
        *(f"{folder}/{name}" for name in LOGS[:3] for _ in range(4)),
        *(f"{folder}/{name}" for name in LOGS[3:] for _ in range(2)),
        *saved,
        *(f"{folder}/checkpoints/*/{name}" for name in STATE for _ in range(3)),
        f"{folder}/checkpoints", f"{folder}/model", f"{folder}/checkpoints/*", f"{folder}/*", folder,
    ]  # fmt: skip


def _saved_files(run: str, place: str = "/model") -> list[str]:
    """What is read of a run whose weights are looked at."""
    saved = [f"{run}{place}/{name}" for name in SAVED for _ in range(2)]
    return [*saved, *[f"{run}/config.yaml"] * 9, f"{run}{place}", f"{run}{place}/*", f"{run}/*"]


class RecipeSpec(NamedTuple):
    """Calls of a recipe that begin alike."""

    parts: Sequence[str]
    """of the template, that are copied"""
    argv: st.SearchStrategy[list[str]]
    patterns: Sequence[str]
    """paths that may be damaged"""


def _words(*parts: Sequence[str] | st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    """Words one after the other, some of them drawn."""
    drawn = [part if isinstance(part, st.SearchStrategy) else st.just(list(part)) for part in parts]
    return st.tuples(*drawn).map(lambda found: [word for words in found for word in words])


def _one(*words: str) -> st.SearchStrategy[list[str]]:
    return st.sampled_from([[word] for word in words])


_path = _option("--output", names)
_overwrite = _flag("--overwrite")
_resume = _option("--resume", mostly(st.sampled_from(["auto", "runs/run/seed-0"]),
                                      st.sampled_from(["never", "x", ""]) | texts, 3))  # fmt: skip
_drawn = {"train": _some(_overwrite, _resume, fine, overrides), "more": _some(fine, fine, overrides)}
_RUNS = ["runs/run-t*", "runs/run"]
_ALL_RUNS = [
    *(f"runs/*/seed-*/{name}" for name in LOGS[:3] for _ in range(6)),
    *(f"runs/*/seed-*/{name}" for name in LOGS[3:]), "runs/*/seed-*/model", "runs/*/seed-*/*",
    "runs/*/seed-*", "runs/*", "runs",
]  # fmt: skip


def _trained(name: str) -> RecipeSpec:
    """A run that was interrupted, or finished."""
    where = st.sampled_from(["half", "half", "half", "runs", "new"])
    argv = _words(["--config", f"{name}.yaml"], _option("--output_dir", where), _drawn["train"])
    parts = ["run.yaml", f"{name}.yaml", "rows.jsonl", f"half/{name}", f"runs/{name}", "runs/run"]
    files = [*_run_files(f"half/{name}/seed-0"), *_run_files("runs/run/seed-0")]
    if name == "tuned":
        parts.append("pretrained/small")
        files += _SNAPSHOTS
    return RecipeSpec(parts, argv, [*files, f"{name}.yaml", "rows.jsonl", "half"])


_SNAPSHOTS = [
    *(f"pretrained/small/snapshots/*/{name}" for name in SAVED), "pretrained/small/snapshots/*",
    "pretrained/small/refs/*", "pretrained/small/refs", "pretrained/small/config.yaml", "pretrained/small/*",
]  # fmt: skip
_STEP = "/checkpoints/step-000001"
_BASE = [*(f"base/{name}" for name in SAVED), "base", "base/*"]
_CHECKED = _some(
    _path, _overwrite, _option("--config", mostly(st.sampled_from(["run.yaml", "own.yaml"]), texts)),
    _flag("--check_generation"), fine, overrides, most=3,
)  # fmt: skip
_LOOKED = _some(_path, _overwrite, _option("--lengths", lengths))
_FEW = _option("--examples", st.sampled_from(["1", "2", "4"]))
_MORE_RUNS = _some(
    _option("--seeds", few), _option("--together", counts), _option("--jobs", st.just("1")), fine, overrides,
    _option("--checkpoints", mostly(st.sampled_from(["main", "step-0", "main,step-0"]), texts)),
    _option("--output_dir", st.just("new")),
)  # fmt: skip
_SWEPT = _some(
    _option("--seeds", few), _option("--together", counts), _option("--retries", counts), fine, overrides,
    _flag("--dry_run"), _option("--output_dir", st.just("new")),
    _option("--executor", st.sampled_from(["slurm", "local", "x"])),
)  # fmt: skip
_RELATED = ["--config", "run.yaml", "--steps", "1", "--seeds", "0", "--jobs", "1"]

KINDS: dict[str, list[RecipeSpec]] = {
    "finetune": [
        *(_trained(name) for name in template.HALF),
        RecipeSpec(
            ["base", "run.yaml", "tuned.yaml"],
            _words(
                ["--config", "tuned.yaml", "--model.name_or_path", "base", "--model.revision", "null"],
                _drawn["more"],
            ),
            [*_BASE, *_BASE, "tuned.yaml"],
        ),
    ],
    "evaluate": [
        *(
            RecipeSpec(
                ["run.yaml", "own.yaml", "rows.jsonl", f"runs/{name}", *parts],
                _words(_one(f"runs/{name}/seed-0{place}"), _CHECKED),
                [*_saved_files(f"runs/{name}/seed-0", saved), *more],
            )
            for name, place, saved, parts, more in (
                ("run", "", "/model", [], []),
                ("run", "/model", "/model", [], []),
                ("run", _STEP, _STEP, [], [f"runs/run/seed-0{_STEP}/{file}" for file in STATE]),
                ("own", "", "/model", [], ["runs/own/seed-0/data.json"] * 4 + ["rows.jsonl"]),
                ("tuned", "", "/model", [], ["runs/tuned/seed-0/checkpoint.json"]),
                ("tuned", _STEP, _STEP, ["pretrained/small"], _SNAPSHOTS),
            )
        ),
        RecipeSpec(
            ["base", "foreign.yaml", "run.yaml"],
            _words(["base"], ["--config", "foreign.yaml"], _CHECKED),
            [*_BASE, *_BASE, "foreign.yaml"],
        ),
    ],
    "analyze": [
        RecipeSpec(
            _RUNS,
            _words(_one("heads", "necessity"), ["runs/run/seed-0"], _one("runs/run/seed-1", "--overwrite"),
                   _FEW, _LOOKED,
                   _some(_option("--tasks", st.sampled_from(["reverse", "string_copy", ""]) | texts),
                         _option("--k", lengths), most=1),
                   _one("--checkpoints=last", "--checkpoints=all", "--overwrite")),
            [*_run_files("runs/run/seed-0"), *_ALL_RUNS, "runs/run/seed-0/analysis/heads/*"],
        ),
        RecipeSpec(
            _RUNS,
            _words(["patch", "runs/run/seed-0"], _FEW, _LOOKED,
                   _option("--into", st.sampled_from(["runs/run-target-alone"] * 3 + ["runs/run"]) | texts)),
            [*_saved_files("runs/run/seed-0"), *_saved_files("runs/run-target-alone/seed-0")],
        ),
        RecipeSpec(
            ["run.yaml", "runs/run-t*", "runs/related-reverse"],
            _words(["related", *_RELATED, "--target"], _one("reverse", "reverse", "capitalize", "x"),
                   ["--candidates"], _one("string_copy", ",".join(template.CANDIDATES), "string_copy,x"),
                   _FEW, _some(_path, _overwrite, _option("--by", st.sampled_from(["cka", "x"]) | texts),
                               fine, overrides, most=3)),
            [*_ALL_RUNS, "run.yaml", "run.yaml", "runs/related-reverse/manifest.json",
             "runs/related-reverse/related/*", "runs/related-reverse/configs/*"],
        ),
        RecipeSpec(
            ["runs/run-t*", "runs/pairs", "runs/related-reverse"],
            _words(["predict", "runs/pairs", "--related", "runs/related-reverse/related"],
                   _some(_path, _overwrite, _flag("runs/related-reverse/related"))),
            [*["runs/related-reverse/related/*.json"] * 20, *["runs/pairs/manifest.json"] * 15, *_ALL_RUNS],
        ),
    ],
    "report": [
        RecipeSpec(
            parts,
            _words(_one(*folders), _some(_path, most=1)),
            [*_ALL_RUNS, *["runs/*/manifest.json"] * 8, "runs/*/report/*", "runs/*/report",
             "runs/*/seed-*/curves.png"],
        )
        for parts, folders in (
            (["runs/cmp", "runs/run", "runs/run-target-alone"], ["runs/cmp", "runs/cmp", "runs", "."]),
            (["runs/grid", "runs/run-t*"], ["runs/grid"]),
            (["runs/starts", "runs/tuned-small-*"], ["runs/starts"]),
            (["runs/own", "half"], ["runs", "half", "half/own/seed-0", "runs/own/seed-0", "."]),
        )
    ],
    "compare": [
        RecipeSpec(
            ["run.yaml", "cmp", "runs/cmp", "runs/run", "runs/run-target-alone"],
            _words(_one("cmp", "cmp/compare.yaml"), _MORE_RUNS),
            [*["cmp/compare.yaml"] * 6, "run.yaml", "runs/cmp/*", *["runs/cmp/manifest.json"] * 4,
             *_ALL_RUNS],
        ),
        RecipeSpec(
            ["tuned.yaml", "cmp", "runs/starts", "runs/tuned-small-*", "pretrained/small"],
            _words(["cmp/starts.yaml"], _MORE_RUNS),
            [*["cmp/starts.yaml"] * 6, "tuned.yaml", "runs/starts/*", *_ALL_RUNS, *_SNAPSHOTS],
        ),
    ],
    "sweep": [
        RecipeSpec(
            ["run.yaml", "sweeps", "runs/grid", "runs/pairs", "runs/run-t*"],
            _words(_one(f"sweeps/{name}.yaml"), _SWEPT),
            [*[f"sweeps/{name}.yaml"] * 8, "run.yaml", f"runs/{name}/*", f"runs/{name}/*/*",
             f"runs/{name}/manifest.json", f"runs/{name}/manifest.json", *_ALL_RUNS],
        )
        for name in ("grid", "pairs")
    ],
    "pretrain": [
        RecipeSpec(
            ["pretrain.yaml", "text", "half/small", "pretrained/small"],
            _words(["--config", "pretrain.yaml"],
                   _option("--output_dir", st.sampled_from(["half", "half", "new", "new", "pretrained"])),
                   _drawn["train"]),
            [*["pretrain.yaml"] * 12, *["text/*", "text"] * 3, *_run_files("half/small"),
             *(place.replace("pretrained", "half") for place in _SNAPSHOTS), "half/small/text.json",
             "half/small/*"],
        ),
    ],
    "build_dataset": [
        RecipeSpec(
            ["run.yaml", "corpora", "harness"],
            _words(["--config", "run.yaml", "--train_examples"], _one("1", "8", "8", "20"),
                   _one("--overwrite", "--overwrite", "--lm_eval=harness"),
                   _some(_path, _option("--lm_eval", mostly(st.just("harness"), names, 3)), fine, overrides,
                         most=3)),
            [*["run.yaml"] * 6, *["corpora/run/corpus.json"] * 6, "corpora/run/*", "corpora/run/*/*",
             "corpora/run", "corpora", "harness/*", "harness/*", "harness/_common.yaml", "harness"],
        ),
    ],
}  # fmt: skip
"""recipe -> what it is called with"""


def _from_a_shell(argv: Sequence[str]) -> bool:
    try:
        return b"\0" not in b"".join(map(os.fsencode, argv))
    except UnicodeEncodeError:
        return False


def cases(recipe: str, special: bool = False) -> st.SearchStrategy[Case]:
    """Calls of a recipe on a damaged copy of the template; `special` for files that never end, too."""

    def of(kind: RecipeSpec) -> st.SearchStrategy[Case]:
        def build(argv: list[str], damage: list[Damage]) -> Case:
            def prepare() -> None:
                template.take(kind.parts)
                template.fork_runs()
                for own in damage:
                    own.apply()

            return Case(argv, {}, prepare, repr(damage))

        return st.builds(build, kind.argv.filter(_from_a_shell), damages(kind.patterns, special))

    return st.one_of(*map(of, KINDS[recipe]))
