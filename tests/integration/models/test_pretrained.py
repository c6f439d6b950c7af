"""Where a checkpoint comes from: the Hub, its revisions, its cache, a folder; and all that can be wrong."""

import io
import json
import shutil
from functools import partial
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from datasets import Dataset
from huggingface_hub import constants
from huggingface_hub.utils import _http, close_session
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, RobertaConfig, RobertaForCausalLM

from data_builders.hub import retry
from hf_lgt import train
from hf_lgt.config.schema import ModelConfig, short
from hf_lgt.data.codec import Codec
from hf_lgt.models.base_checkpoint import context_length, open_base_checkpoint
from hf_lgt.models.build import build_from_checkpoint
from hf_lgt.models.local_hub import write_revision
from hf_lgt.models.resolve import check_weights, fetch_weights, resolve
from hf_lgt.utils.errors import ConfigError
from tests.integration.workflows.test_train import timeless
from tests.support import checkpoints

NAME = "org/tiny-llm"
STEPS = {"step-10": 1, "step-20": 2, "main": 3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint for each revision, unlike in their weights."""
    out = tmp_path_factory.mktemp("revisions")
    return {name: checkpoints.write(out / name, "smollm", seed) for name, seed in STEPS.items()}


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def waits(monkeypatch):
    """The seconds that would have been waited, by this project and by the client."""
    waited = []
    monkeypatch.setattr(retry, "PAUSE", waited.append)
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of this test alone."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for module in (huggingface_hub._snapshot_download, huggingface_hub.file_download):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path / "cache"), raising=False)
    return tmp_path / "cache"


@pytest.fixture
def repo(hub, folders, cache, waits):
    """A model on the Hub with three revisions."""
    made = hub.store.create_repo("model", NAME)
    first = made.resolve("main").sha
    for name in ("step-10", "step-20"):
        made.put_ref(made.branches, name, first)
    for name, folder in folders.items():
        made.add(content(folder), branch=name)
    return made


def wanted(**settings):
    return ModelConfig(**{"init": "pretrained", "name_or_path": NAME, **settings})


def rows(folder):
    return load_file(folder / "model.safetensors")["model.embed_tokens.weight"]


@pytest.mark.parametrize("revision", ["step-10", "step-20", "main", None])
def test_a_revision_has_its_own_weights(repo, folders, revision):
    config = wanted(revision=revision)
    start = open_base_checkpoint(config)
    codec = Codec.of_pretrained(start.tokenizer, tasks=["reverse_add"])
    model = build_from_checkpoint(config, start, codec, 0)
    raw = rows(folders[revision or "main"])
    assert model.get_input_embeddings().weight[: len(raw)].equal(raw)
    assert start.checkpoint.commit == repo.resolve(revision or "main").sha
    assert start.checkpoint.on_hub
    by_commit = open_base_checkpoint(wanted(revision=start.checkpoint.commit))
    assert by_commit.checkpoint.folder == start.checkpoint.folder


def test_weights_are_fetched_only_when_they_are_needed(hub, repo):
    config = wanted()
    start = open_base_checkpoint(config)
    assert hub.count("*", "safetensors") == hub.count("GET", "safetensors") == 0
    twin = wanted(init="random")
    build_from_checkpoint(twin, start, Codec.of_pretrained(start.tokenizer), 0)
    assert hub.count("GET", "safetensors") == 0
    folder = fetch_weights(start.checkpoint, config)
    assert folder == start.checkpoint.folder
    assert hub.count("GET", r"model\.safetensors") == 1
    before = len(hub.requests)
    assert fetch_weights(resolve(config), config) == folder
    asked = [path for _, path, _ in hub.requests[before:]]
    assert not any("resolve" in path for path in asked), "all is in the cache"


def test_only_what_may_be_needed_is_fetched(hub, repo):
    repo.add({"pytorch_model.bin": b"x", "flax.msgpack": b"x", "run.py": b"x", "deep/a.safetensors": b"x"})
    fetch_weights(open_base_checkpoint(wanted()).checkpoint, wanted())
    got = " ".join(path for _, path, _ in hub.requests)
    for name in (".bin", ".msgpack", ".py", "deep"):
        assert name not in got


def test_a_run_records_the_commit_and_goes_on_from_it_though_the_branch_moved(hub, repo, folders, tmp_path):
    config = checkpoints.config(NAME, tmp_path / "a", "model.revision=step-10")
    done = train(config, progress=False)
    about = json.loads((done.run_dir / "checkpoint.json").read_text())
    commit = repo.resolve("step-10").sha
    named = {"name_or_path": NAME, "revision": "step-10", "commit": commit, "on_hub": True}
    assert about == {**named, "pretraining": None}

    repo.add(content(folders["step-20"]), branch="step-10")
    assert repo.resolve("step-10").sha != commit
    again = checkpoints.config(NAME, tmp_path / "b", "model.revision=step-10")
    for name in ("config.yaml", "checkpoint.json", "train.jsonl", "eval.jsonl"):
        again.run_dir.mkdir(parents=True, exist_ok=True)
        shutil.copy(done.run_dir / name, again.run_dir / name)
    train(again, progress=False)
    assert timeless(again.run_dir) == timeless(done.run_dir)
    assert (again.run_dir / "eval.jsonl").read_bytes() == (done.run_dir / "eval.jsonl").read_bytes()
    assert json.loads((again.run_dir / "checkpoint.json").read_text())["commit"] == commit

    train(again, overwrite=True, progress=False)
    moved = json.loads((again.run_dir / "checkpoint.json").read_text())["commit"]
    assert moved == repo.resolve("step-10").sha != commit
    assert timeless(again.run_dir) != timeless(done.run_dir)


def test_what_is_written_down_of_the_pretraining_is_recorded(hub, repo):
    told = {"step": 20, "tokens": 640, "validation_loss": 3.5}
    repo.add({"pretraining.json": json.dumps(told).encode()}, branch="step-20")
    assert open_base_checkpoint(wanted(revision="step-20")).checkpoint.about()["pretraining"] == told
    repo.add({"pretraining.json": b"[1"}, branch="step-20")
    assert open_base_checkpoint(wanted(revision="step-20")).checkpoint.about()["pretraining"] is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/models/"),
        ("*", r"resolve/.*config\.json"),
        ("*", r"tokenizer\.json"),
        ("*", r"\.safetensors"),
    ],
)
@pytest.mark.parametrize("kind", [503, "cut"])
def test_faults_that_pass_are_survived(hub, repo, folders, method, path, kind):
    hub.fail_next(method, path, kind, times=2)
    start = open_base_checkpoint(wanted(revision="step-20"))
    model = build_from_checkpoint(wanted(), start, Codec.of_pretrained(start.tokenizer), 0)
    assert hub.script.pending == 0
    raw = rows(folders["step-20"])
    assert model.get_input_embeddings().weight[: len(raw)].equal(raw)


def fault(call, *arguments, **settings):
    """The one fault of a call, in one line and without a token."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **settings)
    (told,) = caught.value.faults
    assert "\n" not in told
    assert "hf_testsOnLoopback" not in told
    return told


def test_a_hub_that_stays_down_is_reported_once_nothing_is_cached(hub, repo, waits):
    hub.fail_next("*", ".", 503, times=1000, message=f"with {hub.token}")
    told = fault(open_base_checkpoint, wanted())
    assert told.startswith(f"model.name_or_path: '{NAME}' is no folder here and not in the cache")
    assert "the Hub cannot be reached: " in told
    assert "503" in told
    assert len([w for w in waits if w]) >= 3


def test_a_hub_that_is_down_does_no_harm_to_what_is_cached(hub, repo, folders, monkeypatch):
    fetch_weights(open_base_checkpoint(wanted(revision="step-10")).checkpoint, wanted())
    hub.fail_next("*", ".", 503, times=1000)
    start = open_base_checkpoint(wanted(revision="step-10"))
    assert rows(fetch_weights(start.checkpoint, wanted())).equal(rows(folders["step-10"]))


def test_a_download_that_was_cut_between_shards_is_completed(hub, repo, folders, tmp_path):
    whole = load_file(folders["main"] / "model.safetensors")
    model = checkpoints.model("smollm")
    model.load_state_dict(whole, strict=False)
    model.save_pretrained(tmp_path / "cut", max_shard_size="20KB")
    files = content(tmp_path / "cut")
    shards = sorted(name for name in files if name.endswith(".safetensors"))
    assert len(shards) > 1
    repo.put_ref(repo.branches, "cut", repo.resolve("main").sha)
    repo.commit("cut", [("deletedFile", {"path": "model.safetensors"})], "no single file")
    repo.add(files, branch="cut")
    config = wanted(revision="cut")
    start = open_base_checkpoint(config)
    check_weights(start.checkpoint, config)
    assert hub.count("GET", "safetensors$") == 0
    folder = fetch_weights(start.checkpoint, config)
    (folder / shards[-1]).unlink()
    assert fetch_weights(resolve(config), config) == folder
    assert all((folder / name).is_file() for name in shards)


def test_weights_of_no_kind_that_may_be_read_are_reported_before_any_is_fetched(hub, repo):
    repo.put_ref(repo.branches, "pickled", repo.resolve("main").sha)
    repo.commit("pickled", [("deletedFile", {"path": "model.safetensors"})], "the old format")
    repo.add({"pytorch_model.bin": b"x"}, branch="pickled")
    config = wanted(revision="pickled")
    told = fault(check_weights, resolve(config), config)
    assert f"'{NAME}' at revision 'pickled' has no weights in safetensors" in told
    assert "model.use_safetensors false takes that" in told
    check_weights(resolve(config), wanted(revision="pickled", use_safetensors=False))
    assert hub.count("GET", "pytorch_model") == 0


def test_a_folder_that_changed_since_a_run_began_is_reported(tmp_path):
    folder = checkpoints.write(tmp_path / "base", "smollm", 0)
    config = wanted(name_or_path=str(folder))
    commit = open_base_checkpoint(config).checkpoint.commit
    assert open_base_checkpoint(config, commit).checkpoint.commit == commit
    (folder / "notes.md").write_text("not of the model")
    assert open_base_checkpoint(config, commit).checkpoint.commit == commit
    checkpoints.write(folder, "smollm", 1)
    assert "no longer those that the run began with" in fault(open_base_checkpoint, config, commit)


@pytest.fixture
def offline(monkeypatch):
    """Turns the network off for the client."""

    def turn_off():
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        close_session()  # the client looks when it is made

    yield turn_off
    close_session()


def test_offline_the_cache_is_read(hub, repo, folders, offline):
    fetch_weights(open_base_checkpoint(wanted(revision="step-10")).checkpoint, wanted())
    before = len(hub.requests)
    offline()
    start = open_base_checkpoint(wanted(revision="step-10"))
    assert rows(fetch_weights(start.checkpoint, wanted())).equal(rows(folders["step-10"]))
    told = fault(open_base_checkpoint, wanted(revision="step-20"))
    assert "at revision 'step-20'" in told
    assert "not in the cache" in told
    assert len(hub.requests) == before


def test_offline_weights_that_are_not_cached_are_reported(hub, repo, offline):
    start = open_base_checkpoint(wanted())
    offline()
    told = fault(build_from_checkpoint, wanted(), start, Codec.of_pretrained(start.tokenizer), 0)
    assert "and not in the cache, and the Hub cannot be reached" in told
    build_from_checkpoint(wanted(init="random"), start, Codec.of_pretrained(start.tokenizer), 0)


def test_no_network_and_nothing_cached_is_reported(cache, waits, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    close_session()
    told = fault(open_base_checkpoint, wanted())
    close_session()
    assert f"'{NAME}' is no folder here and not in the cache, and the Hub cannot be reached" in told


# ---- names and revisions that are not there


@pytest.mark.parametrize("name", ["org/nowhere", "nobody/model", "gpt-nothing"])
def test_a_model_that_the_hub_has_not_is_reported(repo, name):
    told = fault(open_base_checkpoint, wanted(name_or_path=name))
    assert f"'{name}' is no folder here, and no model on the Hub that may be read (status 40" in told
    assert "HF_TOKEN" in told


def test_a_private_model_needs_a_token(hub, repo, monkeypatch):
    repo.private = True
    assert open_base_checkpoint(wanted()).checkpoint.on_hub
    monkeypatch.delenv("HF_TOKEN")
    shutil.rmtree(constants.HF_HUB_CACHE)
    assert "may be read (status 401)" in fault(open_base_checkpoint, wanted())


@pytest.mark.parametrize("name", ["./no/such", "/no/such/folder", "a/b/c", "x" * 5000, "a\0b", "", "~/m"])
def test_a_path_that_is_not_there_is_reported(repo, hub, name):
    before = len(hub.requests)
    assert fault(open_base_checkpoint, wanted(name_or_path=name)).startswith("model.name_or_path: ")
    assert len(hub.requests) == before


def test_a_revision_that_is_not_there_is_reported_with_those_that_are(repo):
    told = fault(open_base_checkpoint, wanted(revision="step-2"))
    assert "model.revision: " in told
    assert "did you mean step-20?" in told or "did you mean 'step-20'" in told
    assert "known: main, step-10, step-20" in told
    assert "unknown revision" in fault(open_base_checkpoint, wanted(revision="0" * 40))


def test_a_folder_with_revisions_is_read_like_the_hub(folders, tmp_path):
    repository = tmp_path / "local"
    for name, folder in folders.items():
        write_revision(repository, name, partial(shutil.copytree, folder, dirs_exist_ok=True))
    config = wanted(name_or_path=str(repository), revision="step-20")
    start = open_base_checkpoint(config)
    model = build_from_checkpoint(config, start, Codec.of_pretrained(start.tokenizer), 0)
    raw = rows(folders["step-20"])
    assert model.get_input_embeddings().weight[: len(raw)].equal(raw)
    assert len(start.checkpoint.commit) == 40
    assert not start.checkpoint.on_hub
    told = fault(open_base_checkpoint, wanted(name_or_path=str(repository), revision="step-30"))
    assert "known: main, step-10, step-20" in told


def test_a_revision_of_a_plain_folder_is_reported(folders):
    told = fault(open_base_checkpoint, wanted(name_or_path=str(folders["main"]), revision="step-10"))
    assert told.startswith("model.revision: 'step-10' is for the Hub, or a folder with refs/")


# ---- folders that are no checkpoint, or a damaged one


@pytest.fixture
def broken(folders, tmp_path):
    """A copy of a checkpoint to break; `fault` of it is what a run would report."""
    folder = tmp_path / "broken"
    shutil.copytree(folders["main"], folder)

    def begin(tasks=("reverse_add",), **settings):
        config = wanted(name_or_path=str(folder), **settings)
        start = open_base_checkpoint(config)
        return build_from_checkpoint(config, start, Codec.of_pretrained(start.tokenizer, tasks=tasks), 0)

    def change(file, **settings):
        data = json.loads((folder / file).read_text())
        data.update(settings)
        (folder / file).write_text(json.dumps({k: v for k, v in data.items() if v is not None}))

    return SimpleNamespace(folder=folder, begin=begin, change=change, fault=lambda **s: fault(begin, **s))


def test_without_a_fault_it_loads(broken):
    broken.begin()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model_type": "no_such"}', "{}", "\xff", '"x"'])
def test_a_config_that_is_garbage_is_reported(broken, text):
    (broken.folder / "config.json").write_bytes(text.encode("latin-1"))
    assert "cannot be loaded: " in broken.fault()


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"vocab_size": -1},
        {"num_hidden_layers": None, "hidden_size": 7},
        {"model_type": "bert"},
        {"model_type": "clip"},
    ],
)
def test_a_config_that_makes_no_sense_is_reported(broken, settings):
    broken.change("config.json", **settings)
    assert broken.fault().startswith("model.name_or_path: ")


