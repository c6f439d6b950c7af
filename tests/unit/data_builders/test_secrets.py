"""Tokens and passwords: never in a config, never in what is printed."""

import os
from pathlib import Path

import huggingface_hub
import pytest

from data_builders.hub.push import DestinationError, check_destination
from data_builders.redaction import holds_secret, redact
from hf_lgt import ConfigError, load_config
from hf_lgt.commands import cli
from hf_lgt.config.files import secret_faults
from hf_lgt.config.load import config_from_dict
from hf_lgt.utils import yaml
from tests.conftest import ROOT

DEMO = ROOT / "recipes" / "demo" / "transfer.yaml"
HF = "hf_" + "aB3dE6gH9j" * 3 + "kLm4"
WANDB = "0123456789abcdef" * 2 + "01234567"
SECRETS = {
    "a token of the Hub": HF,
    "a login in an address": "https://me:hunter22@host/data.jsonl",
    "a token as a login": "https://ghp_0123456789abcdefghijABCDEFGHIJ@github.com/a/b",
    "a token in an address": "https://host/data.jsonl?token=abc123def",
    "another parameter": "https://host/data.jsonl?a=b&X-Amz-Signature=0a1b2c3d",
    "a key in an address": "https://host/?api_key=abc123def",
    "a key with a hyphen": "https://host/?api-key=abc123def",
    "a token behind a hash": "https://host/#access_token=abc123def",
    "a signature of Azure": "https://host/a?sv=2024&sig=abc123def",
    "a key of a local wandb": "local-" + WANDB,
    "a key of wandb": "wandb_v1_" + "aB3dE6gH9j" * 4,
}
PARTS = (HF, "hunter22", "ghp_0123456789", "abc123def", "0a1b2c3d", WANDB, "aB3dE6gH9j")
PLAIN = [
    "capitalize_reverse", "hf_transformers", "hf_lgt", "a" * 40, WANDB, "HuggingFaceTB/SmolLM2-360M", "main",
    "me@host.org", "ssh://git@github.com/a", "https://host/a?b=c", "the bearer of news", "user:name",
    "runs/2024@10:30", "token=3", "?key=value", "local-search",
]  # fmt: skip
KEYS = [
    "name", "output_dir", "data.path", "data.name", "data.revision", "data.train_split", "model.name_or_path",
    "model.revision", "mixture.0.task", "mixture.0.role", "train.steps", "train.stepz", "eval.lengths",
]  # fmt: skip


def fault(call):
    with pytest.raises(ConfigError) as caught:
        call()
    assert not any(part in str(caught.value) for part in PARTS)
    return caught.value.faults


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_is_seen_and_taken_out(secret):
    assert holds_secret(secret)
    told = redact(f"cannot read '{secret}', see {secret}")
    assert not any(part in told for part in PARTS)
    assert told.startswith("cannot read '")


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_text_is_no_secret(text):
    assert not holds_secret(text)
    assert redact(f"in runs/{text}/seed-0") == f"in runs/{text}/seed-0" or text.startswith("the bearer")


