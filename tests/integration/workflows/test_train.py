import json
import pickle
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from hf_lgt import ConfigError, EvalRecord, train
from hf_lgt.checkpointing.checkpoints import list_checkpoints, load_checkpoint, verify, writing
from hf_lgt.checkpointing.resume import newest
from hf_lgt.checkpointing.run_folder import RUN, read_run_config
from hf_lgt.evaluation.records import read_records
from hf_lgt.utils.atomic_io import sha256
from hf_lgt.utils.errors import CheckpointError


def timeless(run_dir):
    lines = [json.loads(line) for line in (run_dir / "train.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "examples_per_second"} for line in lines]


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def same_numbers(a, b):
    return (
        timeless(a) == timeless(b)
        and (a / "eval.jsonl").read_bytes() == (b / "eval.jsonl").read_bytes()
        and weights(a / "model") == weights(b / "model")
    )


def test_a_run_leaves_the_files_that_others_read(tiny_run):
    assert sorted(p.name for p in tiny_run.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "curves.png",
        "environment.json",
        "eval.jsonl",
        "model",
        "train.jsonl",
    ]
    config = yaml.safe_load((tiny_run / "config.yaml").read_text())
    assert config["train"]["steps"] == 12
    about = json.loads((tiny_run / "environment.json").read_text())
    assert about["packages"]["torch"]
    assert about["processes"] == 1


def test_train_jsonl_has_a_line_every_few_steps(tiny_run):
    lines = [json.loads(line) for line in (tiny_run / "train.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 4, 8, 12]
    assert list(lines[0]) == ["step", "loss", "learning_rate", "examples", "tokens", "examples_per_second"]
    assert [line["examples"] for line in lines] == [32, 128, 256, 384]
    assert all(5 * line["examples"] < line["tokens"] < 36 * line["examples"] for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert all(line["examples_per_second"] > 0 for line in lines)


def test_eval_jsonl_has_a_line_for_each_step_task_and_length(tiny_run):
    records = read_records(tiny_run / "eval.jsonl")
    expected = [
        (step, task, length)
        for step in (6, 12)
        for task in ("capitalize_reverse", "capitalize", "reverse")
        for length in range(1, 11)
    ]
    assert [(r.step, r.task, r.length) for r in records] == expected
    line = json.loads((tiny_run / "eval.jsonl").read_text().splitlines()[0])
    wanted = ["step", "task", "role", "length", "n", "exact_match", "ci_low", "ci_high", "token_accuracy"]
    assert list(line)[:9] == wanted
    by_length = {r.length: (r.n, r.overlap) for r in records if r.task == "capitalize_reverse"}
    assert by_length == {1: (8, 4)} | dict.fromkeys(range(2, 11), (32, 0))


def test_the_result_holds_the_last_evaluation(tiny):
    result = train(tiny("train.steps=2", "train.eval_every=1"), progress=False)
    assert {r.step for r in result.records} == {2}
    assert all(isinstance(r, EvalRecord) for r in result.records)


def test_the_saved_model_continues_a_prompt(tiny_run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_run / "model")
    model = AutoModelForCausalLM.from_pretrained(tiny_run / "model")
    prompt = tokenizer("<capitalize_reverse>aBcD=", return_tensors="pt")
    out = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    text = tokenizer.decode(out[0], skip_special_tokens=True)
    assert text.startswith("<capitalize_reverse>aBcD=")
    assert out.shape[1] > prompt["input_ids"].shape[1]


def test_the_model_card_tells_tasks_results_and_config(tiny_run):
    card = (tiny_run / "model" / "README.md").read_text()
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata)["library_name"] == "transformers"
    record = read_records(tiny_run / "eval.jsonl")[-1]
    assert f"{record.exact_match:.3f}" in text
    for word in ("capitalize_reverse", "trained on lengths 1 to 8", "backwards, with the case", "2506.09251"):
        assert word in text
    config = text.split("```yaml\n")[1].split("```")[0]
    kept = yaml.safe_load((tiny_run / "config.yaml").read_text())
    # all of it but where it lies on this machine
    assert yaml.safe_load(config) == {key: value for key, value in kept.items() if key != "output_dir"}


def test_the_same_config_gives_the_same_bits(tiny, tiny_run):
    again = train(tiny(), progress=False).run_dir
    assert same_numbers(again, tiny_run)


def interrupt(run_dir, checkpoint_step):
    """What is left of a run that was killed some steps after a checkpoint."""
    shutil.rmtree(run_dir / "model")
    for step, path in list_checkpoints(run_dir):
        if step > checkpoint_step:
            shutil.rmtree(path)
    with open(run_dir / "train.jsonl", "a") as file:
        file.write('{"step": 12, "lo')


@pytest.mark.parametrize("checkpoint_step", [6, 0])
def test_an_interrupted_run_goes_on_to_the_same_bits(tiny, tiny_run, checkpoint_step, news):
    config = tiny()
    shutil.copytree(tiny_run, config.run_dir)
    interrupt(config.run_dir, checkpoint_step)
    train(config, progress=False)
    assert f"resumes from step {checkpoint_step}" in news[-1]
    assert same_numbers(config.run_dir, tiny_run)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tiny, tiny_run, news):
    config = tiny()
    shutil.copytree(tiny_run, config.run_dir)
    interrupt(config.run_dir, 12)
    weights = config.run_dir / "checkpoints/step-000012/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    train(config, progress=False)
    assert "step-000012: model.safetensors changed" in news[0]
    assert "resumes from step 6" in news[1]
    assert same_numbers(config.run_dir, tiny_run)


def test_a_checkpoint_without_one_of_its_files_is_not_whole(tiny_run, tmp_path):
    copy = tmp_path / "checkpoints" / "step-000012"
    shutil.copytree(tiny_run / "checkpoints/step-000012", copy)
    verify(copy)
    (copy / "optimizer.pt").unlink()
    with pytest.raises(CheckpointError, match=r"optimizer\.pt: No such file"):
        verify(copy)
    assert newest(tmp_path, RUN.logs).checkpoint is None


def signed(checkpoint):
    """Make its manifest say what optimizer.pt holds now."""
    hashes = json.loads((checkpoint / "manifest.json").read_text())
    hashes["optimizer.pt"] = sha256(checkpoint / "optimizer.pt")
    (checkpoint / "manifest.json").write_text(json.dumps(hashes, indent=1) + "\n")


@pytest.mark.parametrize("content", [b"no archive", b"", pickle.dumps(print)])
def test_a_checkpoint_whose_optimizer_cannot_be_read_is_reported(tiny_run, tmp_path, content):
    """Its manifest says that all is as it was written."""
    from transformers import AutoModelForCausalLM

    copy = shutil.copytree(tiny_run / "checkpoints/step-000012", tmp_path / "copy")
    (copy / "optimizer.pt").write_bytes(content)
    signed(copy)
    model = AutoModelForCausalLM.from_pretrained(copy)
    with pytest.raises(CheckpointError, match=r"checkpoint .*copy cannot be read: "):
        load_checkpoint(copy, model)


@pytest.mark.parametrize("state", [{}, {"state": {}, "param_groups": []}, {"state": {99: {}}}, [], None])
def test_an_optimizer_of_another_run_is_reported(tiny, tiny_run, state):
    config = tiny()
    shutil.copytree(tiny_run, config.run_dir, ignore=shutil.ignore_patterns("model"))
    checkpoint = config.run_dir / "checkpoints/step-000012"
    torch.save(state, checkpoint / "optimizer.pt")
    signed(checkpoint)
    with pytest.raises(CheckpointError, match=r"checkpoint .*step-000012 cannot be read: "):
        train(config, progress=False)


def test_a_checkpoint_is_a_model_that_transformers_loads(tiny_run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = tiny_run / "checkpoints/step-000012"
    assert AutoTokenizer.from_pretrained(path)("<reverse>a=")["input_ids"]
    AutoModelForCausalLM.from_pretrained(path)
    final = load_file(tiny_run / "model/model.safetensors")
    assert all((load_file(path / "model.safetensors")[k] == v).all() for k, v in final.items())


def snapshot(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_finished_run_is_not_touched_without_overwrite(tiny, tiny_run):
    config = tiny()
    shutil.copytree(tiny_run, config.run_dir)
    before = snapshot(config.run_dir)
    for changed in (config, tiny("train.steps=3")):
        with pytest.raises(ConfigError, match="holds a finished run; choose another name"):
            train(changed, progress=False)
    assert snapshot(config.run_dir) == before
    train(tiny("train.steps=3"), overwrite=True, progress=False)
    assert [p.name for p in (config.run_dir / "checkpoints").glob("*")] == []
    assert read_run_config(config.run_dir).train.steps == 3


def test_an_unfinished_run_of_another_config_is_not_touched(tiny, tiny_run):
    config = tiny()
    shutil.copytree(tiny_run, config.run_dir)
    interrupt(config.run_dir, 6)
    before = snapshot(config.run_dir)
    with pytest.raises(ConfigError, match="holds a run of another config"):
        train(tiny("train.learning_rate=0.1"), progress=False)
    assert snapshot(config.run_dir) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_never_removed(tiny, overwrite):
    config = tiny()
    config.run_dir.mkdir(parents=True)
    (config.run_dir / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="no run"):
        train(config, overwrite=overwrite, progress=False)
    assert (config.run_dir / "thesis.tex").read_text() == "years of work"


def test_an_output_folder_that_cannot_be_made_is_a_clear_fault(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"output_dir: .*Not a directory"):
        train(tiny(f"output_dir={tmp_path / 'file'}"), progress=False)


def test_half_precision_needs_a_gpu(tiny):
    import torch

    if torch.cuda.is_available():
        return
    with pytest.raises(ConfigError, match=r"train\.precision: 'fp16' needs a GPU"):
        train(tiny("train.precision=fp16"), progress=False)


def test_a_damaged_checkpoint_is_written_anew_on_the_way(tiny, tiny_run):
    config = tiny()
    shutil.copytree(tiny_run, config.run_dir)
    interrupt(config.run_dir, 12)
    for step in (6, 12):
        (config.run_dir / f"checkpoints/step-{step:06d}/state.json").write_text("{}")
    train(config, progress=False)
    for _, path in list_checkpoints(config.run_dir):
        verify(path)
    assert same_numbers(config.run_dir, tiny_run)


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ("{}", "manifest.json lacks config.json, "),
        ("[]", "manifest.json cannot be read: "),
        ("null", "manifest.json cannot be read: "),
        ("{", "manifest.json cannot be read: Expecting"),
    ],
)
def test_a_manifest_that_lacks_files_is_not_whole(tiny_run, tmp_path, manifest, told):
    copy = tmp_path / "step-000012"
    shutil.copytree(tiny_run / "checkpoints/step-000012", copy)
    (copy / "manifest.json").write_text(manifest)
    with pytest.raises(CheckpointError, match=f"is not whole: {told}"):
        verify(copy)


def test_weights_that_went_wrong_are_never_saved(tiny):
    from hf_lgt.utils.errors import TrainingError

    overrides = ["train.learning_rate=1e30", "train.warmup=0", "train.max_grad_norm=null"]
    config = tiny(*overrides, "train.log_every=1000", "train.save_every=1")
    with pytest.raises(TrainingError, match=r"the (loss|norm of the gradient) is (inf|nan) at step"):
        train(config, progress=False)
    for _, path in list_checkpoints(config.run_dir):
        assert all(tensor.isfinite().all() for tensor in load_file(path / "model.safetensors").values())


def test_a_log_with_bytes_that_are_no_text_is_cut_there(tiny, tiny_run):
    config = tiny()
    shutil.copytree(tiny_run, config.run_dir)
    interrupt(config.run_dir, 6)
    with open(config.run_dir / "train.jsonl", "ab") as file:
        file.write(b"\xff\xfe\x00")
    train(config, progress=False)
    assert same_numbers(config.run_dir, tiny_run)


def test_overwrite_spares_a_folder_with_somebody_elses_config(tiny):
    config = tiny()
    config.run_dir.mkdir(parents=True)
    (config.run_dir / "config.yaml").write_text("theme: dark\n")
    (config.run_dir / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError):
        train(config, overwrite=True, progress=False)
    assert (config.run_dir / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), RuntimeError("x: No space left"), Exception("No space left")]
)
def test_what_libraries_raise_on_a_full_disk_is_reported(error):
    with (
        pytest.raises(
            CheckpointError, match=r"^model could not be written: .*No space left; nothing that was"
        ),
        writing("model"),
    ):
        raise error
    with pytest.raises(TypeError), writing("model"):
        raise TypeError("a fault of ours")
