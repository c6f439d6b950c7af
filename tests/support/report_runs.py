"""Runs as a report reads them, written without training: configs, records and folders are the real ones."""

from __future__ import annotations

import json

from hf_lgt import load_config
from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.records import EvalRecord
from hf_lgt.experiments.manifest import Entry, Manifest, relative, write_manifest
from hf_lgt.utils import yaml
from tests.conftest import ROOT

STEPS = (3, 6, 9, 12)
ENVIRONMENT = {
    "python": "3.11.7",
    "packages": {"hf-lgt": "0.1.0", "torch": "2.13.0"},
    "git_commit": "0123456789abcdef0123456789abcdef01234567+changes",
    "device": "cpu",
    "device_name": "x86_64",
    "processes": 1,
}
TINY = ("train.steps=12", "train.eval_every=3", "eval.lengths=[1,10]", "eval.examples=32", "model.layers=1")
OWN_DATA = ("data.source=dataset", "data.path=rows", "data.tags=false")


def write_run(folder, name, seed, *overrides, reach=8, state="finished", base="transfer"):
    """A run's folder; its target is right up to length `reach` and less so with every seed.

    `state` is ``finished``, ``unfinished`` (no model, fewer evaluations) or ``begun`` (no evaluation).
    """
    given = [*TINY, f"name={name}", f"output_dir={folder}", f"seed.init={seed}", *overrides]
    config = load_config(ROOT / f"recipes/demo/{base}.yaml", given)
    run_dir = config.run_dir
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(yaml.dump(config.to_dict()))
    (run_dir / "environment.json").write_text(json.dumps(ENVIRONMENT))
    steps = {"finished": STEPS, "unfinished": STEPS[:2], "begun": ()}[state]
    with open(run_dir / "eval.jsonl", "w") as file:
        for step in steps:
            for c in config.mixture:
                end = reach if c.role == "target" else c.lengths[1]
                for length in range(1, 11):
                    right = 32 if length <= end else max(0, 32 - 5 * (length - end) - seed) * step // 12
                    low, high = wilson_interval(right, 32)
                    record = EvalRecord(step, c.task, c.role, length, 32, right / 32, low, high, 0.9, 0)
                    file.write(record.to_json() + "\n")
    if state == "finished":
        (run_dir / "model").mkdir()
        (run_dir / "curves.png").write_bytes(b"")
    return run_dir


def write_experiment(folder, name="demo", arms=("transfer", "target_alone"), seeds=(0, 1), unfinished=()):
    """A comparison: its runs and its own folder with a manifest."""
    entries = []
    for arm in arms:
        base = arm if (ROOT / f"recipes/demo/{arm}.yaml").is_file() else "transfer"
        for seed in seeds:
            own = f"{name}-{arm.replace('_', '-')}"
            state = "unfinished" if (arm, seed) in unfinished else "finished"
            run_dir = write_run(
                folder, own, seed, base=base, reach=8 if base == "transfer" else 5, state=state
            )
            place = relative(run_dir, folder / name)
            entries.append(Entry(f"{own}/seed-{seed}", "", arm, seed, place))
    write_manifest(Manifest(name, tuple(entries), {}, "recipes/demo/compare.yaml"), folder / name)
    return folder / name


def write_grid(folder, name="grid", lengths=("4", "8"), seeds=(0,)):
    """A sweep over both training lengths."""
    entries = []
    for target in lengths:
        for auxiliary in lengths:
            own = f"{name}-{target}-{auxiliary}"
            given = [f"mixture.{i}.lengths=[1,{target if i == 0 else auxiliary}]" for i in range(3)]
            for seed in seeds:
                run_dir = write_run(folder, own, seed, *given, reach=max(int(target), int(auxiliary)))
                place = relative(run_dir, folder / name)
                point = {"target_length": target, "auxiliary_length": auxiliary}
                entries.append(Entry(f"{own}/seed-{seed}", "", "transfer", seed, place, point))
    axes = {"target_length": lengths, "auxiliary_length": lengths}
    write_manifest(Manifest(name, tuple(entries), axes, ""), folder / name)
    return folder / name
