"""recipes/evaluate.py on folders that come with code or pickled weights: nothing of it is run unasked."""

import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_lgt import train
from hf_lgt.config.files import read_mapping
from hf_lgt.evaluation.records import read_records
from hf_lgt.models.base_checkpoint import readable
from hf_lgt.utils import yaml
from hf_lgt.utils.errors import ConfigError
from tests.conftest import ROOT
from tests.support import checkpoints, forked

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

class OddConfig(LlamaConfig):
    model_type = "odd"

class OddModel(LlamaForCausalLM):
    config_class = OddConfig

with Path({mark!r}).open("a") as file:
    file.write("run")
"""
AUTO_MAP = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddModel"}


def change(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


@pytest.fixture
def odd(tmp_path):
    """A checkpoint that needs its own code, which leaves a mark where it is run."""
    folder, mark = checkpoints.write(tmp_path / "odd", "smollm"), tmp_path / "it-was-run"
    change(folder, model_type="odd", architectures=["OddModel"], auto_map=AUTO_MAP)
    (folder / "odd.py").write_text(CODE.format(mark=str(mark)))
    return SimpleNamespace(folder=folder, mark=mark)


@pytest.fixture
def evaluate(tmp_path):
    """Calls the recipe with somebody who says yes to every question."""

    def call(*arguments):
        command = [sys.executable, str(ROOT / "recipes/evaluate.py"), *map(str, arguments)]
        command += ["--output", str(tmp_path / "e")]
        done = forked.run(command, input="y\n" * 9, cwd=tmp_path)
        assert "Do you wish" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture
def untagged(tmp_path):
    """A config whose tasks a checkpoint can be asked without training; gives its file."""

    def write(model):
        data = checkpoints.settings("x", tmp_path / "out", "data.tags=false")
        data["mixture"], data["model"] = data["mixture"][:1], model
        file = tmp_path / "configs/config.yaml"  # beside the model it would be that of its run
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.dump(data))
        return file

    return write


MODELS = {"own": {}, "checkpoint": {"init": "pretrained", "name_or_path": "x"}}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_folder_is_run_only_when_asked(odd, evaluate, untagged, model, file):
    if file == "tokenizer_config.json":
        change(odd.folder, model_type="llama", architectures=["LlamaForCausalLM"], auto_map={})
        settings = json.loads((odd.folder / file).read_text())
        settings |= {"tokenizer_class": "Odd", "auto_map": {"AutoTokenizer": ["odd.Odd", "odd.Odd"]}}
        (odd.folder / file).write_text(json.dumps(settings))
        with (odd.folder / "odd.py").open("a") as code:
            code.write("from transformers import PreTrainedTokenizerFast as Odd\n")
    called = evaluate(odd.folder, "--config", untagged(MODELS[model]))
    assert called.returncode == 2
    assert "model.trust_remote_code: " in called.stderr
    assert "needs Python code that comes with it; true runs it" in called.stderr
    assert not odd.mark.exists()
    called = evaluate(odd.folder, "--config", untagged(MODELS[model]), "--model.trust_remote_code", "true")
    assert called.returncode == 0, called.stderr
    assert odd.mark.exists()


def test_a_folder_cannot_allow_its_own_code(odd, evaluate, untagged):
    """What was pushed has its run's config beside it."""
    (odd.folder / "run").mkdir()
    untagged({**MODELS["checkpoint"], "trust_remote_code": True}).rename(odd.folder / "run/config.yaml")
    called = evaluate(odd.folder)
    assert called.returncode == 2
    assert "model.trust_remote_code: " in called.stderr
    assert not odd.mark.exists()
    called = evaluate(odd.folder, "--model.trust_remote_code", "true")
    assert called.returncode == 0, called.stderr


@pytest.mark.parametrize("peft", ["peft.method=none", "peft={method: lora, rank: 4}"])
def test_a_run_that_was_trained_with_code_is_evaluated_with_it_only_when_asked(
    odd, evaluate, call_recipe, tmp_path, peft
):
    config = checkpoints.config(odd.folder, tmp_path / "runs", "model.trust_remote_code=true", peft)
    run_dir = train(config, progress=False).run_dir
    last = [r for r in read_records(run_dir / "eval.jsonl") if r.step == 4]
    odd.mark.unlink()
    yes = "--model.trust_remote_code=true"
    for path in (run_dir, run_dir / "checkpoints/step-000004"):
        for said in ((), ("--model.trust_remote_code", "false")):
            called = call_recipe("evaluate.py", path, "--output", tmp_path / "no", *said)
            assert called.returncode == 2
            assert "needs Python code that comes with it; true runs it" in called.stderr
    called = call_recipe("analyze.py", "heads", run_dir, "--checkpoints", "last")
    assert called.returncode == 2
    assert "needs Python code that comes with it; true runs it" in called.stderr
    assert not odd.mark.exists()
    assert not (tmp_path / "no").exists()
    called = evaluate(run_dir, yes)
    assert called.returncode == 0, called.stderr
    if "none" in peft:  # merging rounds
        assert read_records(tmp_path / "e/eval.jsonl") == last
    called = evaluate(run_dir / "checkpoints/step-000004", "--overwrite", yes)
    assert called.returncode == 0, called.stderr
    assert read_records(tmp_path / "e/eval.jsonl") == last
    kept = yaml.load((tmp_path / "e/config.yaml").read_text())
    assert kept["model"]["trust_remote_code"] is False  # was for that command alone


