"""Paths that a user gives: a home folder, brackets, letters that the locale lacks."""

import os

import pytest

from hf_lgt import ConfigError, load_config
from hf_lgt.pretraining.config import load_pretrain_config
from tests.conftest import ROOT

DEMO = ROOT / "recipes" / "demo" / "transfer.yaml"
PRETRAIN = ROOT / "recipes" / "pretrained_demo" / "pretrain.yaml"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["finetune.py", "--config=~/none.yaml"],
        ["finetune.py", "--config", "~/none.yaml", "x.yaml"],
        ["finetune.py", "--resume=~/none.yaml"],
        ["pretrain.py", "--config=~/none.yaml"],
        ["evaluate.py", "~/none.yaml"],
        ["evaluate.py", "x", "--config=~/none.yaml"],
        ["compare.py", "~/none.yaml"],
        ["sweep.py", "~/none.yaml"],
        ["report.py", "~/none.yaml"],
        ["analyze.py", "heads", "~/none.yaml"],
        ["analyze.py", "patch", "~/none.yaml", "--into=~/none.yaml"],
        ["analyze.py", "predict", "~/none.yaml", "--related=~/none.yaml"],
        ["build_dataset.py", "--config=~/none.yaml"],
    ],
)
def test_every_recipe_finds_what_lies_in_the_home_folder(call_recipe, home, words):
    (home / "x").mkdir()
    (home / "x" / "config.json").write_text("{}")
    done = call_recipe(*words)
    assert done.returncode == 2
    assert f"{home}/none.yaml" in done.stderr
    assert "~" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["report.py", "runs", "--output=~/file"],
        ["build_dataset.py", "--output=~/file"],
        ["build_dataset.py", "--lm_eval=~/file", "--output=~/new"],
        ["language/build.py", "initials", "--output=~/file"],
    ],
)
def test_every_recipe_writes_into_the_home_folder(call_recipe, home, words):
    (home / "file").touch()
    (home / "runs").mkdir()
    done = call_recipe(*words)
    assert done.returncode == 2
    assert f"{home}/file" in done.stderr
    assert sorted(p.name for p in home.iterdir()) == ["file", "runs"]


def test_a_home_folder_in_a_config_is_that_of_the_user(home):
    config = load_config(DEMO, ["output_dir=~/runs", "data.source=dataset", "data.path=~/rows"])
    assert (config.output_dir, config.data.path) == (f"{home}/runs", f"{home}/rows")
    (home / "c.yaml").write_text("base: ~/b.yaml\n")
    (home / "b.yaml").write_text(DEMO.read_text())
    assert load_config(home / "c.yaml", ["output_dir='~'"]).output_dir == str(home)
    own = load_pretrain_config(PRETRAIN, ["output_dir=~/p", "text.source=files", "text.files=[~/a, b/~]"])
    assert (own.output_dir, own.text.files) == (f"{home}/p", [f"{home}/a", "b/~"])


@pytest.mark.parametrize("key", ["output_dir", "model.name_or_path"])
def test_a_home_folder_of_nobody_is_refused(key):
    with pytest.raises(ConfigError) as caught:
        load_config(DEMO, [f"{key}=~nobody-here/runs"])
    assert f"{key}: '~nobody-here/runs' names no home folder; for a folder of that name write './~" in str(
        caught.value
    )


def test_letters_that_file_names_cannot_have_are_refused(monkeypatch):
    def encode(path):
        return str(path).encode("ascii")

    monkeypatch.setattr(os, "fsencode", encode)
    with pytest.raises(ConfigError) as caught:
        load_config(DEMO, ["output_dir=räksmörgås"])
    assert "output_dir: 'räksmörgås' has letters that file names cannot have in this locale" in str(
        caught.value
    )


def test_brackets_in_the_name_of_a_folder_are_no_pattern(tmp_path, monkeypatch):
    from hf_lgt.pretraining.documents import _listed

    folder = tmp_path / "runs[1]" / "*"
    (folder / "deep").mkdir(parents=True)
    for name in ("a[2].txt", "b.txt", "deep/c.txt", "d.md"):
        (folder / name).touch()

    def names(*entries):
        return sorted(path.relative_to(tmp_path).as_posix() for path in _listed(entries))

    assert names(f"{folder}/a[2].txt") == ["runs[1]/*/a[2].txt"]
    assert names(f"{folder}/*.txt") == ["runs[1]/*/a[2].txt", "runs[1]/*/b.txt"]
    assert names(f"{folder}/**/*.txt") == names(f"{folder}/*.txt", f"{folder}/deep")
    assert names(f"{tmp_path}/run*/*/[bc].txt") == ["runs[1]/*/b.txt"]
    monkeypatch.chdir(folder)
    assert {str(p) for p in _listed(["*.md", "d*/*.txt"])} == {"d.md", "deep/c.txt"}
    for entry in ("", "none[1].txt", "a\0b", "/none/*"):
        with pytest.raises(ConfigError, match="is no file, no folder with files and no pattern of any"):
            _listed([entry])


def test_names_of_files_that_are_no_text_do_not_stand_in_a_way(call_recipe, home):
    odd = home / os.fsdecode(b"r\xe4ks")
    odd.mkdir()
    (odd / "s.yaml").write_text(f"name: s\nconfig: {DEMO}\nseeds: [0]\n")
    done = call_recipe("finetune.py", "--resume", odd)
    assert done.returncode == 2
    assert "r\\udce4ks has characters in its name that are no text; rename it" in done.stderr

    from hf_lgt.experiments.manifest import read_manifest, write_manifest
    from hf_lgt.experiments.plan import manifest_of, plan
    from hf_lgt.experiments.spec import load_sweep

    spec = load_sweep(odd / "s.yaml")
    write_manifest(manifest_of(spec, plan(spec, [])), home)
    assert read_manifest(home).file == f"{home}/r\\udce4ks/s.yaml"
