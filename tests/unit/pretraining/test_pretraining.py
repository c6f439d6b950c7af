"""What a pretraining reads: its config, documents, tokenizer and batches."""

import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from hf_lgt.config.schema import short
from hf_lgt.data.batching import even_split
from hf_lgt.data.codec import TextCodec
from hf_lgt.pretraining import documents
from hf_lgt.pretraining.config import PRETRAINING, TextConfig, TokenizerConfig, load_pretrain_config
from hf_lgt.pretraining.documents import read_documents
from hf_lgt.pretraining.source import BlockSource, spread_starts
from hf_lgt.pretraining.text import prepare_text
from hf_lgt.pretraining.tokenizer import END, bytes_of_tokens, token_stream, train_tokenizer
from hf_lgt.utils.errors import ConfigError
from tests.support.tiny_pretraining import RECIPE, tiny_config, write_text


@pytest.fixture
def faults():
    """The faults of the recipe's config with some overrides."""

    def find(*overrides):
        with pytest.raises(ConfigError) as caught:
            load_pretrain_config(RECIPE, overrides)
        return caught.value.faults

    return find


def reads(*entries, **options):
    return prepare_text(TextConfig(source="files", files=[str(e) for e in entries], **options))


# ---- config


def test_both_recipes_are_valid_and_differ_in_architecture_and_digits():
    llama = load_pretrain_config(RECIPE)
    neox = load_pretrain_config(RECIPE.with_name("pretrain_neox.yaml"))
    assert (llama.model.architecture, llama.tokenizer.digits) == ("llama", "single")
    assert (neox.model.architecture, neox.tokenizer.digits) == ("gpt_neox", "merged")
    assert llama.run_dir == Path("pretrained/demo-llama")
    assert llama.kept_steps[-1] == llama.train.steps
    assert llama.kept_steps[0] == 0
    again = PRETRAINING.root(**llama.to_dict())
    assert again == llama


def test_every_fault_is_reported_at_once_with_its_key(faults):
    told = faults(
        "model.heads=3",
        "train.stepz=5",
        "text.sorce=files",
        "tokenizer.vocab_size=256",
        "tokenizer.digits=pairs",
        "revisions=[50, -1]",
        "sequence_length=4096",
    )
    assert [fault.split(":")[0] for fault in told] == [
        "text.sorce",
        "tokenizer.vocab_size",
        "tokenizer.digits",
        "train.stepz",
        "revisions.1",
        "model.heads",
        "sequence_length",
    ]
    assert "did you mean 'source'" in told[0]
    assert "256 must be at least 257" in told[1]
    assert "'single' or 'merged'" in told[2]
    assert "did you mean 'steps'" in told[3]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["revisions=[150]", "train.eval_every=100"], "revisions: 150 is no multiple of train.eval_every"),
        (["revisions=[7]", "train.eval_every=null"], "revisions: 7 is no multiple of train.eval_every, null"),
        (["revisions=[9900]", "train.steps=2400"], "revisions: 9900 is after the last step, train.steps"),
        (["text.source=files"], "text.files: is empty"),
        (["text.source=dataset"], "text.path: is missing"),
        (["text.files=[a]"], "text.files: ['a'] is for text.source 'files', not 'python'"),
        (["text.column=body"], "text.column: 'body' is for text.source 'dataset', not 'python'"),
        (["model.name_or_path=gpt2"], "model.name_or_path: 'gpt2' is for fine-tuning"),
        (["train.self_improvement.rounds=2"], "train.self_improvement.rounds: 2 is for fine-tuning"),
        (["model.architecture=looped_llama"], "model.architecture: 'looped_llama' works as long"),
        (["model.tokenizer=words"], "model.tokenizer: 'words' is for fine-tuning"),
        (["train.length_buckets=2"], "train.length_buckets: 2 is for fine-tuning"),
        (["sequence_length=4096"], "sequence_length: 4096 is more than model.max_positions, 2048"),
        (["name=a/b"], "name: 'a/b' must be letters"),
        (["train.warmup=0.9"], "train.warmup, train.decay: 0.9 + 0.3 is more than 1"),
        (["mixture=[]"], "mixture: unknown key 'mixture'"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_reported(faults, overrides, words):
    (fault,) = faults(*overrides)
    assert fault.startswith(words)


def test_the_last_step_is_kept_whatever_is_asked():
    config = load_pretrain_config(RECIPE, ["revisions=[]", "train.steps=70", "train.eval_every=null"])
    assert config.kept_steps == [70]


def test_help_lists_the_keys_that_may_be_set():
    keys = [key for key, _ in PRETRAINING.describe()]
    assert "--text.validation_share" in keys
    assert "--train.steps" in keys
    assert "--model.name_or_path" not in keys
    assert not any(key.startswith("--mixture") for key in keys)


# ---- text


def test_documents_are_read_once_whatever_their_names_places_and_line_ends(tmp_path):
    one = write_text(tmp_path / "one")
    other = tmp_path / "other"
    for i, path in enumerate(sorted(one.iterdir(), reverse=True)):
        place = other / ("deep" if i % 2 else "") / f"{i}.md"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (other / "again.txt").write_bytes((one / "03.txt").read_bytes())
    first, second = reads(one), reads(other)
    assert (first.train, first.validation) == (second.train, second.validation)
    assert first.about["fingerprint"] == second.about["fingerprint"]
    assert (first.about["repeated_or_empty"], second.about["repeated_or_empty"]) == (0, 1)
    assert reads(one / "*.txt").train == first.train
    assert reads(*sorted(one.iterdir())).train == first.train


def test_validation_documents_are_never_trained_on_and_both_are_there(tmp_path):
    folder = write_text(tmp_path / "text", 60)
    everything = {p.read_text(encoding="utf-8").strip() for p in folder.iterdir()}
    sizes = []
    for share in (1e-9, 0.1, 0.5, 1 - 1e-9):
        text = reads(folder, validation_share=share)
        assert set(text.train) | set(text.validation) == everything
        assert not set(text.train) & set(text.validation)
        sizes.append(len(text.validation))
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 59)
    assert 1 < sizes[1] < 20 < sizes[2] < 40


