"""Pushing a corpus and a model to a Hub with the real clients, and what faults of the Hub do to it."""

import importlib.util
import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants, parse_eval_result_entries
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import _http, close_session

import data_builders.hub.push as pushing
from data_builders import code_fingerprint as code
from data_builders.hub import retry
from data_builders.hub.push import PushError, push_folder
from data_builders.redaction import redact
from hf_lgt.utils import yaml
from tests.conftest import ROOT, TINY
from tests.support.hub import Faults

SMALL = ["--train_examples", "300", "--eval.lengths", "[1,10]", "--eval.every", "3", "--eval.examples", "8"]


# of the client's own uploads
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def run(call_recipe, monkeypatch):
    """Calls a recipe's main in this process."""
    # somebody may edit the package while the tests run
    monkeypatch.setattr(code, "package", lambda names=None: code.LOADED)

    def call(recipe, *arguments):
        done = call_recipe(recipe, *arguments)
        assert "Traceback" not in done.stdout + done.stderr
        return done

    yield call
    datasets.enable_progress_bars()


@pytest.fixture
def waits(monkeypatch):
    """The seconds that would have been waited, by this project and by the client."""
    waited = []
    monkeypatch.setattr(retry, "PAUSE", waited.append)
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
    return waited


def build(run, repo, out, *more):
    """Push a small corpus; it must go well."""
    done = run("build_dataset.py", *SMALL, "--output", out, "--push_to_hub", repo, *more)
    assert done.returncode == 0, done.stderr
    return done


def rows(repo, name=None, **options):
    loaded = datasets.load_dataset(repo, name, **options)
    return {split: [dict(row) for row in part] for split, part in loaded.items()}


def without(token, hub, *folders):
    """Holds that a token is in no file of these folders, in no repository and in no log of the Hub."""
    for folder in (*folders, Path(constants.HF_HOME)):
        for file in folder.rglob("*"):
            assert token not in str(file)
            assert not file.is_file() or token.encode() not in file.read_bytes(), file
    for repo in hub.store:
        for commit in repo.commits.values():
            assert token not in commit.message
            for path, blob in commit.tree.items():
                assert token.encode() not in path.encode() + blob.data


# ---- corpora


def test_a_pushed_corpus_is_loaded_by_task_streamed_and_at_revisions(run, hub, tmp_path):
    name = "org/trips"
    first = build(run, name, tmp_path / "one", "--seed.data", "1")
    store = hub.store.repo("dataset", name)
    old = store.resolve("main").sha
    assert f"pushed: {hub.endpoint}/datasets/{name}/commit/{old}" in first.stdout
    assert first.stderr == ""
    local = {n: rows(str(tmp_path / "one"), n) for n in ("mixture", "capitalize", "reverse")}
    for config, expected in local.items():
        assert rows(name, config) == expected
        assert rows(name, config, streaming=True) == expected
    assert rows(name) == local["mixture"]
    assert {row["task"] for row in rows(name, "reverse")["test"]} == {"reverse"}

    build(run, name, tmp_path / "two", "--seed.data", "2")
    assert len(store.history()) == 3
    assert rows(name) == rows(str(tmp_path / "two")) != local["mixture"]
    for config, expected in local.items():
        assert rows(name, config, revision=old) == expected
        assert rows(name, config, revision=old, streaming=True) == expected

    build(run, name, tmp_path / "three", "--seed.data", "3", "--revision", "wip/three")
    assert rows(name, revision="wip/three") == rows(str(tmp_path / "three"))
    assert rows(name) == rows(str(tmp_path / "two"))
    # pushed again, it is the same: no commit
    again = build(run, name, tmp_path / "two", "--seed.data", "2")
    assert "holds this corpus already" in again.stdout
    assert len(store.history()) == 3
    without(hub.token, hub, tmp_path)
    assert hub.token not in first.stdout + again.stdout + again.stderr


