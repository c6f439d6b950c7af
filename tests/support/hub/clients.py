"""The real clients against the test Hub, each in its own process: `python -m tests.support.hub.clients NAME`.

HF_ENDPOINT and its like are read at import, so the tests start these with the environment set.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def refused(error, status):
    """Holds that the Hub refuses, with this exception and HTTP status."""
    try:
        yield
    except error as caught:
        if caught.response.status_code != status:
            raise
    else:
        raise AssertionError(f"no {error.__name__}")


def files_and_refs() -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

    api = HfApi()
    assert api.whoami()["name"] == "org"
    url = api.create_repo("org/files", repo_type="dataset")
    assert (url.repo_id, url.repo_type) == ("org/files", "dataset")
    assert api.create_repo("org/files", repo_type="dataset", exist_ok=True) == url
    at = {"repo_id": "org/files", "repo_type": "dataset"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "deep/er").mkdir(parents=True)
        for path in ("a.txt", "deep/b.txt", "deep/er/c d.txt"):
            (folder / path).write_text(path)
        (folder / "deep/x.parquet").write_bytes(b"x" * 1000)
        first = api.upload_folder(folder_path=folder, **at).oid
        (folder / "a.txt").unlink()
        api.upload_folder(folder_path=folder, delete_patterns="*.txt", **at)
    everything = {".gitattributes", "a.txt", "deep/b.txt", "deep/er/c d.txt", "deep/x.parquet"}
    assert set(api.list_repo_files(revision=first, **at)) == everything
    assert set(api.list_repo_files(**at)) == everything - {"a.txt"}

    tree = {entry.path: entry for entry in api.list_repo_tree(path_in_repo="deep", revision=first, **at)}
    assert set(tree) == {"deep/b.txt", "deep/er", "deep/x.parquet"}
    assert hasattr(tree["deep/er"], "tree_id")
    assert tree["deep/x.parquet"].lfs.size == 1000
    assert {e.path for e in api.list_repo_tree(recursive=True, expand=True, **at)} >= {"deep/er/c d.txt"}
    assert [e.path for e in api.get_paths_info(paths=["deep", "none", "deep/b.txt"], **at)] == [
        "deep",
        "deep/b.txt",
    ]

    api.create_branch(branch="dev/1", revision=first, **at)
    api.create_branch(branch="dev/1", exist_ok=True, **at)
    api.create_tag(tag="v1", revision="dev/1", **at)
    refs = api.list_repo_refs(**at)
    assert {b.name: b.target_commit for b in refs.branches}["dev/1"] == refs.tags[0].target_commit == first
    assert api.dataset_info("org/files", revision="v1").sha == first
    sizes = {s.rfilename: s.size for s in api.repo_info(files_metadata=True, **at).siblings}
    assert sizes["deep/x.parquet"] == 1000
    assert len(api.list_repo_commits(revision="dev/1", **at)) == 2

    operations = [
        CommitOperationAdd("new.txt", b"new"),
        CommitOperationCopy("deep/x.parquet", "y.parquet"),
        CommitOperationCopy("a.txt", "copied.txt"),
        CommitOperationDelete("deep/er/"),
    ]
    head = api.create_commit(
        operations=operations, commit_message="four", revision="dev/1", parent_commit=first, **at
    )
    assert set(api.list_repo_files(revision="dev/1", **at)) == everything - {"deep/er/c d.txt"} | {
        "new.txt",
        "y.parquet",
        "copied.txt",
    }
    _downloads(api, at, first, head.oid)
    assert {d.id for d in api.list_datasets(author="org")} == {"org/files"}
    api.delete_tag(tag="v1", **at)
    api.delete_branch(branch="dev/1", **at)
    assert not api.revision_exists(revision="dev/1", **at)


def _downloads(api, at, first, head) -> None:
    assert Path(api.hf_hub_download(filename="deep/er/c d.txt", **at)).read_text() == "deep/er/c d.txt"
    assert (
        Path(api.hf_hub_download(filename="y.parquet", revision=head[:8], **at)).read_bytes() == b"x" * 1000
    )
    assert (Path(api.snapshot_download(revision=first, **at)) / "a.txt").read_text() == "a.txt"
    assert Path(api.snapshot_download(revision="dev/1", **at)).name == head
    assert api.file_exists(filename="a.txt", revision=first, **at)
    assert not api.file_exists(filename="a.txt", **at)
    assert not api.file_exists(filename="a.txt", repo_id="org/none")


def refusals() -> None:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub import errors as e

    api, stranger, liar = HfApi(), HfApi(token=False), HfApi(token="hf_" + "wrong" * 6)
    api.create_repo("team/hidden", private=True)
    first = api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="team/hidden").oid
    assert api.repo_exists("team/hidden")
    assert api.model_info("team/hidden").private
    assert not stranger.repo_exists("team/hidden")
    with refused(e.RepositoryNotFoundError, 401):
        stranger.model_info("team/hidden")
    with refused(e.RepositoryNotFoundError, 404):
        api.model_info("team/none")
    with refused(e.RepositoryNotFoundError, 404):
        api.model_info("gpt2")
    with refused(e.RevisionNotFoundError, 404):
        api.model_info("team/hidden", revision="none")
    with refused(e.RemoteEntryNotFoundError, 404):
        api.hf_hub_download("team/hidden", "none")
    with refused(e.RemoteEntryNotFoundError, 404):
        list(api.list_repo_tree("team/hidden", "none"))
    with refused(e.HfHubHTTPError, 401):
        liar.whoami()
    api.update_repo_settings("team/hidden", private=False)
    assert stranger.repo_exists("team/hidden")
    with refused(e.HfHubHTTPError, 401):
        stranger.upload_file(path_or_fileobj=b"2", path_in_repo="a", repo_id="team/hidden")
    with refused(e.HfHubHTTPError, 401):
        stranger.create_repo("org/new")
    with refused(e.HfHubHTTPError, 403):
        api.create_repo("other/new")
    with refused(e.HfHubHTTPError, 403):
        api.upload_file(path_or_fileobj=b"2", path_in_repo="a", repo_id="other/theirs")
    with refused(e.HfHubHTTPError, 409):
        api.create_repo("team/hidden")
    second = api.upload_file(path_or_fileobj=b"2", path_in_repo="a", repo_id="team/hidden").oid
    with refused(e.HfHubHTTPError, 412):
        operations = [CommitOperationAdd("a", b"3")]
        api.create_commit("team/hidden", operations, commit_message="late", parent_commit=first)
    assert api.model_info("team/hidden").sha == second
    with refused(e.RemoteEntryNotFoundError, 404):
        api.delete_file("none", "team/hidden")
    api.delete_repo("team/hidden")
    assert not api.repo_exists("team/hidden")


def data() -> None:
    from datasets import Dataset, DatasetDict, load_dataset
    from huggingface_hub import HfApi

    def made(start):
        split = {"train": range(start, start + 50), "test": range(5)}
        return DatasetDict({k: Dataset.from_dict({"n": list(v)}) for k, v in split.items()})

    api, name = HfApi(), "org/numbers"
    # In this order: datasets 5.2 fails when a second configuration is made the default.
    made(1000).push_to_hub(name, "large", set_default=True)
    made(0).push_to_hub(name, "small")
    old = api.dataset_info(name).sha
    made(7).push_to_hub(name, "small")
    made(9).push_to_hub(name, "small", revision="dev")

    def first(config, **options):
        return next(iter(load_dataset(name, config, split="train", **options)))["n"]

    for options in ({}, {"streaming": True}):
        assert first("small", **options) == 7
        assert first("large", **options) == 1000
        assert first("small", revision=old, **options) == 0
        assert first("small", revision="dev", **options) == 9
    assert load_dataset(name)["test"]["n"][:] == [0, 1, 2, 3, 4]
    assert {c["config_name"] for c in api.dataset_info(name).card_data["configs"]} == {"small", "large"}
    # A rerun has nothing to upload and changes nothing.
    before = api.dataset_info(name).sha
    made(7).push_to_hub(name, "small")
    assert api.dataset_info(name).sha == before
    _weather(made)


def _weather(made) -> None:
    """Pushes to and loads from a repository whose requests the test makes fail, until both worked."""
    from datasets import load_dataset
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import _http

    _http.time.sleep = lambda seconds: None  # the clients wait a second and more after each fault
    for _ in range(20):
        try:
            made(3).push_to_hub("org/weather")
            loaded = load_dataset("org/weather", split="train", download_mode="force_redownload")
            break
        except (HfHubHTTPError, _http.httpx2.TransportError, RuntimeError, OSError) as error:
            last = error
    else:
        raise last
    assert loaded["n"][0] == 3


def faulty() -> None:
    """Meets the faults that `test_clients.FAULTS` scripts, in their order."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import _http

    _http.time.sleep = lambda seconds: None
    constants.DOWNLOAD_CHUNK_SIZE = 1000  # what a cut download keeps and resumes after, 10 MB otherwise
    api, name = HfApi(), "org/faulty"
    api.create_repo(name)  # met by a 409, which the client asks again after

    def upload(path):
        api.upload_file(path_or_fileobj=path.encode() * 5000, path_in_repo=path, repo_id=name)

    for path, error in (
        ("refused", HfHubHTTPError),
        ("unsent", _http.httpx2.TransportError),
        ("unanswered", _http.httpx2.TransportError),
        ("misreported", HfHubHTTPError),
    ):
        try:
            upload(path)
        except error:
            continue
        raise AssertionError(f"{path}: no {error.__name__}")
    assert set(api.list_repo_files(name)) == {".gitattributes", "unanswered", "misreported"}
    upload("big.safetensors")
    assert Path(api.hf_hub_download(name, "big.safetensors")).read_bytes() == b"big.safetensors" * 5000