def test_what_is_no_text_is_skipped_and_counted(tmp_path):
    folder = write_text(tmp_path / "text", 5)
    before = reads(folder).about
    (folder / "latin.txt").write_bytes("naïve".encode("latin-1"))
    (folder / "zeros.bin").write_bytes(b"\0\0")
    (folder / "empty.txt").write_text("  \n")
    (folder / ".hidden").write_text("not meant")
    about = reads(folder).about
    assert about == {**before, "skipped": 2, "repeated_or_empty": 1}


def test_documents_and_the_whole_may_be_cut(tmp_path):
    folder = write_text(tmp_path / "text", 10)
    assert max(map(len, reads(folder, longest_document=50).train)) == 50
    text = reads(write_text(tmp_path / "more", 60), characters=8000, validation_share=0.2)
    assert sum(map(len, text.train + text.validation)) == 8000
    # what is taken is not what is for validation
    assert len(text.train) > 2 * len(text.validation) > 2


def test_another_text_has_another_fingerprint(tmp_path):
    folder = write_text(tmp_path / "text", 10)
    before = reads(folder).about["fingerprint"]
    assert before != reads(folder, validation_share=0.5).about["fingerprint"]
    with open(folder / "03.txt", "a") as file:
        file.write("!")
    assert reads(folder).about["fingerprint"] != before


def test_the_default_text_is_pythons_own_without_tests_or_tables():
    found = read_documents(TextConfig())
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = set(found.texts)
    assert (library / "textwrap.py").read_text(encoding="utf-8") in texts
    assert (library / "unittest" / "case.py").read_text(encoding="utf-8") in texts
    assert (library / "encodings" / "cp437.py").read_text(encoding="utf-8") not in texts
    assert any("# NumPy" in text or "NumPy is the fundamental package" in text for text in texts)
    assert not any(text.startswith("# hf_lgt") for text in texts)
    assert sum(map(len, texts)) > 3_000_000


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("pyparsing/ai/best_practices.md", True),
        ("numpy/ma/README.rst", True),
        ("x-1.dist-info/licenses/LICENSE.md", False),
        ("scipy/spatial/tests/data/iris.txt", False),
        ("x-1.dist-info/top_level.txt", False),
        ("torch/share/CMakeLists.txt", False),
    ],
)
def test_licences_and_data_are_no_documentation(name, taken):
    assert (documents._NO_DOCUMENTATION.search(name) is None) == taken