def test_another_corpus_leaves_nothing_of_the_one_before_and_all_that_is_not_its_own(run, hub, tmp_path):
    name = "org/replaced"
    build(run, name, tmp_path / "one")
    store = hub.store.repo("dataset", name)
    theirs = {
        "LICENSE": b"theirs",
        "figures/train-loss.png": b"png",
        "deep/er/train-00000-of-00001.parquet": b"theirs too",
        "reverse/notes.txt": b"a note",
    }
    store.add({**theirs, "reverse/train-00001-of-00002.parquet": b"a shard of before"})
    mixture = "[{task: capitalize_reverse, role: target, lengths: [1, 8], options: {alphabet: abcd}}]"
    build(run, name, tmp_path / "two", "--mixture", mixture)
    expected = {p.relative_to(tmp_path / "two").as_posix(): p for p in (tmp_path / "two").rglob("*.*")}
    found = store.files()
    assert found == {**theirs, **{path: file.read_bytes() for path, file in expected.items()}}
    assert set(datasets.get_dataset_config_names(name)) == {"mixture", "capitalize_reverse"}
    assert rows(name) == rows(str(tmp_path / "two"))


def test_a_private_corpus_needs_the_token(run, hub, tmp_path, monkeypatch):
    build(run, "team/secret", tmp_path / "one", "--private")
    assert hub.store.repo("dataset", "team/secret").private
    expected = rows(str(tmp_path / "one"))
    assert rows("team/secret") == expected
    # a public one is not made private, so nothing is sent there
    hub.store.create_repo("dataset", "org/public")
    arguments = [*SMALL, "--output", tmp_path / "one", "--push_to_hub", "org/public", "--private"]
    refused = run("build_dataset.py", *arguments)
    assert refused.returncode == 1
    assert "org/public is there and public" in refused.stderr
    assert hub.store.repo("dataset", "org/public").files() == {}
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises((datasets.exceptions.DatasetNotFoundError, RepositoryNotFoundError)):
        rows("team/secret", cache_dir=tmp_path / "none")


def test_who_may_see_a_new_repository_is_left_to_the_namespace(run, hub, tmp_path, monkeypatch):
    asked = []
    create = HfApi.create_repo
    monkeypatch.setattr(
        HfApi, "create_repo", lambda *a, **k: (asked.append(k["private"]), create(*a, **k))[1]
    )
    build(run, "org/as-it-is", tmp_path / "one")
    assert asked == [None]


# ---- models


def tiny_arguments(*extra):
    return [f"--{override}" for override in [*TINY, *extra]]


def from_hub(repo):
    """Overrides that train from the rows of a corpus on the Hub."""
    empty = [f"mixture.{k}.options={{}}" for k in range(3)]
    return ["data.source=dataset", f"data.path={repo}", *empty]


@pytest.fixture
def corpus(run, hub, tmp_path):
    """A corpus on the Hub with test rows of all lengths of the tiny config."""
    more = ["--eval.every", "1", "--eval.examples", "16", "--train_examples", "600"]
    build(run, "org/corpus", tmp_path / "corpus", *more)
    return "org/corpus"