def model() -> None:
    import torch
    from huggingface_hub import HfApi
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers import PreTrainedTokenizerFast as Fast

    api, name = HfApi(), "org/tiny"
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    made = LlamaForCausalLM(LlamaConfig(vocab_size=8, num_key_value_heads=2, **size))
    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2}, unk_token="<unk>"))
    made.push_to_hub(name)
    old = api.model_info(name).sha
    Fast(tokenizer_object=words, unk_token="<unk>").push_to_hub(name)
    weights = made.lm_head.weight.detach().clone()
    with torch.no_grad():
        made.lm_head.weight += 1
    made.push_to_hub(name, revision="dev")
    for revision, expected in (("main", weights), (old, weights), ("dev", weights + 1)):
        loaded = AutoModelForCausalLM.from_pretrained(name, revision=revision)
        assert torch.equal(loaded.lm_head.weight, expected), revision
    assert AutoTokenizer.from_pretrained(name, revision="main")("b")["input_ids"] == [2]
    assert json.loads(Path(api.hf_hub_download(name, "config.json")).read_text())["vocab_size"] == 8


CLIENTS = {client.__name__: client for client in (files_and_refs, refusals, faulty, data, model)}

if __name__ == "__main__":
    start = time.perf_counter()
    CLIENTS[sys.argv[1]]()
    sys.stdout.write(f"{sys.argv[1]} took {time.perf_counter() - start:.1f} s\n")
