"""Pushes that fail and are killed: `python benchmarks/push_faults.py --json benchmarks/push_faults.json`.

Each push gives one repository of the test Hub another corpus (other tasks, rows and shards) by
`recipes/build_dataset.py --push_to_hub` in a process of its own. A share of all requests fails: 409,
412, 429, 500, 503, slow answers, connections cut before or after the request was carried out. About half
of the pushes are killed by SIGKILL: when a random number of requests has arrived, within milliseconds of
the commit's arrival, or at a random time. Then the same command runs again, under faults still, until it
ends well.

After each kill and each run a reader without faults loads every configuration at the newest commit. It
must find all rows of the corpus before or all of the new one, after the last run the new one, and
between them no file that is of neither. Pauses between attempts are cut to 1/50.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import runpy
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data_builders import Component, Mixture  # noqa: E402
from tests.support.hub import Fault, Faults, Hub  # noqa: E402

REPO = "org/corpus"
SHARD_BYTES = 20_000
SPEED = 50
MOST_RUNS = 5
OTHERS = {"notes.md": b"a user's own", "pictures/train-plot.png": b"\x89PNG"}
"""files of the repository that are no part of any corpus and must stay"""
TASKS = ("capitalize", "reverse", "string_copy")


@dataclass(frozen=True)
class Corpus:
    """One corpus that is pushed, and what it must look like on the Hub."""

    arguments: list[str]
    files: Mapping[str, bytes]
    rows: str


def rows_hash(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Of all rows: configuration -> split -> rows."""
    digest = hashlib.sha256()
    for name, parts in sorted(splits.items()):
        for split, rows in sorted(parts.items()):
            digest.update(json.dumps([name, split, [dict(row) for row in rows]]).encode())
    return digest.hexdigest()[:16]


def make_corpus(number: int, rng: random.Random, work: Path) -> Corpus:
    """Draw a corpus, write it here once, and give the command that pushes it from another folder."""
    import datasets

    from data_builders import write_corpus
    from data_builders.corpus import folder

    folder.SHARD_BYTES = SHARD_BYTES
    tasks = ["capitalize_reverse", *rng.sample(TASKS, rng.randint(1, len(TASKS)))]
    rows, seed, longest = rng.randint(100, 1500), rng.randrange(10**6), rng.randint(3, 9)
    parts = [Component(task, "auxiliary" if k else "target", (1, longest)) for k, task in enumerate(tasks)]
    config = work / f"{number}.yaml"
    mixture = [{"task": c.task, "role": c.role, "lengths": [1, longest]} for c in parts]
    config.write_text(
        json.dumps(
            {"base": str(ROOT / "recipes/demo/transfer.yaml"), "name": f"c-{number}", "mixture": mixture}
        ),
        encoding="utf-8",
    )
    arguments = ["--config", str(config), "--train_examples", str(rows), "--seed.data", str(seed)]
    arguments += ["--eval.lengths", "[1,10]", "--eval.examples", "8", "--push_to_hub", REPO]
    expected = work / f"expected-{number}"
    expected.mkdir()
    write_corpus(expected, Mixture(parts), rows, 8, range(1, 11), seed)
    files = {p.relative_to(expected).as_posix(): p.read_bytes() for p in expected.rglob("*.*")}
    files = without_card(files)
    names = ["mixture", *tasks]
    cache = str(work / "local")
    loaded = {name: datasets.load_dataset(str(expected), name, cache_dir=cache) for name in names}
    return Corpus([*arguments, "--output", str(work / f"built-{number}")], files, rows_hash(loaded))


def read(work: Path) -> str:
    """Hash of all rows that a user finds in the repository now, empty for none."""
    import datasets
    from huggingface_hub import HfApi

    head = HfApi().dataset_info(REPO).sha
    if not HfApi().file_exists(REPO, "README.md", repo_type="dataset", revision=head):
        return ""
    cache = str(work / "read")
    names = datasets.get_dataset_config_names(REPO, revision=head)
    return rows_hash({n: datasets.load_dataset(REPO, n, revision=head, cache_dir=cache) for n in names})


def files(hub: Hub) -> dict[str, bytes]:
    """What the repository holds, see `without_card`."""
    return without_card(hub.store.repo("dataset", REPO).files())


def without_card(found: dict[str, bytes]) -> dict[str, bytes]:
    """Files but for the README, which has the command in it, and the list with the README's hash."""
    return {path: data for path, data in found.items() if path not in ("README.md", "corpus.json")}


def push(hub: Hub, corpus: Corpus, work: Path, kill: tuple[str, float] | None) -> tuple[int, str]:
    """Run the command, kill it as told; gives its status (-9 if it was killed) and what it printed."""
    start, arrived = time.perf_counter(), []
    what, place = kill or ("", 0.0)

    def draw(method: str, path: str) -> Fault | None:
        arrived.append((time.perf_counter(), path))
        return Hub.draw(hub, method, path)

    def due() -> bool:
        if what == "commit":
            commits = [at for at, path in [*arrived] if "/commit/" in path]
            return bool(commits) and time.perf_counter() >= commits[0] + place
        return bool(what) and place <= (len(arrived) if what == "requests" else time.perf_counter() - start)

    hub.draw = draw  # type: ignore[method-assign]
    environment = {**os.environ, **hub.environment(work / "home"), "OMP_NUM_THREADS": "1"}
    with open(work / "log", "w+b") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "--push", *corpus.arguments],
            cwd=work,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            if due():
                process.kill()
            time.sleep(0.0005)
        del hub.draw
        log.seek(0)
        return process.returncode, log.read().decode()