def test_a_model_trained_from_the_hub_is_pushed_with_its_results(run, hub, tmp_path, corpus, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    revision = hub.store.repo("dataset", corpus).resolve("main").sha
    arguments = tiny_arguments(f"output_dir={tmp_path / 'runs'}", *from_hub(corpus))
    arguments += ["--push_to_hub", "team/model"]
    done = run("finetune.py", *arguments)
    assert done.returncode == 0, done.stderr
    store = hub.store.repo("model", "team/model")
    url = f"{hub.endpoint}/team/model/commit/{store.resolve('main').sha}"
    assert f"pushed: {url}" in done.stdout
    run_dir = tmp_path / "runs/tiny/seed-0"
    assert json.loads((run_dir / "data.json").read_text())["revision"] == revision

    model = AutoModelForCausalLM.from_pretrained("team/model")
    saved = AutoModelForCausalLM.from_pretrained(run_dir / "model")
    assert all((a == b).all() for a, b in zip(model.parameters(), saved.parameters(), strict=True))
    tokenizer = AutoTokenizer.from_pretrained("team/model")
    assert tokenizer.decode(tokenizer("<reverse>abc")["input_ids"][-3:]).replace(" ", "") == "abc"

    records = [json.loads(line) for line in (run_dir / "eval.jsonl").read_text().splitlines()]
    last = {(r["task"], r["length"]): r["exact_match"] for r in records if r["step"] == 12}
    card = ModelCard.load("team/model")
    assert card.data.datasets == [corpus]
    assert "base_model" not in card.data.to_dict()
    results = card.data.eval_results
    found = {(r.dataset_config, r.metric_args["length"]): r.metric_value for r in results}
    assert found == pytest.approx(last, abs=1e-6)
    assert {(r.dataset_type, r.dataset_revision, r.metric_type) for r in results} == {
        (corpus, revision, "exact_match")
    }
    assert f"`{corpus}` at revision `{revision}`" in card.text

    pushed = store.files()
    entries = parse_eval_result_entries(yaml.load(pushed[".eval_results/hf_lgt.yaml"].decode()))
    assert {(e.dataset_id, e.dataset_revision) for e in entries} == {(corpus, revision)}
    assert {e.task_id: e.value for e in entries} == pytest.approx(
        {f"{task}_length_{length}": value for (task, length), value in last.items()}, abs=1e-6
    )
    assert b"output_dir" not in pushed["run/config.yaml"]
    for name in ("eval.jsonl", "train.jsonl", "data.json", "environment.json", "curves.png"):
        assert pushed[f"run/{name}"] == (run_dir / name).read_bytes()

    # a rerun only pushes: here over what an earlier, larger model left, and a user's own file
    left = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "run/mistakes.png"]
    store.add({**dict.fromkeys(left, b"old"), "adapter.safetensors": b"mine", "run/mine.txt": b"mine"})
    before = {p: p.stat().st_mtime_ns for p in (run_dir / "model").iterdir()}
    again = run("finetune.py", *arguments)
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in (run_dir / "model").iterdir()} == before
    assert store.files() == {**pushed, "adapter.safetensors": b"mine", "run/mine.txt": b"mine"}
    other = run("finetune.py", *arguments, "--train.steps", "6")
    assert other.returncode == 2
    assert "holds a run of another config" in other.stderr

    # evaluated again after the data changed on the Hub: on the rows that it was trained for
    build(run, corpus, tmp_path / "newer", "--seed.data", "7", "--eval.seed", "7")
    scored = run("evaluate.py", run_dir, "--output", tmp_path / "scored")
    assert scored.returncode == 0, scored.stderr
    again = [json.loads(line) for line in (tmp_path / "scored/eval.jsonl").read_text().splitlines()]
    assert {(r["task"], r["length"]): r["exact_match"] for r in again} == last
    without(hub.token, hub, tmp_path)
    assert hub.token not in done.stdout + done.stderr