def test_an_encoder_decoder_is_reported(broken):
    broken.change("config.json", model_type="t5", is_encoder_decoder=True)
    assert "is an encoder-decoder, not a causal language model" in broken.fault()


@pytest.mark.parametrize("init", ["pretrained", "random"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_reads_ahead_is_reported(broken, init, dtype):
    """Which RoBERTa does unless its config says that it is a decoder."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes["initializer_range"] = 0.1
    for decoder in (True, False):
        config = RobertaConfig(
            **sizes, vocab_size=checkpoints.rows_of("smollm"), max_position_embeddings=64, is_decoder=decoder
        )
        RobertaForCausalLM(config).save_pretrained(broken.folder)
        if decoder:
            assert not broken.begin(init=init, dtype=dtype).training or init == "random"
        else:
            assert "it reads the tokens that it is to predict" in broken.fault(init=init, dtype=dtype)


def test_remote_code_is_not_run(broken):
    broken.change(
        "config.json", model_type="odd", auto_map={"AutoConfig": "odd.Odd", "AutoModelForCausalLM": "odd.M"}
    )
    (broken.folder / "odd.py").write_text("raise SystemExit('it was run')")
    told = broken.fault()
    assert told.startswith("model.trust_remote_code: ")
    assert "needs Python code that comes with it; true runs it" in told


def test_a_folder_without_a_model_is_reported_with_a_hint(broken, tmp_path):
    (tmp_path / "empty").mkdir()
    told = fault(open_base_checkpoint, wanted(name_or_path=str(tmp_path / "empty")))
    assert "is no model: it has no config.json" in told
    (tmp_path / "run").mkdir()
    broken.folder.rename(tmp_path / "run/model")
    told = fault(open_base_checkpoint, wanted(name_or_path=str(tmp_path / "run")))
    assert f"; {short(str(tmp_path / 'run' / 'model'))} is one" in told
    file = tmp_path / "file.bin"
    file.write_bytes(b"x")
    assert "no config.json" in fault(open_base_checkpoint, wanted(name_or_path=str(file)))


def test_adapters_without_their_base_are_no_checkpoint(broken):
    for file in broken.folder.glob("*.safetensors"):
        file.rename(broken.folder / "adapter_model.safetensors")
    (broken.folder / "config.json").unlink()
    (broken.folder / "adapter_config.json").write_text("{}")
    assert "holds adapters; merge them into their base" in broken.fault()


def test_adapters_beside_a_model_are_not_put_on_it(broken):
    (broken.folder / "adapter_config.json").write_text('{"base_model_name_or_path": "../other"}')
    assert "holds adapters; merge them into their base" in broken.fault()


def test_shards_outside_the_folder_are_not_read(broken):
    weights = broken.folder / "model.safetensors"
    index = {"weight_map": {"x": "../elsewhere.safetensors"}}
    (broken.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    weights.rename(broken.folder.parent / "elsewhere.safetensors")
    assert "has no weights in safetensors" in broken.fault()


def test_truncated_weights_are_reported(broken):
    file = broken.folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert "cannot be loaded: " in broken.fault()
    file.write_bytes(b"")
    assert "cannot be loaded: " in broken.fault()


def test_missing_and_mismatched_weights_are_not_made_up(broken, capfd):
    file = broken.folder / "model.safetensors"
    tensors = load_file(file)
    key = "model.layers.1.mlp.up_proj.weight"
    save_file({k: v for k, v in tensors.items() if k != key}, file, metadata={"format": "pt"})
    assert f"1 are missing or have another shape, as {key}" in broken.fault()
    save_file({**tensors, key: torch.zeros(3, 3)}, file, metadata={"format": "pt"})
    assert f"1 are missing or have another shape, as {key}" in broken.fault()
    assert "LOAD REPORT" not in capfd.readouterr().err
    # nor where the config has another number of layers
    save_file(tensors, file, metadata={"format": "pt"})
    broken.change("config.json", num_hidden_layers=3)
    assert "model.layers.2." in broken.fault()
    broken.change("config.json", num_hidden_layers=1)
    assert "are of layers that its config.json leaves out, as model.layers.1." in broken.fault()


def test_weights_in_several_files_are_read(broken, folders):
    whole = AutoModelForCausalLM.from_pretrained(broken.folder)
    (broken.folder / "model.safetensors").unlink()
    whole.save_pretrained(broken.folder, max_shard_size="20KB")
    assert len(list(broken.folder.glob("model-*-of-*.safetensors"))) > 1
    model = broken.begin()
    raw = rows(folders["main"])
    assert model.get_input_embeddings().weight[: len(raw)].equal(raw)
    next(broken.folder.glob("model-00002-*")).unlink()
    assert broken.fault().startswith("model.name_or_path: ")


def test_pickled_weights_are_read_only_when_asked_and_run_no_code(broken, folders, tmp_path):
    tensors = load_file(broken.folder / "model.safetensors")
    (broken.folder / "model.safetensors").unlink()
    assert "has no weights in safetensors (model.safetensors)" in broken.fault()
    assert "if it has a pytorch_model.bin, model.use_safetensors false takes that" in broken.fault()
    torch.save({k: v.clone() for k, v in tensors.items()}, broken.folder / "pytorch_model.bin")
    assert "model.use_safetensors false takes that" in broken.fault()
    model = broken.begin(use_safetensors=False)
    raw = rows(folders["main"])
    assert model.get_input_embeddings().weight[: len(raw)].equal(raw)
    torch.save({**tensors, "x": Evil(tmp_path / "evil")}, broken.folder / "pytorch_model.bin")
    assert "cannot be loaded" in broken.fault(use_safetensors=False)
    assert not (tmp_path / "evil").exists()


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (self.path.touch, ())


def test_pickled_weights_of_the_hub_are_fetched_only_when_asked(hub, repo, folders):
    tensors = load_file(folders["main"] / "model.safetensors")
    buffer = io.BytesIO()
    torch.save({k: v.clone() for k, v in tensors.items()}, buffer)
    repo.commit("main", [("deletedFile", {"path": "model.safetensors"})], "gone")
    repo.add({"pytorch_model.bin": buffer.getvalue()})
    start = open_base_checkpoint(wanted())
    codec = Codec.of_pretrained(start.tokenizer)
    assert "model.use_safetensors false takes that" in fault(build_from_checkpoint, wanted(), start, codec, 0)
    assert hub.count("GET", r"\.bin") == 0
    config = wanted(use_safetensors=False)
    model = build_from_checkpoint(config, open_base_checkpoint(config), codec, 0)
    assert model.get_input_embeddings().weight[:300].equal(tensors["model.embed_tokens.weight"][:300])


# ---- tokenizers


def test_a_tokenizer_without_an_end_token_is_reported(broken):
    broken.change("tokenizer_config.json", eos_token=None, bos_token=None, unk_token=None,
                  tokenizer_class="PreTrainedTokenizerFast")  # fmt: skip
    assert "has no end-of-sequence token" in broken.fault()


def test_a_checkpoint_without_a_tokenizer_is_reported(broken):
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (broken.folder / name).unlink()
    assert broken.fault().startswith("model.name_or_path: ")


@pytest.mark.parametrize("text", ["", "{", "{}", '{"model": 3}'])
def test_a_tokenizer_that_is_garbage_is_reported(broken, text):
    (broken.folder / "tokenizer.json").write_text(text)
    assert "cannot be loaded" in broken.fault()


def test_a_slow_tokenizer_is_reported(broken):
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (broken.folder / name).unlink()
    broken.change("tokenizer_config.json", tokenizer_class="CanineTokenizer")
    assert "no fast tokenizer (tokenizer.json)" in broken.fault()


@pytest.mark.parametrize("extra", [200, -200])
@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_a_tokenizer_of_another_model_is_reported(broken, extra, init):
    core = json.loads(checkpoints.core("smollm"))
    vocabulary = core["model"]["vocab"]
    if extra > 0:
        vocabulary |= {f"more{i}": len(vocabulary) + i for i in range(extra)}
    else:
        core["model"]["merges"] = []
        core["model"]["vocab"] = {k: v for k, v in vocabulary.items() if v < len(vocabulary) + extra}
    core["added_tokens"] = core["added_tokens"][:1]
    Tokenizer.from_str(json.dumps(core)).save(str(broken.folder / "tokenizer.json"))
    told = broken.fault(init=init)
    rows = checkpoints.rows_of("smollm")
    assert f"has {rows + extra} tokens, its embedding {rows} rows; they are not of one model" in told


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_more_rows_than_a_number_of_the_machine_holds_are_no_embedding(broken, init):
    broken.change("config.json", vocab_size=10**400)
    assert "GB of memory; this machine has" in broken.fault(init=init)


@pytest.mark.parametrize("named", ["LlamaTokenizer", "GPTNeoXTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer"])
def test_the_tokenizer_is_that_of_its_file_not_of_the_class_that_is_named(broken, named):
    """The named class would make a core of its own."""
    broken.change("tokenizer_config.json", tokenizer_class=named)
    start = open_base_checkpoint(wanted(name_or_path=str(broken.folder)))
    text = "naïve 75+86=2024 <x>[12]"
    raw = Tokenizer.from_file(str(broken.folder / "tokenizer.json"))
    assert start.tokenizer.backend_tokenizer.encode(text).ids == raw.encode(text).ids
    assert start.tokenizer.get_vocab() == raw.get_vocab()


# ---- positions


def test_more_positions_than_the_checkpoint_has_are_reported(broken):
    told = broken.fault(max_positions=513)
    assert told.startswith("model.max_positions: 513 is more than the 512 tokens that ")
    assert open_base_checkpoint(wanted(name_or_path=str(broken.folder), max_positions=40)).limit == 40
    assert open_base_checkpoint(wanted(name_or_path=str(broken.folder))).limit == 512


@pytest.mark.parametrize("kind", checkpoints.KINDS)
def test_the_context_is_that_of_each_family(kind):
    assert context_length(checkpoints.model(kind).config) == 512


@pytest.mark.parametrize("kind", checkpoints.KINDS)
def test_lengths_beyond_the_context_are_reported_before_any_work(kind, tmp_path):
    folder = checkpoints.write(tmp_path / "c", kind)
    config = checkpoints.config(folder, tmp_path / "runs", "eval.lengths=[1,300]")
    with pytest.raises(ConfigError) as caught:
        train(config, progress=False)
    assert [fault.split(" takes ")[0] for fault in caught.value.faults] == [
        "eval.lengths: length 300 of reverse_add",
        "eval.lengths: length 300 of no_carry",
    ]
    assert all(f"; the context of '{folder}' is 512" in fault for fault in caught.value.faults)
    assert not (tmp_path / "runs").exists()


def test_a_text_that_is_longer_than_the_context_is_reported(folders, tmp_path):
    rows = [{"task": "t", "length": 1, "prompt": p, "target": "the"} for p in ("of a", "a " * 600)]
    data = f"data={{source: dataset, path: '{tmp_path / 'data'}'}}"
    for split in ("train", "test"):
        Dataset.from_list(rows).to_json(tmp_path / "data" / f"{split}.jsonl")
    config = checkpoints.config(
        folders["main"], tmp_path / "runs", "mixture=[{task: t, role: target, lengths: [1, 1]}]",
        "model.tokenizer=text", data, "eval.lengths=[1,1]",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="512"):
        train(config, progress=False)
    assert not (tmp_path / "runs").exists()