def soak(hub: Hub, pushes: int, seed: int, rate: float, work: Path) -> dict[str, Any]:
    """Push corpora one after another.

    Raises:
        AssertionError: a reader found anything but a whole corpus, or a run never ended well.
    """
    from huggingface_hub import HfApi

    rng = random.Random(seed)
    HfApi(token=hub.token).create_repo(REPO, repo_type="dataset")
    hub.store.repo("dataset", REPO).add(OTHERS)
    old_rows, old_files = "", dict(OTHERS)
    kinds: Counter[str] = Counter()
    lines = []
    for number in range(pushes):
        corpus = make_corpus(number, rng, work)
        new_files = {**OTHERS, **corpus.files}
        kill = None
        # drawn in every case, so that one choice does not change those that follow
        killed, how, place = rng.random() < 0.5, rng.choice(("requests", "commit", "seconds")), rng.random()
        if killed:
            kill = (how, {"requests": 1 + int(25 * place), "commit": 0.02 * place, "seconds": 3 * place}[how])
        line: dict[str, Any] = {"push": number, "files": len(corpus.files), "kill": kill, "runs": []}
        for run in range(MOST_RUNS + 1):
            faults = hub.faults = Faults(seed + 1000 * number + run, rate)
            status, said = push(hub, corpus, work, kill if run == 0 else None)
            hub.faults = None
            kinds.update(kind for _, _, kind in faults.injected)
            time.sleep(0.05)  # a request that outlived its client
            seen = read(work)
            state = {old_rows: "old", corpus.rows: "new"}.get(seen, "broken")
            assert state != "broken", f"push {number}, run {run}: neither corpus is there\n{said}"
            assert files(hub) == (new_files if state == "new" else old_files), f"push {number}: files differ"
            assert status or state == "new", f"push {number}, run {run} ended well with the old corpus"
            assert status in (0, 1, -9), said
            assert hub.token not in said
            assert "Traceback" not in said, said
            line["runs"].append({"status": status, "faults": len(faults.injected), "reader": state})
            if status == 0 and run > 0:
                break
        else:
            raise AssertionError(f"push {number} did not go through in {MOST_RUNS} reruns\n{said}")
        old_rows, old_files = corpus.rows, new_files
        lines.append(line)
        print(" | ".join(_cells(line)), flush=True)
    history = hub.store.repo("dataset", REPO).history()
    assert not any(hub.token.encode() in data for commit in history for data in _contents(commit))
    first = [line["runs"][0] for line in lines]
    return {
        "pushes": pushes,
        "seed": seed,
        "rate": rate,
        "requests": len(hub.requests),
        "faults": dict(sorted(kinds.items())),
        "first_runs": {
            "killed": sum(run["status"] == -9 for run in first),
            "killed_after_the_commit": sum(run["status"] == -9 and run["reader"] == "new" for run in first),
            "gave_up": sum(run["status"] == 1 for run in first),
            "went_through": sum(run["status"] == 0 for run in first),
        },
        "reruns": sum(len(line["runs"]) - 1 for line in lines),
        "reads_of_a_whole_corpus": sum(len(line["runs"]) for line in lines),
        "commits": len(history) - 2,
        "lines": lines,
    }


def _contents(commit: Any) -> list[bytes]:
    return [blob.data for blob in commit.tree.values()]


def _cells(line: Mapping[str, Any]) -> list[str]:
    kill = f"{line['kill'][0]} {line['kill'][1]:.4g}" if line["kill"] else "-"
    told = {0: "done", 1: "gave up", -9: "killed"}
    runs = [f"{told[r['status']]}, {r['faults']} faults, {r['reader']}" for r in line["runs"]]
    return [f"{line['push']:2}", f"{line['files']:3} files", f"kill: {kill}", *runs]


def push_here(arguments: list[str]) -> None:
    """The recipe in this process, with small shards and short pauses."""
    from huggingface_hub.utils import _http

    from data_builders.corpus import folder
    from data_builders.hub import retry

    sleep = time.sleep
    folder.SHARD_BYTES = SHARD_BYTES
    retry.PAUSE = _http.time.sleep = lambda seconds: sleep(seconds / SPEED)
    recipe = runpy.run_path(str(ROOT / "recipes/build_dataset.py"))
    sys.exit(recipe["main"](arguments))


def main() -> None:
    if sys.argv[1:2] == ["--push"]:
        push_here(sys.argv[2:])
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--pushes", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--rate", type=float, default=0.25, help="share of the requests that fail")
    arguments.add_argument("--json", type=Path, help="write the result here")
    known = arguments.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, Hub() as hub:
        # read when the clients are imported
        os.environ.update(hub.environment(Path(name) / "home"))
        import datasets

        datasets.disable_progress_bars()
        result = soak(hub, known.pushes, known.seed, known.rate, Path(name))
        assert hub.errors == [], hub.errors
    result["versions"] = {m: __import__(m).__version__ for m in ("datasets", "huggingface_hub")}
    print(json.dumps({key: value for key, value in result.items() if key != "lines"}, indent=1))
    print(f"{time.perf_counter() - start:.0f} s")
    if known.json:
        known.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