def test_an_interrupted_run_goes_on_with_the_rows_it_began_with(run, hub, tmp_path, corpus, monkeypatch):
    from hf_lgt.checkpointing.checkpoints import CheckpointWriter

    arguments = tiny_arguments(f"output_dir={tmp_path / 'runs'}", *from_hub(corpus))
    arguments += ["--push_to_hub", "org/resumed"]
    store, write = hub.store.repo("dataset", corpus), CheckpointWriter.write
    revision = store.resolve("main").sha

    def stop(*settings):
        write(*settings)
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(CheckpointWriter, "write", stop)
        stopped = run("finetune.py", *arguments)
    assert stopped.returncode == 130
    assert hub.store.find("model", "org/resumed") is None
    build(run, corpus, tmp_path / "newer", "--seed.data", "7")
    assert store.resolve("main").sha != revision
    done = run("finetune.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "resumes from step 6" in done.stdout
    assert json.loads((tmp_path / "runs/tiny/seed-0/data.json").read_text())["revision"] == revision
    assert f"`{corpus}` at revision `{revision}`" in ModelCard.load("org/resumed").text


def test_a_model_of_generated_data_names_no_dataset(hub, tiny_run, waits):
    from hf_lgt.workflows.publish import push_run

    push_run(tiny_run, "org/generated")
    card = ModelCard.load("org/generated")
    assert card.data.datasets is None
    assert {r.dataset_type for r in card.data.eval_results} == {"generated"}
    assert not any(
        path.startswith(".eval_results") for path in hub.store.repo("model", "org/generated").files()
    )


# ---- a user's mistakes


@pytest.mark.parametrize("recipe", ["build_dataset.py", "finetune.py"])
@pytest.mark.parametrize(
    ("arguments", "case", "told"),
    [
        (["--push_to_hub", "a b/c"], "", "'a b/c' is no name of a repository"),
        (["--push_to_hub", "org/a/b"], "", "'org/a/b' is no name of a repository"),
        (["--push_to_hub", ""], "", "'' is no name of a repository"),
        (["--push_to_hub", "corpus"], "", "must name whose it is, as in my-org/corpus"),
        (["--push_to_hub", "org/c"], "none", "needs a token that may write: run 'hf auth login'"),
        (["--push_to_hub", "org/c"], "hf_" + "foreign" * 5, "the Hub does not accept the token (status 401)"),
        (["--push_to_hub", "org/c"], "read", "this one may only read"),
        (["--push_to_hub", "nobody/c"], "", "'nobody/c' is not yours; the token writes to org, team"),
        (["--private"], "", "--private: is for --push_to_hub, which is not given"),
        (["--push_to_hub", "org/c", "--revision", "a..b"], "", "--revision: 'a..b' must be the name"),
        (["--push_to_hub", "org/c", "--revision", "a b"], "", "--revision: 'a b' must be the name"),
        (["--push_to_hub", "org/c", "--revision", "x.lock"], "", "--revision: 'x.lock' must be the name"),
        (["--push_to_hub", "org/c", "--revision", "refs/pr/1"], "", "must be the name of a branch"),
        (["--push_to_hub", "org/c", "--revision", "0" * 40], "", "must be the name of a branch"),
        (["--push_to_hub", "org/c"], "unreachable", "the Hub cannot be asked who you are: ConnectError"),
        (["--push_to_hub", "org/c"], "down", "the Hub cannot be asked who you are: HfHubHTTPError"),
    ],
)
def test_mistakes_are_reported_before_any_work(
    run, hub, waits, tmp_path, monkeypatch, recipe, arguments, case, told
):
    if case == "none":
        monkeypatch.delenv("HF_TOKEN")
    elif case.startswith("hf_"):
        monkeypatch.setenv("HF_TOKEN", case)
    elif case == "read":
        hub.role = "read"
    elif case == "unreachable":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif case == "down":
        # such as a proxy does that shows what it was sent
        hub.fail_next("GET", "whoami", 503, times=100, message=f"asked with Bearer {hub.token}")
    options = ["--output", tmp_path / "out"] if recipe == "build_dataset.py" else []
    done = run(recipe, "--output_dir", tmp_path / "runs", *options, *arguments)
    assert done.returncode == (1 if case in ("unreachable", "down") else 2)
    assert told in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
    assert list(hub.store) == []
    assert hub.token not in done.stderr
    assert not case.startswith("hf_") or case not in done.stderr
    assert len(waits) == (3 if done.returncode == 1 else 0)
    if case == "unreachable":
        close_session()


def test_a_client_that_is_told_to_stay_offline_is_reported_once(run, hub, waits, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()  # the client looks when it is made
    done = run("build_dataset.py", "--output", tmp_path / "out", "--push_to_hub", "org/c")
    close_session()
    assert done.returncode == 1
    assert "offline" in done.stderr
    assert waits == []


def test_nothing_of_a_token_is_reported(hub, monkeypatch):
    token = hub.token
    for text in (
        f"Illegal header value b'Bearer {token}'",
        f"http://user:{token}@host/x",
        f"https://s3/x?token={token}&X-Amz-Signature=abcdef0123&Signature=zyx987",
        "the token hf_" + "OtherSecret" * 3,
        "authorization: bearer secret-of-mine-1234",
        "https://me:hunter22@host/x",
    ):
        told = redact(text)
        for secret in (token, "OtherSecret", "abcdef0123", "zyx987", "secret-of-mine", "hunter22"):
            assert secret not in told
    monkeypatch.setenv("HF_TOKEN", "of an odd kind")
    assert redact("<of an odd kind>") == "<***>"


# ---- faults of the Hub


def write(folder, text, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text} {name} " * 200)
    (folder / "README.md").write_text(f"# {text}\n")
    return folder


@pytest.fixture
def pushed(hub, tmp_path, waits, news):
    """A repository with an old corpus, and the push of a new one while every state is looked at."""
    old = write(tmp_path / "old", "old", "a/train-0.parquet", "b/train-0.parquet", "notes.txt")
    new = write(tmp_path / "new", "new", "a/train-0.parquet", "c/train-0.parquet", "c/test-0.parquet")
    settings = {"repo_type": "dataset", "message": "m", "replaces": ["*/train-*.parquet", "*/test-*.parquet"]}
    name = "org/faults"
    push_folder(old, name, **settings)
    store, seen, record = hub.store.repo("dataset", name), [], hub.record
    before = store.files()
    new_files = {p.relative_to(new).as_posix(): p.read_bytes() for p in new.rglob("*.*")}
    after = {**new_files, "notes.txt": before["notes.txt"]}
    waits.clear()

    def look(*request):
        state = store.files()
        seen.append("old" if state == before else "new" if state == after else "neither")
        record(*request)

    hub.record = look

    def push(**more):
        return push_folder(new, name, **{**settings, **more})

    yield SimpleNamespace(
        push=push, store=store, said=news, seen=seen, before=before, after=after, new=new, waits=waits
    )
    del hub.record
    assert hub.token not in "\n".join(news)


FAULTS = {  # what fails, how, and how many attempts of the whole push fail with it: the client has its own
    "creating, conflict": ("POST", "repos/create", 409, {}, 0),
    "creating, down": ("POST", "repos/create", 503, {"times": 3}, 3),
    "looking up, limited": ("GET", "/revision/|/api/datasets/org/faults$", 429, {"retry_after": 7}, 1),
    "listing, cut": ("GET", "/tree/", "cut", {}, 0),
    "card, failed": ("POST", "validate-yaml", 500, {}, 1),
    "preupload, cut": ("POST", "/preupload/", "cut", {}, 0),
    "batch, down": ("POST", "objects/batch", 503, {}, 0),
    "upload, cut in the middle": ("PUT", "/lfs/", "cut", {"times": 2}, 0),
    "upload, refused for long": ("PUT", "/lfs/", 500, {"times": 16}, 1),
    "verify, lost": ("POST", "lfs/verify", "cut", {"after": True}, 0),
    "commit, conflict": ("POST", "/commit/", 409, {}, 1),
    "commit, changed": ("POST", "/commit/", 412, {}, 1),
    "commit, limited": ("POST", "/commit/", 429, {"retry_after": 40, "times": 2}, 2),
    "commit, failed": ("POST", "/commit/", 500, {"times": 7}, 7),
    "commit, down": ("POST", "/commit/", 503, {}, 1),
    "commit, slow": ("POST", "/commit/", "slow", {"seconds": 0.2}, 0),
    "commit, cut": ("POST", "/commit/", "cut", {}, 1),
    "commit, answer lost": ("POST", "/commit/", "cut", {"after": True}, 1),
    "commit, answer wrong": ("POST", "/commit/", 500, {"after": True}, 1),
    "no JSON": ("POST", "validate-yaml", 502, {"message": "<html>"}, 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_push_gets_over_a_fault_and_shows_a_whole_state_all_the_time(hub, pushed, fault, caplog):
    method, path, kind, options, attempts = FAULTS[fault]
    hub.fail_next(method, path, kind, **options)
    url = pushed.push()
    assert hub.script.pending == 0
    assert pushed.store.files() == pushed.after
    assert url.endswith(pushed.store.resolve("main").sha)
    assert len(pushed.store.history()) == 3  # one commit, whatever was tried how often
    assert set(pushed.seen) == {"old", "new"}
    assert len(pushed.said) == len(pushed.waits) == attempts
    asked = options.get("retry_after", 0)
    assert all(wait >= asked for wait in pushed.waits)
    assert max(pushed.waits, default=0) <= 60
    assert "signature=" not in caplog.text.replace("signature=***", "")


def test_a_push_that_was_overtaken_is_made_upon_what_is_there_now(hub, pushed, monkeypatch):
    commit = HfApi.create_commit

    def overtaken(*arguments, **settings):
        monkeypatch.setattr(HfApi, "create_commit", commit)
        pushed.store.add({"z/train-9.parquet": b"of another push", "theirs.txt": b"theirs"})
        return commit(*arguments, **settings)

    monkeypatch.setattr(HfApi, "create_commit", overtaken)
    pushed.push()
    assert "412" in pushed.said[0]
    assert pushed.store.files() == {**pushed.after, "theirs.txt": b"theirs"}


@pytest.mark.parametrize(
    ("path", "kind", "attempts"), [("/commit/", 503, 8), ("/commit/", 403, 1), ("/preupload/", 400, 1)]
)
def test_a_push_that_fails_leaves_the_old_state_and_a_rerun_completes_it(hub, pushed, path, kind, attempts):
    hub.fail_next("POST", path, kind, times=100, message=f"no, {hub.token}, no")
    with pytest.raises(PushError, match="the same command tries again") as error:
        pushed.push()
    assert hub.token not in str(error.value)
    assert str(kind) in str(error.value) or "BadRequest" in str(error.value)
    assert error.value.__cause__ is None
    assert len(pushed.waits) == attempts - 1
    assert set(pushed.seen) == {"old"}
    hub.clear_faults()
    sent = hub.count("PUT", "/lfs/")
    pushed.push()
    assert pushed.store.files() == pushed.after
    assert hub.count("PUT", "/lfs/") - sent == (0 if path == "/commit/" else 3)  # only what the Hub lacks


def test_a_push_through_random_faults(hub, pushed):
    for seed in range(6):
        hub.faults = Faults(seed, 0.25)
        try:
            pushed.push()
        except PushError:
            continue
        finally:
            hub.faults = None
        assert pushed.store.files() == pushed.after
    assert set(pushed.seen) == {"old", "new"}
    assert len(pushed.store.history()) == 3


def test_one_commit_holds_all_even_where_the_client_would_make_several(hub, pushed, monkeypatch):
    """With hf_xet, `HfApi.upload_folder` cuts a push into commits that are visible one by one."""
    monkeypatch.setattr("huggingface_hub.hf_api.is_xet_available", lambda: True)
    monkeypatch.setattr("huggingface_hub._upload_pipeline.COMMIT_SIZE_SCALE", [1] * 10)
    pushed.push()
    assert len(pushed.store.history()) == 3
    assert set(pushed.seen) == {"old", "new"}


def test_a_push_shows_no_bars_and_no_signatures_to_a_file(hub, pushed, capfd):
    hub.fail_next("PUT", "/lfs/", 503)
    log = logging.StreamHandler(sys.stderr)
    logging.getLogger("huggingface_hub").addHandler(log)
    try:
        pushed.push()
    finally:
        logging.getLogger("huggingface_hub").removeHandler(log)
    out, err = capfd.readouterr()
    assert out == ""
    assert "503 thrown while requesting PUT" in err
    assert "signature=***" in err
    assert "%|" not in err


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 2.0),
        ({"Retry-After": "9"}, 9.0),
        ({"Retry-After": "1"}, 2.0),
        ({"Retry-After": "99999"}, 300.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 2.0),
        ({"Retry-After": "nan"}, 2.0),
        ({"RateLimit": '"api";r=0;t=55'}, 55.0),
        ({"RateLimit": '"api";r=12;t=55'}, 2.0),
    ],
)
def test_the_pause_is_what_the_hub_asks_for(headers, expected):
    error = RuntimeError("wrapped")
    error.__cause__ = OSError("limited")
    error.__cause__.response = SimpleNamespace(headers=headers, status_code=429)
    assert retry.wait(error, 3) == expected


def test_what_cannot_pass_is_not_tried_again(hub, pushed, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", "a/train-0.parquet")

    monkeypatch.setattr(CommitOperationAdd, "__post_init__", denied)
    with pytest.raises(PushError, match="PermissionError"):
        pushed.push()
    assert pushed.waits == []


@pytest.mark.parametrize("within", ["create_commit", "_upload_xet_files"])
def test_of_errors_without_a_class_only_those_of_an_upload_are_tried_again(hub, pushed, monkeypatch, within):
    def fail(*_, **__):
        raise RuntimeError("something is wrong")

    def _upload_xet_files(*_, **__):  # has a frame of this name, as the client's own has
        fail()

    monkeypatch.setattr(HfApi, "create_commit", fail if within == "create_commit" else _upload_xet_files)
    with pytest.raises(PushError, match="something is wrong"):
        pushed.push()
    assert len(pushed.waits) == (0 if within == "create_commit" else retry.ATTEMPTS - 1)


@pytest.mark.parametrize(
    "answer", [[], "<html>", {}, {"name": "org", "orgs": [{}]}, {"name": "org", "auth": None}, {"orgs": None}]
)
def test_an_answer_that_does_not_say_who_asks_is_reported(hub, monkeypatch, answer):
    monkeypatch.setattr(HfApi, "whoami", lambda self: answer)
    with pytest.raises(PushError, match="the Hub's answer does not say who you are"):
        pushing.check_destination("org/c", None, "dataset")


def test_files_beside_those_that_are_named_are_not_pushed(hub, pushed):
    (pushed.new / ".env").write_text("KEY=secret")
    pushed.push(
        names=[p.relative_to(pushed.new).as_posix() for p in pushed.new.rglob("*.*") if p.name != ".env"]
    )
    assert pushed.store.files() == pushed.after


def test_a_short_soak(hub, tmp_path, monkeypatch):
    from data_builders.corpus import folder

    monkeypatch.setattr(folder, "SHARD_BYTES", folder.SHARD_BYTES)
    spec = importlib.util.spec_from_file_location("push_faults", ROOT / "benchmarks/push_faults.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "push_faults", module)
    spec.loader.exec_module(module)
    datasets.disable_progress_bars()
    try:
        result = module.soak(hub, 2, 0, 0.25, tmp_path)
    finally:
        datasets.enable_progress_bars()
    assert result["commits"] == 2
    assert result["first_runs"]["killed"] >= 1
    assert sum(result["faults"].values()) > 0


@pytest.mark.parametrize(
    ("kind", "path"), [("dataset", "data/train-0.parquet"), ("model", "model.safetensors")]
)
def test_what_somebody_else_made_is_not_replaced(hub, kind, path):
    there = hub.store.create_repo(kind, "org/theirs")
    there.add({path: b"theirs", "README.md": b"theirs"}, "theirs")
    with pytest.raises(pushing.DestinationError, match=f"holds a {kind} that hf_lgt did not push"):
        pushing.check_destination("org/theirs", None, kind)
    with pytest.raises(pushing.DestinationError, match="name another repository"):
        pushing.check_destination("org/theirs", "a-new-branch", kind)
    there.add({pushing.OURS[kind]: b"ours"}, "ours")
    pushing.check_destination("org/theirs", None, kind)
    pushing.check_destination("org/new", None, kind)
