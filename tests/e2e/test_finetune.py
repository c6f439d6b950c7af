import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from hf_lgt.utils import yaml
from tests.conftest import ROOT, TINY
from tests.support import checkpoints


@pytest.fixture
def run(call_recipe):
    """Calls a recipe's main in this process."""
    return call_recipe


def tiny_arguments(*extra):
    return [f"--{override}" for override in [*TINY, *extra]]


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 10_000


def test_finetune_prints_a_table_and_writes_a_figure_and_refuses_to_do_it_again(run, tmp_path):
    first = run("finetune.py", *tiny_arguments(f"output_dir={tmp_path}"))
    assert first.returncode == 0, first.stderr
    rows = [line for line in first.stdout.splitlines() if line.startswith("| ")]
    assert "capitalize_reverse (target, ≤ 8)" in rows[0]
    assert [row.split("|")[1].strip() for row in rows[1:]] == [str(n) for n in range(1, 11)]
    assert [row.split("|")[2].strip() for row in rows[8:]] == ["within", "transfer", "transfer"]
    assert "capitalize_reverse 1 (4 of 8)" in first.stdout
    run_dir = tmp_path / "tiny" / "seed-0"
    assert is_png(run_dir / "curves.png")
    assert f"model:  {run_dir / 'model'}" in first.stdout

    again = run("finetune.py", *tiny_arguments(f"output_dir={tmp_path}"))
    assert again.returncode == 2
    assert "holds a finished run" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_checkpoint_alone_is_enough_and_sizes_that_the_user_gives_beside_it_are_refused(run, tmp_path):
    """The default config's sizes are for a model trained from scratch."""
    folder = checkpoints.write(tmp_path / "base", "smollm")
    out = tmp_path / "runs"
    few = ["--train.steps=2", "--train.batch_size=4", "--eval.examples=2", f"--output_dir={out}"]
    done = run("finetune.py", f"--model.name_or_path={folder}", "--model.init=pretrained", *few)
    assert done.returncode == 0, done.stderr
    config = yaml.load((out / "demo-checkpoint/seed-0/config.yaml").read_text(encoding="utf-8"))
    assert config["model"]["name_or_path"] == str(folder)
    assert [c["task"] for c in config["mixture"]] == ["capitalize_reverse", "capitalize", "reverse"]
    refused = run("finetune.py", f"--model.name_or_path={folder}", "--model.layers=3", "--name=other", *few)
    assert refused.returncode == 2
    assert "model.layers: 3 is for a model trained from scratch" in refused.stderr
    assert [path.name for path in out.iterdir()] == ["demo-checkpoint"]


@pytest.mark.real_processes
def test_compare_runs_every_arm_once_and_keeps_what_is_finished(run, tmp_path):
    overrides = [o for o in TINY if not o.startswith("name=")]
    overrides += [f"output_dir={tmp_path}", "eval.lengths=[1,17]"]
    arguments = [ROOT / "recipes/demo", "--seeds", "0,3", *(f"--{o}" for o in overrides)]
    listed = run("compare.py", *arguments, "--dry_run")
    assert listed.stdout.count("to do") == 10
    assert not list(tmp_path.iterdir())
    first = run("compare.py", *arguments)
    assert first.returncode == 0, first.stderr
    assert "10 runs, 0 finished" in first.stdout
    table = [line for line in first.stdout.splitlines() if line.startswith("| ")]
    header, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    arms = ("transfer", "target_alone", "control", "target_long", "target_alone_same_examples")
    rows = [row for row in rows if row[1] == "2"]
    assert [row[0] for row in rows] == list(arms)
    # 12 steps teach nothing, and the table says that there is no gap
    assert first.stdout.count("no gap on 2 of 2 seeds (exact match on own lengths is below 0.95") == 5
    assert "gap" not in header
    assert [row[header.index("gain")] for row in rows][1] == "–"
    assert [row[header.index("seeds with ≥ 0.5 there")] for row in rows] == ["0/2"] * 5
    assert "A pilot: of some settings there are only 2 seeds, fewer than 5." in first.stdout
    assert is_png(tmp_path / "demo" / "comparison.png")
    written = (tmp_path / "demo" / "comparison.md").read_text()
    shown = first.stdout[first.stdout.index("**Exact match") : first.stdout.index("\n\nall tables: ")]
    assert shown in written
    for arm in arms:
        assert [line.split("|")[2].strip() for line in written[written.index("**Every run") :].splitlines()
                if line.startswith(f"| {arm} ")] == ["0", "3"]  # fmt: skip
    logs = sorted(p.name for p in (tmp_path / "demo" / "logs").iterdir())
    assert logs == sorted(f"{arm}-seed-{seed}.log" for arm in arms for seed in (0, 3))

    weights = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("model.safetensors")}
    again = run("compare.py", *arguments)
    assert "10 runs, 10 finished" in again.stdout
    assert again.stdout.splitlines()[1:] == first.stdout.splitlines()[1:]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("model.safetensors")} == weights

    other = run("compare.py", *arguments, "--train.learning_rate", "0.01")
    assert other.returncode == 2
    assert "holds a run of another config" in other.stderr


def test_compare_tells_which_runs_failed_and_where_to_look(run, tmp_path):
    overrides = [o for o in TINY if not o.startswith("name=")]
    overrides += ["train.learning_rate=1e30", "train.warmup=0", "train.max_grad_norm=null"]
    overrides += [f"output_dir={tmp_path}"]
    arguments = [ROOT / "recipes/demo", "--seeds", "0", *(f"--{o}" for o in overrides)]
    done = run("compare.py", *arguments)
    assert done.returncode == 1
    assert "seed-0 (target_alone) failed; see" in done.stderr
    log = (tmp_path / "demo" / "logs" / "target_alone-seed-0.log").read_text()
    assert re.search(r"is (nan|inf) at step \d+, on", log)
    assert "Traceback" not in log + done.stderr


