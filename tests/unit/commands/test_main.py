"""The command hf-lgt: its words, and the recipes that come along."""

import sys
from pathlib import Path

import pytest

from hf_lgt import load_config
from hf_lgt.commands import recipes, tasks
from hf_lgt.commands.main import COMMANDS, main
from hf_lgt.config.shipped import COMPARISON, CONFIG, SWEEP, recipe_file, recipe_names, shipped_recipes
from tests.conftest import ROOT


def test_help_lists_every_command_at_80_columns(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n  {name} " in told for name in COMMANDS)
    assert max(map(len, told.splitlines())) <= 80


def test_the_version_and_what_is_no_command(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("hf-lgt 0.")
    assert main(["finetun"]) == 2
    assert "unknown command 'finetun'; did you mean 'finetune'?" in capsys.readouterr().err
    assert main([]) == 2
    assert "usage: hf-lgt COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_under_its_own_name(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hf-lgt"])
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: hf-lgt {name}" in capsys.readouterr().out


def test_every_script_of_the_recipes_is_its_command():
    for script in (ROOT / "recipes").glob("*.py"):
        text = script.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 20
        assert f"from hf_lgt.commands.{script.stem} import main" in text
        assert script.stem.replace("_", "-") in COMMANDS


def test_a_recipe_is_found_by_its_name():
    root = shipped_recipes()
    assert recipe_file("demo", CONFIG) == str(root / "demo/transfer.yaml")
    assert recipe_file("demo", COMPARISON) == str(root / "demo/compare.yaml")
    assert recipe_file("demo/control", CONFIG) == str(root / "demo/control.yaml")
    assert recipe_file("paper/fig04_strings", SWEEP) == str(root / "paper/fig04_strings/cpu.yaml")
    assert load_config("demo") == load_config(root / "demo/transfer.yaml")
    names = dict(recipe_names())
    assert names["demo/compare"] == "The demo with its controls over eight seeds"
    assert all(recipe_file(name, CONFIG) == str(root / f"{name}.yaml") for name in names)


@pytest.mark.parametrize("given", ["demo.yaml", "../demo", "/demo", "nothing", "demo/../../secret"])
def test_what_is_no_name_stays_as_it_was_given(given):
    assert recipe_file(given, CONFIG) == given


def test_a_path_that_exists_comes_before_a_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("name: mine\n")
    assert recipe_file("demo", CONFIG) == "demo"


def test_a_config_may_be_based_on_a_recipe(tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\nbase: demo\ntrain: {steps: 7}\n")
    config = load_config(tmp_path / "mine.yaml")
    assert (config.name, config.train.steps, config.model.layers) == (
        "mine",
        7,
        load_config("demo").model.layers,
    )


def test_a_recipe_is_copied_with_what_it_is_based_on_and_nothing_is_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert recipes.main(["copy", "controls"]) == 0
    copied = {path.relative_to("recipes").as_posix() for path in Path("recipes").rglob("*.yaml")}
    assert {"controls/cpu.yaml", "controls/paper.yaml", "paper/strings_cpu.yaml"} <= copied
    before = {path: path.read_bytes() for path in Path("recipes").rglob("*.yaml")}
    assert recipes.main(["copy", "controls"]) == 2
    assert "is there already; nothing was copied" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("recipes").rglob("*.yaml")} == before


@pytest.mark.parametrize("name", ["nothing", "../demo", "/etc", "demo/transfer/x"])
def test_what_is_no_recipe_is_not_copied(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert recipes.main(["copy", name]) == 2
    assert "is no recipe; 'hf-lgt recipes' lists them" in capsys.readouterr().err
    assert not Path("recipes").exists()


def test_tasks_are_listed_and_told(capsys):
    assert tasks.main([]) == 0
    listed = capsys.readouterr().out
    assert "reverse             strings     cSMz= → zMSc" in listed
    assert tasks.main(["mqar"]) == 0
    assert "options.query_width" in capsys.readouterr().out
    assert tasks.main(["mqra"]) == 2
    assert "did you mean 'mqar'" in capsys.readouterr().err
