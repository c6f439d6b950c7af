"""The pretraining recipe as a user calls it, and what is pushed from it."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hf_lgt.models.local_hub import list_revisions, snapshot
from hf_lgt.pretraining.config import PRETRAINING, TextConfig
from hf_lgt.pretraining.text import prepare_text
from hf_lgt.utils.errors import ConfigError
from tests.support.tiny_pretraining import SMALL, write_text

# of the client's own uploads
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def run(call_recipe, tmp_path):
    """Pretrains a tiny model below the test's folder."""
    text = write_text(tmp_path / "text")

    def call(*arguments):
        overrides = [*SMALL, f"text.files=['{text}']", f"output_dir={tmp_path / 'pretrained'}"]
        done = call_recipe("pretrain.py", *(f"--{o}" for o in overrides), *arguments)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    return call


def test_the_recipe_tells_counts_and_losses_and_refuses_to_do_it_again(run, tmp_path):
    done = run()
    assert done.returncode == 0, done.stderr
    run_dir = tmp_path / "pretrained" / "tiny"
    told = done.stdout.splitlines()
    about = json.loads((run_dir / "text.json").read_text())
    assert told[0].startswith(
        f"text:      {about['documents']} documents, {about['characters']:,} characters"
    )
    assert "vocabulary 300" in told[1]
    assert "parameters, llama" in told[2]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in told if line.startswith("| ")]
    assert rows[1:] == [["step-0", "0"], ["step-6", "384"], ["step-12 = main", "768"]]
    assert (run_dir / "validation.png").read_bytes()[:4] == b"\x89PNG"
    assert f"model:     {snapshot(run_dir)}" in told

    again = run()
    assert again.returncode == 2
    assert "holds a finished run" in again.stderr
    anew = run("--overwrite", "--train.steps", "3", "--revisions", "[]")
    assert anew.returncode == 0
    assert list(list_revisions(run_dir)) == ["main", "step-3"]


def test_the_default_text_trains_a_model(call_recipe, tmp_path):
    done = call_recipe(
        "pretrain.py", "--output_dir", tmp_path, "--text.characters", "60000",
        "--text.validation_share", "0.5", "--model.hidden_size", "16", "--train.steps", "2",
        "--train.batch_size", "2", "--revisions", "[]", "--sequence_length", "32",
        "--validation_sequences", "4", "--tokenizer.vocab_size", "300",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(list_revisions(tmp_path / "demo-llama")) == ["main", "step-2"]


def test_help_lists_every_key_and_a_misspelt_option_is_reported(call_recipe):
    done = call_recipe("pretrain.py", "--help")
    assert done.returncode == 0
    for key, _ in PRETRAINING.describe():
        assert f"{key} " in done.stdout
    assert "--mixture" not in done.stdout
    assert "--revision " not in done.stdout
    wrong = call_recipe("pretrain.py", "--overwritten", "x")
    assert wrong.returncode == 2
    assert "did you mean --overwrite?" in wrong.stderr


def test_wrong_input_is_reported_and_leaves_no_trace(run, tmp_path):
    done = run("--train.stepz", "5", "--revisions", "[5]", "--text.source", "dataset")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: 4 faults:"
    for words in ("train.stepz: unknown key", "revisions: 5 is no multiple", "text.files: ", "text.path: "):
        assert words in done.stderr
    private = run("--private")
    assert private.returncode == 2
    assert "--private: is for --push_to_hub" in private.stderr
    assert not (tmp_path / "pretrained").exists()


def test_each_revision_is_pushed_to_its_branch_and_loaded_from_there(run, hub, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = run("--push_to_hub", "org/tiny", "--private")
    assert done.returncode == 0, done.stderr
    run_dir = tmp_path / "pretrained" / "tiny"
    pushed = [line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("pushed:")]
    assert pushed == ["step-0", "step-6", "step-12", "main"]
    api = HfApi()
    assert api.model_info("org/tiny").private
    refs = {ref.name for ref in api.list_repo_refs("org/tiny").branches}
    assert refs == {"main", "step-0", "step-6", "step-12"}
    assert "run/validation.jsonl" in api.list_repo_files("org/tiny")
    assert "run/config.yaml" in api.list_repo_files("org/tiny", revision="step-6")
    assert "run/validation.jsonl" not in api.list_repo_files("org/tiny", revision="step-6")
    for revision in ("step-6", "main"):
        model = AutoModelForCausalLM.from_pretrained("org/tiny", revision=revision)
        local = AutoModelForCausalLM.from_pretrained(snapshot(run_dir, revision))
        assert model.get_input_embeddings().weight.equal(local.get_input_embeddings().weight)
    assert len(AutoTokenizer.from_pretrained("org/tiny", revision="step-0")) == 300
    settings = Path(api.hf_hub_download("org/tiny", "run/config.yaml")).read_text()
    assert "name: tiny" in settings
    assert str(tmp_path) not in settings

    again = run("--push_to_hub", "org/tiny", "--private")
    assert again.returncode == 0, again.stderr
    assert "pushed:    main:" in again.stdout


def test_a_dataset_on_the_hub_is_read_at_the_commit_that_a_run_began_with(hub, tmp_path):
    texts = [p.read_text(encoding="utf-8") for p in write_text(tmp_path / "text", 8).iterdir()]
    api = HfApi()
    api.create_repo("org/docs", repo_type="dataset")

    def push(rows):
        data = "".join(json.dumps({"text": text}) + "\n" for text in rows).encode()
        name = {"repo_id": "org/docs", "repo_type": "dataset"}
        return api.upload_file(path_or_fileobj=data, path_in_repo="train.jsonl", **name).oid

    first, second = push(texts[:6]), push(texts)
    config = TextConfig(source="dataset", path="org/docs")
    assert prepare_text(config).about["revision"] == second
    text = prepare_text(config, first)
    assert text.about["revision"] == first
    assert {*text.train, *text.validation} == {t.strip() for t in texts[:6]}
    with pytest.raises(ConfigError, match=r"text\.revision: unknown revision 'v1'"):
        prepare_text(TextConfig(source="dataset", path="org/docs", revision="v1"))