NAMES = [
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "GITHUB_TOKEN", "OPENAI_API_KEY", "CLIENT_SECRET",
    "PGPASSWORD", "AWS_SECRET_ACCESS_KEY",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_secrets_of_the_environment(monkeypatch, name):
    monkeypatch.setenv(name, "of1odd+kind")
    assert redact("<of1odd+kind>") == "<***>"
    assert holds_secret("xof1odd+kindx")
    # a value that was fine before a variable came is looked at again
    assert [*secret_faults({"a": ["xof1odd+kindx"]})]
    monkeypatch.delenv(name)
    assert not [*secret_faults({"a": ["xof1odd+kindx"]})]


def test_other_variables_are_none_and_short_or_plain_words_eat_no_text(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "longenough1")
    monkeypatch.setenv("SOME_TOKEN", "short1")
    monkeypatch.setenv("DB_PASSWORD", "password")
    text = "longenough1 short1 passwords"
    assert redact(text) == text
    assert redact("the password is password.") == "the *** is ***."
    assert not holds_secret("password")


@pytest.mark.parametrize("value", ["no", "test", " ", "", "dummy", "capitalize"])
def test_a_placeholder_in_a_variable_makes_no_config_unusable(monkeypatch, value):
    for name in NAMES:
        monkeypatch.setenv(name, value)
    assert load_config(DEMO).name == "demo-transfer"
    assert value == "capitalize" or redact("no test of a dummy") == "no test of a dummy"


def test_the_longer_of_two_secrets_goes_first(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "abcdefgh1")
    monkeypatch.setenv("B_TOKEN", "abcdefgh1ijklmnop")
    assert redact("abcdefgh1ijklmnop") == "***"


@pytest.mark.parametrize("key", KEYS)
def test_a_config_with_a_secret_is_refused_and_told_without_it(key):
    for secret in SECRETS.values():
        override = f"{key}={yaml.dump(secret).strip()}"
        (told,) = fault(lambda override=override: load_config(DEMO, [override]))
        assert told.startswith(f"{key}: holds a secret, which does not belong in a config")
        assert "HF_TOKEN" in told
        assert "hf auth login" in told


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "MY_PASSWORD"])
def test_a_config_with_a_secret_of_the_environment_is_refused(monkeypatch, name):
    monkeypatch.setenv(name, WANDB)
    (told,) = fault(lambda: load_config(DEMO, [f"data.path={WANDB}"]))
    assert told.startswith("data.path: holds a secret")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (f"mixture: [{{task: x, options: {{a: [{HF}]}}}}]", "mixture.0.options.a.0: holds"),
        (f"{HF}: 1", "config: a key here holds"),
        (f"train: {{{HF}: 1}}", "train: a key here holds"),
        (f"name: a\nname: {HF}\n  b: {HF}", "is not YAML: line "),
        (f"name: [{HF}\nmodel: {HF}", "is not YAML: line "),
        (f"name: !{HF} x", "is not YAML: line "),
        (f"{HF}: 1\n{HF}: 2", "is not YAML: line "),
        (f"base: {HF}", "base: holds"),
        (HF, "config: holds"),
    ],
)
def test_wherever_a_file_holds_a_secret(tmp_path, content, place):
    (tmp_path / "c.yaml").write_text(content)
    told = fault(lambda: load_config(tmp_path / "c.yaml"))
    assert any(place in line for line in told), told
    assert any("holds a secret" in line for line in told)


@pytest.mark.parametrize(
    "override", [HF, f"{HF}=1", f"name.{HF}=1", f"name=[{HF}", f"name=!{HF} 1", f"train.x.{HF}=2"]
)
def test_wherever_an_override_holds_a_secret(override):
    assert any("holds a secret" in told for told in fault(lambda: load_config(DEMO, [override])))


def test_an_override_below_a_secret_does_not_quote_it(tmp_path):
    (tmp_path / "c.yaml").write_text(f"name: {HF}\nbase: {DEMO}\n")
    (told,) = fault(lambda: load_config(tmp_path / "c.yaml", ["name.x=1"]))
    assert told.startswith("name: holds a secret")


def test_the_path_of_a_config_may_be_an_address_with_a_token():
    (told,) = fault(lambda: load_config(SECRETS["a token in an address"]))
    assert told.startswith("--config: holds a secret")


def test_plain_data_with_a_secret_are_refused():
    data = load_config(DEMO).to_dict() | {"output_dir": f"runs/{HF}"}
    (told,) = fault(lambda: config_from_dict(data))
    assert told.startswith("output_dir: holds a secret")


def test_an_override_that_is_refused_for_a_secret_is_not_told_to_be_missing_too():
    overrides = ["data.source=dataset", "data.path=https://me:hunter22@host/a"]
    (told,) = fault(lambda: load_config(DEMO, overrides))
    assert told.startswith("data.path: holds a secret")


@pytest.mark.parametrize("word", [HF, f"--{HF}", f"--seed.init={HF}", "--\x1b[31mx", "\x1b[31mx"])
def test_words_on_the_command_line_are_reported_without_secrets_and_controls(call_recipe, word):
    done = call_recipe("finetune.py", word)
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert not [bad for bad in (*PARTS, "\x1b") if bad in done.stderr]


def be_pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("make", [Path.mkdir, be_pipe, lambda path: path.write_bytes(b"\xff\xfe"), None])
def test_a_stored_token_that_cannot_be_read_hides_no_error(tmp_path, monkeypatch, capsys, make):
    if make:
        make(tmp_path / "token")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert cli.guard(lambda: cli.load_run_config(DEMO, ["train.steps=-5"])) == 2
    assert capsys.readouterr().err == "error: 1 fault:\n  train.steps: -5 must be at least 1\n"


def test_a_stored_token_is_taken_out(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("oauth-token-of-login\n")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert redact("with oauth-token-of-login") == "with ***"


def test_a_push_with_a_stored_token_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "token").mkdir()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(DestinationError, match="the access token cannot be read: IsADirectoryError"):
        check_destination("org/name", None, "model")