@pytest.fixture
def downloaded(odd, untagged, tmp_path):
    """A run somebody made, whose config allows what the run holds: code, and a pickle."""
    run = tmp_path / "runs/somebody/seed-0"
    run.mkdir(parents=True)
    yes = {"trust_remote_code": True, "use_safetensors": False}
    untagged({**MODELS["checkpoint"], **yes}).rename(run / "config.yaml")
    odd.folder.rename(run / "model")
    (run / "checkpoints").mkdir()
    shutil.copytree(run / "model", run / "checkpoints/step-000004")
    return run


@pytest.mark.parametrize(
    "way",
    ["run", "model", "checkpoint", "own", "base", "link", "inside", "heads", "necessity", "related base"],
)
def test_what_is_read_cannot_allow_its_own_code(downloaded, odd, call_recipe, untagged, tmp_path, way):
    own = untagged(MODELS["checkpoint"])
    based, link = own.with_name("based.yaml"), own.with_name("link.yaml")
    based.write_text(yaml.dump({"base": str(downloaded / "config.yaml"), "name": "x"}))
    link.symlink_to(downloaded / "config.yaml")
    calls = {
        "run": ["evaluate.py", downloaded],
        "model": ["evaluate.py", downloaded / "model"],
        "checkpoint": ["evaluate.py", downloaded / "checkpoints/step-000004"],
        "own": ["evaluate.py", downloaded, "--config", own],
        "base": ["evaluate.py", downloaded, "--config", based],
        "link": ["evaluate.py", downloaded, "--config", link],
        "inside": ["evaluate.py", downloaded, "--config", downloaded / "config.yaml"],
        "heads": ["analyze.py", "heads", downloaded, "--checkpoints", "last"],
        "necessity": ["analyze.py", "necessity", downloaded, "--lengths", "4"],
        "related base": ["finetune.py", "--config", based, f"--model.name_or_path={downloaded / 'model'}"],
    }  # fmt: skip
    called = call_recipe(*calls[way])
    assert called.returncode == 2
    assert "model.trust_remote_code" in called.stderr
    assert not odd.mark.exists()


def test_a_config_of_the_users_own_allows_code(downloaded, odd, call_recipe, untagged):
    own = untagged({**MODELS["checkpoint"], "trust_remote_code": True})
    called = call_recipe("evaluate.py", downloaded / "model", "--config", own)
    assert called.returncode == 0, called.stderr
    assert odd.mark.exists()


def test_a_run_cannot_allow_its_own_pickle(call_recipe, untagged, tmp_path):
    run = tmp_path / "runs/somebody/seed-0"
    pickled(run / "model")
    untagged({**MODELS["checkpoint"], "use_safetensors": False}).rename(run / "config.yaml")
    called = call_recipe("evaluate.py", run)
    assert called.returncode == 2
    assert "it has no weights in safetensors (model.safetensors)" in called.stderr
    called = call_recipe("evaluate.py", run, "--model.use_safetensors=false")
    assert called.returncode == 0, called.stderr


def test_adapters_are_not_read_from_a_pickle(call_recipe, tmp_path):
    """PEFT takes a pickle where there are no safetensors."""
    base = checkpoints.write(tmp_path / "base", "smollm")
    config = checkpoints.config(base, tmp_path / "runs", "peft={method: lora, rank: 4}")
    folder = train(config, progress=False).run_dir / "checkpoints/step-000004"
    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), folder / "adapter_model.bin")
    file.unlink()
    (folder / "manifest.json").unlink()
    called = call_recipe("evaluate.py", folder)
    assert called.returncode == 2
    assert "it has no adapter_model.safetensors" in called.stderr


