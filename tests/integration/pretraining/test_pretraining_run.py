"""A whole pretraining: what it leaves, what resumes after an interruption, what is refused."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from hf_lgt.checkpointing.checkpoints import list_checkpoints
from hf_lgt.models.local_hub import list_revisions, snapshot
from hf_lgt.pretraining import run as running
from hf_lgt.pretraining.report import validation_table
from hf_lgt.pretraining.run import KIND, pretrain
from hf_lgt.pretraining.validation import read_measurements, validation_loss
from hf_lgt.utils.errors import ConfigError
from tests.support.tiny_pretraining import tiny_config, write_text


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run; tests must leave it as it is."""
    config = tiny_config(tmp_path_factory.mktemp("pretraining"))
    pretrain(config, progress=False)
    return config.run_dir


def files(folder):
    """Everything that may not depend on when and where it was written."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in ("config.yaml", "environment.json", "train.jsonl")
    }


def lines(run_dir, name="train.jsonl"):
    lines = [json.loads(line) for line in (run_dir / name).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "examples_per_second"} for line in lines]


def test_a_run_leaves_records_and_revisions_in_the_layout_of_the_hubs_cache(done):
    assert sorted(p.name for p in done.iterdir()) == [
        "config.yaml",
        "environment.json",
        "refs",
        "snapshots",
        "text.json",
        "train.jsonl",
        "validation.jsonl",
    ]
    found = list_revisions(done)
    assert list(found) == ["main", "step-0", "step-6", "step-12"]
    assert found["main"] == found["step-12"]
    assert len(set(found.values())) == 3
    for name in ("step-0", "step-6", "main"):
        assert sorted(p.name for p in snapshot(done, name).iterdir()) == [
            "README.md",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "pretraining.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    assert [line["step"] for line in lines(done)] == [1, 4, 8, 12]
    assert lines(done)[-1]["tokens"] == 12 * 4 * 16


def test_the_loss_is_measured_before_during_and_after_training(done):
    measured = read_measurements(done)
    assert [m.step for m in measured] == [0, 3, 6, 9, 12]
    assert [m.tokens for m in measured] == [64 * m.step for m in measured]
    assert measured[0].validation_loss == pytest.approx(math.log(300), rel=0.02)
    assert measured[-1].validation_loss < measured[1].validation_loss < measured[0].validation_loss
    for m in measured:
        if m.step in (0, 6, 12):
            told = json.loads((snapshot(done, f"step-{m.step}") / "pretraining.json").read_text())
            assert told == json.loads(m.to_json())


def test_the_loss_is_that_of_the_saved_revision_on_the_validation_documents(done):
    """Computed anew with transformers alone."""
    path = snapshot(done, "step-6")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    config = KIND.read(running_config(done))
    text = running.prepare_text(config.text)
    ids = [tokenizer.eos_token_id]
    for document in text.validation:
        ids += [*tokenizer(document)["input_ids"], tokenizer.eos_token_id]
    places = np.unique(np.linspace(0, len(ids) // 16 - 1, 8).round().astype(int)) * 16
    rows = torch.tensor([ids[at : at + 16] for at in places])
    with torch.no_grad():
        loss = float(model(input_ids=rows, labels=rows).loss)
    (m,) = [m for m in read_measurements(done) if m.step == 6]
    assert m.validation_loss == pytest.approx(loss, rel=1e-5)
    written = sum(len(tokenizer.decode(i, skip_special_tokens=True).encode("utf-8")) for i in rows[:, 1:])
    assert m.bits_per_byte == pytest.approx(loss * rows[:, 1:].numel() / math.log(2) / written, rel=1e-5)


def running_config(run_dir):
    from hf_lgt.utils import yaml as yaml12

    return yaml12.load((run_dir / "config.yaml").read_text())


def test_transformers_loads_a_revision_from_a_copy_in_its_cache(done, tmp_path, monkeypatch):
    # as HF_HUB_OFFLINE=1 does: transformers asks for adapters whatever local_files_only says, for 20 s
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    shutil.copytree(done, tmp_path / "models--org--tiny")
    options = {"cache_dir": tmp_path, "local_files_only": True}
    found = {}
    for revision in ("step-0", "step-6", "main"):
        model = AutoModelForCausalLM.from_pretrained("org/tiny", revision=revision, **options)
        found[revision] = model.get_input_embeddings().weight
        saved = load_file(snapshot(done, revision) / "model.safetensors")
        assert torch.equal(found[revision], saved["model.embed_tokens.weight"])
        tokenizer = AutoTokenizer.from_pretrained("org/tiny", revision=revision, **options)
        assert tokenizer.decode(tokenizer("naïve 2024")["input_ids"]) == "naïve 2024"
    assert not torch.equal(found["step-0"], found["step-6"])
    assert not torch.equal(found["main"], found["step-6"])


def test_the_end_token_has_an_embedding_that_is_trained(done):
    """It begins each document; taken for padding, its row would stay at zero."""
    rows = [
        load_file(snapshot(done, name) / "model.safetensors")["model.embed_tokens.weight"][0]
        for name in ("step-0", "main")
    ]
    assert AutoConfig.from_pretrained(snapshot(done)).pad_token_id is None
    assert all(row.abs().min() > 0 for row in rows)
    assert not torch.equal(*rows)


def test_a_gpt_neox_with_merged_digits_is_pretrained_too(tmp_path):
    config = tiny_config(
        tmp_path, "model.architecture=gpt_neox", "tokenizer.digits=merged", "train.steps=3", "revisions=[]"
    )
    measured = pretrain(config, progress=False)
    assert [m.step for m in measured] == [0, 3]
    assert list(list_revisions(config.run_dir)) == ["main", "step-3"]
    model = AutoModelForCausalLM.from_pretrained(snapshot(config.run_dir))
    assert model.config.model_type == "gpt_neox"
    assert "2024" in AutoTokenizer.from_pretrained(snapshot(config.run_dir)).get_vocab()


def test_a_bloom_is_pretrained_too(tmp_path):
    sizes = ["model.architecture=bloom", "model.positions=alibi", "model.intermediate_size=64"]
    config = tiny_config(tmp_path, *sizes, "model.hidden_size=16", "train.steps=3", "revisions=[]")
    measured = pretrain(config, progress=False)
    assert [m.step for m in measured] == [0, 3]
    assert measured[1].validation_loss < measured[0].validation_loss
    model = AutoModelForCausalLM.from_pretrained(snapshot(config.run_dir))
    assert model.config.model_type == "bloom"


@pytest.mark.parametrize("key", ["position_ids=randomized", "position_range=20"])
def test_numbers_of_positions_are_not_for_texts(tmp_path, key):
    with pytest.raises(ConfigError) as error:
        tiny_config(tmp_path, f"model.{key}")
    assert f"model.{key.split('=')[0]}: " in error.value.faults[0]
    assert "is for fine-tuning" in error.value.faults[0]


@pytest.mark.parametrize("stopped_at", [4, 8, 11])
def test_an_interrupted_run_goes_on_to_the_same_bits(done, tmp_path, monkeypatch, stopped_at, news):
    """Before the first checkpoint, after it, and past revisions that are written again."""
    config = tiny_config(tmp_path)

    class Stops(running.BlockSource):
        def batch(self, step):
            if step == stopped_at:
                raise KeyboardInterrupt
            return super().batch(step)

    with monkeypatch.context() as patch:
        patch.setattr(running, "BlockSource", Stops)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, progress=False)
    assert "main" not in list_revisions(config.run_dir)
    assert [step for step, _ in list_checkpoints(config.run_dir)] == [6][: stopped_at // 6]
    with open(config.run_dir / "validation.jsonl", "a") as file:
        file.write('{"step": 9, "validat')
    for name in ("snapshots/.0123.12-0123abcd", "refs/.step-9.12-0123abcd", ".scratch.12-0123abcd"):
        (config.run_dir / name).mkdir()
    pretrain(config, progress=False)
    assert any(f"resumes from step {stopped_at // 6 * 6}" in line for line in news)
    assert files(config.run_dir) == files(done)
    assert lines(config.run_dir) == lines(done)
    assert [*config.run_dir.rglob(".*")] == []


def test_one_that_was_killed_once_main_was_written_is_cleared_up(tmp_path):
    config = tiny_config(tmp_path)
    pretrain(config, progress=False)
    before = files(config.run_dir)
    (config.run_dir / "checkpoints/step-000012").mkdir(parents=True)
    (config.run_dir / ".validation.12-0123abcd.png").write_text("half a fig")
    with pytest.raises(ConfigError, match="holds a finished run"):
        pretrain(tiny_config(tmp_path, "seed.init=3"), progress=False)
    assert (config.run_dir / "checkpoints").is_dir(), "another command touches nothing"
    with pytest.raises(ConfigError, match="holds a finished run"):
        pretrain(config, progress=False)
    assert (config.run_dir / "validation.png").stat().st_size
    (config.run_dir / "validation.png").unlink()
    assert files(config.run_dir) == before
    assert not (config.run_dir / "checkpoints").exists()
    assert [*config.run_dir.rglob(".*")] == []


def test_a_checkpoint_of_another_pretraining_is_refused(tmp_path, monkeypatch):
    config = tiny_config(tmp_path)
    monkeypatch.setattr(running, "_finish", lambda config: None)
    pretrain(config, progress=False)
    for name in ("tiny", "other"):
        again = tiny_config(tmp_path, f"name={name}", "train.steps=12")
        if name == "tiny":
            pretrain(again, resume=config.run_dir / "checkpoints/step-000006", progress=False)
            continue
        with pytest.raises(ConfigError, match="resumes from its own checkpoints alone"):
            pretrain(again, resume=config.run_dir, progress=False)
        assert not again.run_dir.exists()


def test_only_main_was_missing(done, tmp_path, monkeypatch):
    config = tiny_config(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(running, "_finish", lambda config: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(config, progress=False)
    assert [step for step, _ in list_checkpoints(config.run_dir)] == [6, 12]
    pretrain(config, progress=False)
    assert files(config.run_dir) == files(done)


def test_older_checkpoints_go_while_it_runs(tmp_path, monkeypatch):
    config = tiny_config(tmp_path, "train.save_every=1", "train.eval_every=1")
    monkeypatch.setattr(running, "_finish", lambda config: None)
    pretrain(config, progress=False)
    assert [step for step, _ in list_checkpoints(config.run_dir)] == [11, 12]


def test_the_seeds_change_weights_and_batches(done, tmp_path):
    others = []
    for i, seed in enumerate(("seed.init=1", "seed.data=1")):
        config = tiny_config(tmp_path / str(i), seed, "train.steps=3", "revisions=[0]")
        others.append((config.run_dir, pretrain(config, progress=False)))
    first = list_revisions(done)["step-0"]
    (init, _), (data, losses) = others
    weights = [load_file(snapshot(path, "step-0") / "model.safetensors") for path in (done, init, data)]
    one, two, three = (w["model.embed_tokens.weight"] for w in weights)
    assert not torch.equal(one, two)
    assert torch.equal(one, three)
    assert first not in list_revisions(init).values()
    assert losses[0].validation_loss == read_measurements(done)[0].validation_loss
    assert losses[1].validation_loss != read_measurements(done)[1].validation_loss


def test_a_finished_run_and_other_files_are_not_touched(done, tmp_path):
    config = tiny_config(tmp_path)
    shutil.copytree(done, config.run_dir)
    before = files(tmp_path)
    for changed in (config, tiny_config(tmp_path, "train.steps=3", "revisions=[0]")):
        with pytest.raises(ConfigError, match="holds a finished run; choose another name or output_dir"):
            pretrain(changed, progress=False)
    assert files(tmp_path) == before
    pretrain(tiny_config(tmp_path, "train.steps=3", "revisions=[0]"), overwrite=True, progress=False)
    assert list(list_revisions(config.run_dir)) == ["main", "step-0", "step-3"]
    shutil.rmtree(config.run_dir)
    config.run_dir.mkdir()
    (config.run_dir / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="no run"):
            pretrain(config, overwrite=overwrite, progress=False)
    assert (config.run_dir / "thesis.tex").read_text() == "years of work"


def test_an_interrupted_run_is_not_continued_on_another_text_or_config(done, tmp_path):
    config = tiny_config(tmp_path)
    shutil.copytree(done, config.run_dir)
    (config.run_dir / "refs/main").unlink()
    settings = (done / "config.yaml").read_text()
    moved = settings.replace(str(done.parent.parent / "text"), str(tmp_path / "text"))
    (config.run_dir / "config.yaml").write_text(moved)
    before = files(config.run_dir)
    with pytest.raises(ConfigError, match="holds a run of another config"):
        pretrain(tiny_config(tmp_path, "train.learning_rate=0.1"), progress=False)
    write_text(tmp_path / "text", 21)
    with pytest.raises(ConfigError, match=r"text\.source: the text is not what it was .*, now \d+ with"):
        pretrain(config, progress=False)
    assert files(config.run_dir) == before


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["sequence_length=2048"],
            r"sequence_length: the text is too short for 2048: \d+ tokens to train on",
        ),
        (["tokenizer.vocab_size=9000"], r"tokenizer\.vocab_size: the text gives"),
        (["text.files=[nowhere]"], r"text\.files: 'nowhere' is no file"),
        (["train.precision=fp16"], r"train\.precision: 'fp16' needs a GPU"),
    ],
)
def test_what_cannot_be_trained_is_reported_before_a_file_is_written(tmp_path, overrides, words):
    if overrides == ["train.precision=fp16"] and torch.cuda.is_available():
        return
    config = tiny_config(tmp_path, *overrides)
    with pytest.raises(ConfigError, match=words):
        pretrain(config, progress=False)
    assert not (tmp_path / "pretrained").exists()


def test_the_card_tells_what_it_is_and_hides_folders(done):
    import yaml

    card = (snapshot(done, "step-6") / "README.md").read_text(encoding="utf-8")
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata)["library_name"] == "transformers"
    for words in (
        "# tiny, step 6 of 12",
        "stands in for a large pretrained checkpoint",
        "each digit is a token",
    ):
        assert words in text
    assert str(done.parent.parent) not in card
    assert yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["text"]["files"] == ["text"]


def test_the_table_has_a_row_for_each_revision(done):
    config = KIND.read(running_config(done))
    rows = [
        line.split("|")[1].strip() for line in validation_table(config, read_measurements(done)).splitlines()
    ]
    assert rows[2:] == ["step-0", "step-6", "step-12 = main"]


def test_measuring_the_loss_leaves_the_models_mode():
    class Uniform(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids, logits_to_keep, use_cache):
            assert not self.training
            logits = torch.zeros(len(input_ids), len(logits_to_keep), 8)
            return type("Out", (), {"logits": logits})

    model = Uniform().train()
    tokens, sizes = np.arange(40, dtype=np.uint16) % 8, np.full(8, 3)
    starts = np.array([0, 8, 16])
    loss, bits = validation_loss(model, tokens, starts, sizes, length=8, batch_size=2)
    assert model.training
    assert loss == pytest.approx(math.log(8))
    assert bits == pytest.approx(1.0)
