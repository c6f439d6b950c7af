"""Does a change of the code change a number? Five kinds of runs, here and in another checkout.

    python benchmarks/same_numbers.py --output after.json --against before.json
    python benchmarks/same_numbers.py --checkout ../before --output before.json

Compares losses, evaluations and weights bit for bit, on one machine: another CPU rounds differently.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIGS = Path(__file__).with_name("same_numbers")
COMMANDS = {
    "strings": ["finetune.py", "--config", "strings.yaml"],
    "base": ["pretrain.py", "--config", "pretrain.yaml"],
    "pretrained": ["finetune.py", "--config", "checkpoint.yaml"],
    "lora": ["finetune.py", "--config", "lora.yaml"],
    "dataset": ["finetune.py", "--config", "dataset.yaml"],
    "stacked": ["sweep.py", "sweep.yaml", "--together", "4"],
}
TIMES = {"examples_per_second", "tokens_per_second", "seconds"}
"""keys of a log line that differ each time"""


def write_inputs(work: Path) -> None:
    """The text to pretrain on and the rows of a dataset, the same each time."""
    drawn = random.Random(0)
    (work / "text").mkdir()
    words = ["".join(drawn.choices("abcdefghiklmnoprstu", k=drawn.randint(2, 7))) for _ in range(80)]
    for i in range(20):
        lines = [f"{drawn.randrange(9)}75+1{drawn.randrange(100)}=2024 " for _ in range(20)]
        lines += [" ".join(drawn.choices(words, k=8)) + "\n" for _ in range(20)]
        (work / "text" / f"{i:02d}.txt").write_text("".join(lines), encoding="utf-8")
    (work / "rows").mkdir()
    for split, longest in (("train", {"reversed": 4, "copied": 8}), ("test", {"reversed": 8, "copied": 8})):
        rows = []
        for kind, most in longest.items():
            for length in range(1, most + 1):
                for _ in range(60 if split == "train" else 40):
                    text = "".join(drawn.choices("abcd", k=length))
                    answer = text[::-1] if kind == "reversed" else text
                    rows.append({"kind": kind, "prompt": text, "answer": answer})
        lines = [json.dumps(row) + "\n" for row in rows]
        (work / "rows" / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def numbers_below(work: Path) -> dict[str, str]:
    """File of a run -> hash of its numbers, without times."""
    found = {}
    for path in sorted([*work.glob("runs/**/*"), *work.glob("pretrained/**/*")]):
        if path.name in ("train.jsonl", "eval.jsonl", "validation.jsonl"):
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            kept = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
            content = json.dumps(kept, sort_keys=True).encode()
        elif path.suffix == ".safetensors":
            content = path.read_bytes()
        else:
            continue
        found[str(path.relative_to(work))] = hashlib.sha256(content).hexdigest()
    return found


def measure(checkout: Path) -> dict[str, str]:
    """Run the five kinds with the code of a checkout: file -> hash of its numbers."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_inputs(work)
        shutil.copytree(CONFIGS, work / "benchmarks" / "same_numbers")
        shutil.copytree(checkout / "recipes", work / "recipes")
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        for name, (recipe, *options) in COMMANDS.items():
            options = [f"benchmarks/same_numbers/{o}" if o.endswith(".yaml") else o for o in options]
            command = [sys.executable, str(checkout / "recipes" / recipe), *options]
            done = subprocess.run(command, cwd=work, env=environment, capture_output=True, encoding="utf-8")
            if done.returncode:
                sys.exit(f"{name}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
            print(name, flush=True)
        return numbers_below(work)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkout", type=Path, default=CONFIGS.parents[1], help="whose code runs [this one]"
    )
    parser.add_argument("--output", type=Path, help="JSON for the hashes")
    parser.add_argument("--against", type=Path, help="JSON of an earlier call, to compare with")
    given = parser.parse_args()
    found = measure(given.checkout.resolve())
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.against:
        before = json.loads(given.against.read_text(encoding="utf-8"))
        differ = [file for file in {**before, **found} if before.get(file) != found.get(file)]
        print("differ:", *differ, sep="\n  ") if differ else print("every number is the same")
        sys.exit(bool(differ))


if __name__ == "__main__":
    main()