def pickled(folder):
    """A checkpoint whose weights are a pickle."""
    checkpoints.write(folder, "smollm")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({k: v.clone() for k, v in tensors.items()}, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_pickled_weights_are_read_only_when_asked(evaluate, untagged, tmp_path, model):
    folder = pickled(tmp_path / "pickled")
    called = evaluate(folder, "--config", untagged(MODELS[model]))
    assert called.returncode == 2
    assert "cannot be loaded: it has no weights in safetensors (model.safetensors)" in called.stderr
    assert "model.use_safetensors false takes that" in called.stderr
    called = evaluate(folder, "--config", untagged(MODELS[model]), "--model.use_safetensors", "false")
    assert called.returncode == 0, called.stderr


def test_a_setting_of_the_wrong_type_is_still_told(evaluate, untagged, tmp_path):
    folder = checkpoints.write(tmp_path / "x", "smollm")
    called = evaluate(folder, "--config", untagged({}), "--model.trust_remote_code", "maybe")
    assert called.returncode == 2
    assert "model.trust_remote_code: 'maybe' must be a boolean" in called.stderr


def test_no_token_is_reported_of_a_folder_that_cannot_be_loaded(tmp_path):
    with pytest.raises(ConfigError) as caught, readable(tmp_path):
        raise OSError("https://x.org/a?token=abc of hf_0123456789abcdef0123456789abcdef")
    assert caught.value.faults == [f"{tmp_path} cannot be loaded: OSError: https://x.org/a?token=*** of ***"]


def test_a_config_that_a_run_kept_gives_no_consent_where_another_file_names_it(downloaded):
    base, model = str(downloaded / "config.yaml"), {"name_or_path": str(downloaded / "model")}
    read = read_mapping({"base": base, "model": model}, downloaded, "config")
    assert read["model"]["name_or_path"] == model["name_or_path"]
    assert not {"trust_remote_code", "use_safetensors"} & read["model"].keys()


def test_a_refused_evaluation_leaves_nothing(tmp_path, call_recipe):
    """Also where only the test set shows what is wrong: here, that the tokenizer has no tags."""
    model = checkpoints.write(tmp_path / "model")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.dump({**checkpoints.settings("x", tmp_path / "out"), "model": {}}))
    for option in ([], ["--output", tmp_path / "some" / "where" / "else"]):
        done = call_recipe("evaluate.py", model, "--config", config, *option)
        assert done.returncode == 2
        assert "the tokenizer lacks" in done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "model"]


@pytest.mark.parametrize(
    ("change_model", "told"),
    [
        (lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"), "1 are missing or have another"),
        (lambda weights: weights.update({"model.norm.weight": torch.ones(3)}), "as model.norm.weight"),
        ({"num_hidden_layers": 1}, "are of layers that its config.json leaves out, as model.layers.1."),
        ({"num_hidden_layers": 3}, "as model.layers.2."),
    ],
)
def test_weights_that_are_not_those_of_the_model_are_not_evaluated(
    call_recipe, untagged, tmp_path, change_model, told
):
    """The libraries draw what is missing at random, and leave out what is too much."""
    model = checkpoints.write(tmp_path / "model")
    if isinstance(change_model, dict):
        change(model, **change_model)
    else:
        weights = load_file(model / "model.safetensors")
        change_model(weights)
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    done = call_recipe("evaluate.py", model, "--config", untagged({}))
    assert done.returncode == 2
    assert f"{model} are not those of a LlamaForCausalLM: " in done.stderr
    assert told in done.stderr
    assert "LOAD REPORT" not in done.stderr


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(call_recipe, untagged, tmp_path):
    model = checkpoints.write(tmp_path / "model")
    wider = checkpoints.tokenizer("smollm")
    wider.add_tokens(["one more"])
    wider.save_pretrained(model)
    done = call_recipe("evaluate.py", model, "--config", untagged({}))
    assert done.returncode == 2
    rows = checkpoints.rows_of("smollm")
    assert f"its tokenizer has {rows + 1} ids, its embedding {rows} rows; they are not of one" in done.stderr


RELATED = ("related", "--target", "reverse", "--candidates", "string_copy")


@pytest.mark.parametrize(
    ("recipe", "option"),
    [
        (("evaluate.py", "RUN"), "--output"),
        (("analyze.py", "heads", "RUN"), "--output"),
        (("analyze.py", *RELATED, "--config", ROOT / "recipes/demo/transfer.yaml"), "--output"),
        (("report.py", "RUN"), "--output"),
        (("build_dataset.py",), "--output"),
        (("build_dataset.py",), "--lm_eval"),
    ],
)
def test_a_place_that_cannot_be_written_is_reported_before_the_work(
    call_recipe, tiny_run, tmp_path, monkeypatch, recipe, option
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    words = [tiny_run if word == "RUN" else word for word in recipe]
    for place, told in (("file/below", "File exists"), ("n" * 256, "File name too long")):
        done = call_recipe(*words, option, place)
        assert done.returncode == 2
        assert f"{option}: " in done.stderr
        assert told in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        assert "it/s" not in done.stderr  # no bar of any work


@pytest.mark.parametrize("recipe", [("evaluate.py",), ("analyze.py", "heads")])
def test_a_link_to_nowhere_is_reported_before_the_work(call_recipe, tiny_run, tmp_path, recipe):
    (tmp_path / "link").symlink_to("nowhere")
    done = call_recipe(*recipe, tiny_run, "--output", tmp_path / "link")
    assert done.returncode == 2
    assert f"--output: {tmp_path / 'link'} exists" in done.stderr
    assert "it/s" not in done.stderr