def test_a_table_of_numbers_is_no_prose():
    assert documents._is_prose("Some words, and a number: 3.")
    assert not documents._is_prose("1.5 2.5 3.5\n" * 9)


@pytest.mark.parametrize("entry", ["nowhere.txt", "no/*.txt", "", "a\0b"])
def test_files_that_are_not_there_are_named(entry, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        reads(entry, tmp_path / "empty")
    assert len(caught.value.faults) == 2
    assert all(f.startswith("text.files: ") and "no folder with files" in f for f in caught.value.faults)


def test_a_single_document_is_too_little(tmp_path):
    with pytest.raises(ConfigError, match="has 1 documents with text; at least 2 are needed"):
        reads(write_text(tmp_path / "text", 1))
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"has no documents here \(1 skipped\)"):
        reads(tmp_path / "binary")


@pytest.fixture
def rows(tmp_path):
    """A file of rows with a document each."""
    path = tmp_path / "rows.jsonl"
    texts = [p.read_text(encoding="utf-8") for p in sorted(write_text(tmp_path / "text").iterdir())]
    path.write_text("".join(json.dumps({"body": text, "n": 1}) + "\n" for text in [*texts, None]))
    return path


def of_rows(path, **options):
    return prepare_text(TextConfig(source="dataset", path=str(path), **{"column": "body", **options}))


def test_a_datasets_column_gives_the_same_text_as_its_files(rows, tmp_path):
    text = of_rows(rows)
    assert (text.train, text.validation) == (
        reads(tmp_path / "text").train,
        reads(tmp_path / "text").validation,
    )
    assert text.about["skipped"] == 1
    assert len(of_rows(rows, split="train[:50%]").train) < len(text.train)


def test_data_files_that_are_not_read_are_named(rows):
    folder = rows.parent / "folder"
    folder.mkdir()
    for name in ("train.jsonl", "extra.jsonl"):
        (folder / name).write_bytes(rows.read_bytes())
    (warning,) = of_rows(folder).warnings
    assert warning.startswith(f"text.path: {short(str(folder))}: not read: extra.jsonl (read: train.jsonl)")


def test_of_a_large_dataset_no_more_is_read_than_is_asked_for(monkeypatch):
    monkeypatch.setattr(documents, "_ROWS", 10)
    rows = Dataset.from_dict({"body": [f"{i:04}" for i in range(1000)]})
    texts, skipped = documents._enough(rows, "body", 90)
    assert (len(texts), skipped) == (30, 0), "whole blocks of ten rows, until 90 characters are there"
    assert texts != sorted(texts), "of the whole dataset, not of its beginning"
    assert documents._enough(rows, "body", 90)[0] == texts
    assert documents._enough(rows, "body", None)[0] == rows["body"][:]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": "text"}, r"text\.column: unknown column 'text'.*known: body, n"),
        ({"column": "n"}, r"text\.column: row 0 of 'n' is 1, not text"),
        ({"split": "test"}, r"text\.split: unknown split 'test'"),
        ({"name": "en"}, r"text\.name: 'en' is a configuration"),
        ({"revision": "v1"}, r"text\.revision: 'v1' is one of the Hub"),
    ],
)
def test_a_datasets_faults_name_the_texts_keys(rows, options, words):
    with pytest.raises(ConfigError, match=words):
        of_rows(rows, **options)
    with pytest.raises(ConfigError, match=r"text\.path: 'nowhere/at/all' is no file"):
        of_rows("nowhere/at/all")


# ---- tokenizer


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = write_text(tmp_path_factory.mktemp("text"), 30)
    return [p.read_text(encoding="utf-8") for p in sorted(folder.iterdir())]


def make(texts, **options):
    return train_tokenizer(texts, TokenizerConfig(**{"vocab_size": 320, **options}))


def test_any_text_comes_back_whatever_its_bytes(texts):
    tokenizer = make(texts)
    whatever = bytes(range(256)).decode("latin-1")
    for text in [*texts[:3], whatever, "日本語 🎉\n\t  x", " leading", ""]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.unk_token_id not in ids
    assert len(tokenizer) == 320
    assert len([t for t in tokenizer.get_vocab() if len(t) == 1]) == 256
    assert tokenizer.bos_token == tokenizer.eos_token == END
    assert tokenizer.pad_token is None