def test_evaluate_scores_a_run_again_at_other_lengths(run, tiny_run, tmp_path):
    out = tmp_path / "out"
    arguments = [tiny_run, "--output", out, "--eval.lengths", "[2,4]", "--eval.examples", "64"]
    done = run("evaluate.py", *arguments, "--check_generation")
    assert done.returncode == 0, done.stderr
    assert "capitalize_reverse at length 3: teacher-forced" in done.stdout
    assert "0 of 64 disagree" in done.stdout
    assert len((out / "eval.jsonl").read_text().splitlines()) == 9
    assert is_png(out / "curves.png")
    # only 32 of the 64 were held out from training
    assert "capitalize_reverse 3 (32 of 64)" in done.stdout
    again = run("evaluate.py", *arguments)
    assert again.returncode == 2
    assert "exists; choose another" in again.stderr


def test_evaluate_gives_the_records_of_training_for_the_same_test_sets(run, tiny_run, tmp_path):
    out = tmp_path / "out"
    done = run("evaluate.py", tiny_run / "checkpoints" / "step-000006", "--output", out)
    assert done.returncode == 0, done.stderr
    trained = (tiny_run / "eval.jsonl").read_text().splitlines()
    assert (out / "eval.jsonl").read_text().splitlines() == trained[: len(trained) // 2]


def test_evaluate_takes_any_local_model_with_the_tasks_of_a_config(run, tiny_run, tmp_path):
    model = tmp_path / "somebodys-model"
    shutil.copytree(tiny_run / "model", model)
    without = run("evaluate.py", model)
    assert without.returncode == 2
    assert "--config must name the tasks" in without.stderr
    done = run(
        "evaluate.py", model, "--config", ROOT / "recipes/demo/control.yaml", "--output", tmp_path / "out",
        "--eval.lengths", "[1,3]", "--eval.examples", "16",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "string_copy (auxiliary, ≤ 16)" in done.stdout


@pytest.mark.parametrize(("path", "told"), [("nowhere", "no run and no model"), (".", "no run and no model")])
def test_evaluate_names_a_path_without_a_model(run, tmp_path, path, told):
    done = run("evaluate.py", tmp_path / path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_evaluate_never_replaces_a_run(run, tiny_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy)
    before = sorted(copy.rglob("*"))
    done = run("evaluate.py", copy, "--output", copy, "--overwrite", "--eval.lengths", "[1,2]")
    assert done.returncode == 2
    assert "holds more than an evaluation" in done.stderr
    assert sorted(copy.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", lambda p: p.write_bytes(p.read_bytes()[:1000])),
        ("model.safetensors", lambda p: p.unlink()),
        ("tokenizer.json", lambda p: p.write_text("{")),
        ("config.json", lambda p: p.write_text("{")),
    ],
)
def test_evaluate_tells_of_a_model_that_cannot_be_loaded(run, tiny_run, tmp_path, file, damage):
    model = tmp_path / "model"
    shutil.copytree(tiny_run / "model", model)
    damage(model / file)
    config = ROOT / "recipes/demo/transfer.yaml"
    done = run(
        "evaluate.py", model, "--config", config, "--eval.lengths", "[1,2]", "--output", tmp_path / "o"
    )
    assert done.returncode == 2
    assert "cannot be loaded" in done.stderr
    assert not (tmp_path / "o").exists()


def test_evaluations_of_a_foreign_model_do_not_take_a_runs_folder(run, tiny_run, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_run / "model", model)
    config = ROOT / "recipes/demo/transfer.yaml"
    arguments = ["--config", config, "--eval.lengths", "[1,2]", "--output_dir", tmp_path / "runs"]
    assert run("evaluate.py", model, *arguments).returncode == 0
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["evaluations"]
    assert len(list((tmp_path / "runs" / "evaluations" / "demo-transfer").iterdir())) == 1


def test_evaluate_skips_the_generation_check_where_answers_are_given_in_part(run, tiny_run, tmp_path):
    task = "mixture=[{task: mqar, role: target, lengths: [3, 4]}]"
    arguments = ["--output", tmp_path / "o", "--check_generation", f"--{task}", "--eval.lengths", "[3,4]"]
    done = run("evaluate.py", tiny_run, *arguments, "--eval.examples", "8")
    assert done.returncode == 0
    assert "mqar: not checked" in done.stdout


def test_a_folder_that_cannot_be_written_is_reported(run, tmp_path):
    (tmp_path / "file").write_text("")
    done = run("compare.py", ROOT / "recipes/demo", "--output_dir", tmp_path / "file")
    assert done.returncode == 2
    assert str(tmp_path / "file") in done.stderr


def test_two_processes_give_the_losses_of_one(tiny_run, tmp_path):
    command = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", *command, str(ROOT / "recipes/finetune.py"),
         *tiny_arguments(f"output_dir={tmp_path}")],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("figure:") == 1

    def lines(run_dir, name):
        return [json.loads(line) for line in (run_dir / name).read_text().splitlines()]

    two = lines(tmp_path / "tiny" / "seed-0", "train.jsonl")
    one = lines(tiny_run, "train.jsonl")
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-4)
    keys = ("step", "examples", "tokens")
    assert [[line[k] for k in keys] for line in two] == [[line[k] for k in keys] for line in one]
    records = lines(tmp_path / "tiny" / "seed-0", "eval.jsonl")
    assert [(r["task"], r["length"], r["n"]) for r in records] == [
        (r["task"], r["length"], r["n"]) for r in lines(tiny_run, "eval.jsonl")
    ]
    assert json.loads((tmp_path / "tiny/seed-0/environment.json").read_text())["processes"] == 2