def test_digits_are_tokens_of_their_own_or_merged(texts):
    single, merged = make(texts), make(texts, digits="merged")
    pairs = lambda tokenizer: [t for t in tokenizer.get_vocab() if sum(c.isdigit() for c in t) > 1]  # noqa: E731
    assert pairs(single) == []
    assert "2024" in pairs(merged)
    assert single.convert_ids_to_tokens(single("x2024")["input_ids"])[1:] == ["2", "0", "2", "4"]
    assert merged.convert_ids_to_tokens(merged("x2024")["input_ids"])[1:] == ["2024"]


def test_the_same_documents_give_the_same_tokenizer(texts):
    one, two = make(texts), make(texts)
    assert one.backend_tokenizer.to_str() == two.backend_tokenizer.to_str()


def test_too_little_text_for_the_vocabulary_is_reported(texts):
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size: the text gives \d+ tokens, not 5000"):
        make(texts, vocab_size=5000)


def test_documents_are_joined_by_end_tokens_and_bytes_are_counted(texts):
    tokenizer = make(texts)
    tokens = token_stream(texts, TextCodec(tokenizer, tags=False))
    ends = np.flatnonzero(tokens == tokenizer.eos_token_id)
    assert len(ends) == len(texts) + 1
    assert (ends[0], ends[-1]) == (0, len(tokens) - 1)
    assert tokenizer.decode(tokens[ends[4] + 1 : ends[5]]) == texts[4]
    assert bytes_of_tokens(tokenizer)[tokens].sum() == len("".join(texts).encode())


# ---- batches


def blocks(tokens=100, length=8, batch_size=4, seed=0):
    return BlockSource(np.arange(tokens, dtype=np.uint16), length=length, batch_size=batch_size, seed=seed)


def test_a_batch_depends_on_seed_and_step_alone():
    one, two = blocks(), blocks()
    later = two.batch(7).ids
    for step in range(7):
        one.batch(step)
    assert (one.batch(7).ids == later).all()
    assert (blocks(seed=1).batch(7).ids != later).any()
    assert (one.batch(6).ids != later).any()
    # a larger batch takes more of the same order
    assert (blocks(batch_size=8).batch(3).ids == np.concatenate([one.batch(6).ids, one.batch(7).ids])).all()


def test_an_epoch_gives_each_block_once_in_an_order_and_from_a_place_of_its_own():
    source = blocks()
    assert source.blocks == 11
    order = np.concatenate([source.starts(step) for step in range(11)]).reshape(4, 11)
    for starts in order:
        assert (np.diff(np.sort(starts)) == 8).all()
        assert starts.min() < 8
        assert starts.max() + 8 <= 100
    assert len({starts.min() for starts in order}) > 1
    assert len({tuple(starts.argsort()) for starts in order}) == 4


def test_all_tokens_but_the_first_are_predicted_in_one_pass():
    batch = blocks().batch(0)
    assert (np.diff(batch.ids, axis=1) == 1).all()
    assert (batch.tokens, batch.answer_tokens) == (32, 28)
    assert not batch.scored[:, 0].any()
    (work,) = even_split(batch, 1, 4)
    assert work.input_ids.shape == work.labels.shape == (4, 7)
    assert (work.labels == work.input_ids + 1).all()
    assert len(even_split(batch, 2, 4)) == 2


def test_a_stream_that_is_too_short_is_refused():
    assert blocks(tokens=15).batch(3).ids.shape == (4, 8)
    with pytest.raises(ValueError, match="14 tokens are too few for blocks of 8"):
        blocks(tokens=14)


def test_validation_blocks_are_spread_over_the_whole_stream():
    assert spread_starts(100, 8, 99).tolist() == [8 * i for i in range(12)]
    assert spread_starts(100, 8, 3).tolist() == [0, 48, 88]
    assert spread_starts(8, 8, 3).tolist() == [0]


def test_the_tiny_config_is_what_the_other_tests_take(tmp_path):
    assert tiny_config(tmp_path).kept_steps == [0, 6, 12]
