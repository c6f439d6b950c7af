import errno
import os
import sys

import pytest

from hf_lgt.commands import cli
from hf_lgt.config.schema import describe_keys
from hf_lgt.utils.errors import ConfigError
from tests.conftest import ROOT


@pytest.fixture
def recipe():
    """Options as a recipe has them: a positional word, one with a value, a number and a switch."""
    arguments = cli.parser("What it does.")
    arguments.add_argument("folder")
    arguments.add_argument("--config", default="file.yaml")
    arguments.add_argument("--jobs", type=cli.positive)
    arguments.add_argument("--seeds")
    arguments.add_argument("--output")
    arguments.add_argument("--overwrite", action="store_true")
    return arguments


def refused(recipe, capsys, *words):
    """What is reported of words that are no command line."""
    with pytest.raises(SystemExit) as caught:
        cli.parse_options(recipe, words)
    assert caught.value.code == cli.USER_ERROR == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: ")
    return err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        (["--train.steps", "5"], ["train.steps=5"]),
        (["--train.steps=5"], ["train.steps=5"]),
        (["--train.steps", "-5"], ["train.steps=-5"]),
        (["--train.learning_rate", "-1e-3"], ["train.learning_rate=-1e-3"]),
        (["--train.weight_decay", "-.5"], ["train.weight_decay=-.5"]),
        (["--train.steps=-5"], ["train.steps=-5"]),
        (["--output_dir", "a=b"], ["output_dir=a=b"]),
        (["--output_dir=a=b"], ["output_dir=a=b"]),
        (["--output_dir=--odd"], ["output_dir=--odd"]),
        (["--train.save_every", "null"], ["train.save_every=null"]),
        (["--train.save_every", ""], ["train.save_every="]),
        (["--train.save_every="], ["train.save_every="]),
        (["--eval.lengths", "[1, 4]"], ["eval.lengths=[1, 4]"]),
        (["--eval.lengths=[1, 4]"], ["eval.lengths=[1, 4]"]),
        (["--mixture.0.lengths", "[1,4]", "--name", "x"], ["mixture.0.lengths=[1,4]", "name=x"]),
        (["--train.steps", "5", "--train.steps", "6"], ["train.steps=5", "train.steps=6"]),
        ([], []),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_overrides_stand_before_or_after_the_recipes_own_words(recipe, words, overrides, before):
    own = ["the folder", "--config", "my.yaml", "--overwrite"]
    known, found = cli.parse_options(recipe, [*words, *own] if before else [*own, *words])
    assert (known.folder, known.config, known.overwrite) == ("the folder", "my.yaml", True)
    assert found == overrides


def test_two_dashes_alone_are_what_they_are_to_argparse(recipe):
    known, overrides = cli.parse_options(recipe, ["--train.steps", "5", "--", "folder"])
    assert (known.folder, overrides) == ("folder", ["train.steps=5"])


def test_without_words_options_have_their_defaults(recipe):
    known, overrides = cli.parse_options(recipe, ["folder"])
    assert (known.config, known.jobs, known.seeds, known.overwrite) == ("file.yaml", None, None, False)
    assert overrides == []


def test_words_come_from_the_command_line_where_none_are_given(recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipe.py", "folder", "--train.steps", "5"])
    known, overrides = cli.parse_options(recipe, None)
    assert (known.folder, overrides) == ("folder", ["train.steps=5"])


def test_own_options_take_a_value_either_way(recipe):
    known, overrides = cli.parse_options(recipe, ["--config=a.yaml", "--jobs", "3", "--seeds=0,1", "folder"])
    assert (known.config, known.jobs, known.seeds, known.folder) == ("a.yaml", 3, "0,1", "folder")
    assert overrides == []


@pytest.mark.parametrize("key", ["name", "mixture", "output_dir", "seed", "model", "data", "train", "eval"])
def test_a_whole_section_can_be_set_however_like_an_option_its_name_is(recipe, key):
    known, overrides = cli.parse_options(recipe, [f"--{key}", "{init: 3}", "folder"])
    assert overrides == [f"{key}={{init: 3}}"]
    assert (known.folder, known.seeds, known.output) == ("folder", None, None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["folder", "--train.steps"], "--train.steps needs a value"),
        (["folder", "--train.steps", "--overwrite"], "--train.steps needs a value"),
        (["folder", "--train.steps", "--name", "x"], "--train.steps needs a value"),
        (["folder", "--config"], "argument --config: expected one argument"),
        (["--train.steps", "5"], "required: folder"),
        (["folder", "stray"], "unexpected 'stray'"),
        (["folder", "--overwrite", "yes"], "unexpected 'yes'"),
        (["folder", "--train.steps", "5", "6"], "unexpected '6'"),
        (["folder", "-x"], "unexpected '-x'"),
        (["folder", "-5"], "unexpected '-5'"),
        (["folder", "train.steps=5"], "unexpected 'train.steps=5'"),
        (["folder", "--overwritee"], "unknown option --overwritee; did you mean --overwrite?"),
        (["folder", "--overwirte"], "unknown option --overwirte; did you mean --overwrite?"),
        (["folder", "--over-write"], "unknown option --over-write; did you mean --overwrite?"),
        (["folder", "--confg", "a.yaml"], "unknown option --confg; did you mean --config?"),
        (["folder", "--confg=a.yaml"], "unknown option --confg; did you mean --config?"),
        (["folder", "--conf", "a.yaml"], "unknown option --conf; did you mean --config?"),
        (["folder", "--sseeds", "1"], "unknown option --sseeds; did you mean --seeds?"),
        (["folder", "--overwrite=yes"], "argument --overwrite: ignored explicit argument 'yes'"),
        (["folder", "--jobs", "0"], "argument --jobs: '0' must be an integer >= 1"),
        (["folder", "--jobs", "-1"], "argument --jobs: '-1' must be an integer >= 1"),
        (["folder", "--jobs", "two"], "argument --jobs: 'two' must be an integer >= 1"),
        (["folder", "--jobs", "1.5"], "argument --jobs: '1.5' must be an integer >= 1"),
        (
            ["folder", "--jobs", "9" * 5000],
            "'999999999999999999...' must be an integer >= 1, not above 10^18",
        ),
        (["folder", "--jobs", "\u00b2"], "must be an integer >= 1"),
    ],
)
def test_words_that_are_no_command_line_are_reported(recipe, capsys, words, told):
    assert told in refused(recipe, capsys, *words)


def test_what_is_like_no_option_is_left_to_the_config(recipe):
    assert cli.parse_options(recipe, ["folder", "--learning-rate", "3"])[1] == ["learning-rate=3"]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_key(recipe, capsys, flag):
    with pytest.raises(SystemExit) as caught:
        cli.parse_options(recipe, ["--train.steps", "5", flag])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert "What it does." in told
    for key, meaning in describe_keys():
        assert f"  {key} " in told
        assert meaning.replace(" [required]", "") in told  # it has the file's


def test_help_of_a_program_without_a_config_lists_no_keys(capsys):
    with pytest.raises(SystemExit):
        cli.parse_options(cli.parser("What it does.", keys=False), ["--help"])
    assert "--train.steps" not in capsys.readouterr().out


def test_guard_passes_the_status_on(capsys):
    assert cli.guard(lambda: 0) == 0
    assert cli.guard(lambda: 1) == 1
    assert capsys.readouterr() == ("", "")


def test_guard_prints_every_fault_and_returns_2(capsys):
    def work():
        raise ConfigError(["train.steps: -5 must be at least 1", "name: is missing"])

    assert cli.guard(work) == 2
    assert capsys.readouterr() == (
        "",
        "error: 2 faults:\n  train.steps: -5 must be at least 1\n  name: is missing\n",
    )


def test_guard_counts_one_fault_as_one(capsys):
    def work():
        cli.load_run_config(str(ROOT / "recipes/demo/transfer.yaml"), ["train.steps=-5"])
        raise AssertionError("not reached")

    assert cli.guard(work) == 2
    assert capsys.readouterr().err == "error: 1 fault:\n  train.steps: -5 must be at least 1\n"


@pytest.mark.parametrize(("rank", "lines"), [("0", 2), ("1", 0)])
def test_guard_tells_the_faults_of_a_launch_once(capsys, monkeypatch, rank, lines):
    monkeypatch.setenv("RANK", rank)

    def work():
        raise ConfigError(["name: is missing"])

    assert cli.guard(work) == 2
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_guard_of_an_interrupt_tells_so_and_returns_130(capsys):
    def work():
        raise KeyboardInterrupt

    assert cli.guard(work) == 130
    assert capsys.readouterr() == ("", "interrupted; give the same command again\n")


def test_guard_does_not_hide_what_is_no_users_mistake():
    with pytest.raises(ZeroDivisionError):
        cli.guard(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0", (0,)), ("0,1,2", (0, 1, 2)), (" 3, 1 ", (3, 1)), ("9223372036854775807", (2**63 - 1,))],
)
def test_seeds_are_read(text, seeds):
    assert cli.seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", ",", "0,", "a", "0,x", "-1", "1.5", "0,1,0", "0 1", "1e3", "²", "9" * 5000]
)
def test_what_is_no_list_of_different_seeds_is_reported(text):
    with pytest.raises(ConfigError) as caught:
        cli.seeds(text)
    (fault,) = caught.value.faults
    assert fault.startswith("--seeds: [")
    assert fault.endswith("must be a list of different integers >= 0")


def test_control_characters_are_printed_as_escapes(capsys):
    """Bars keep what they move with, on standard error alone."""

    def main():
        sys.stdout.write("a\x1b[31m\r\u202e\ud800\tb\n")
        sys.stderr.writelines(["c\x9bd", "\n"])
        sys.stderr.write("\r 10%\x1b[A\x1b[2Jx")
        return 0

    assert cli.guard(main) == 0
    out, err = capsys.readouterr()
    assert out == "a\\x1b[31m\\r\\u202e\\ud800\tb\n"
    assert err == "c\\x9bd\n\r 10%\x1b[A\\x1b[2Jx"


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (errno.ENOSPC, 1, "No space left on device; free disk space, then rerun the same command"),
        (errno.EDQUOT, 1, "Disk quota exceeded; free disk space, then rerun the same command"),
        (errno.EIO, 1, "Input/output error; put this right, then rerun the same command"),
        (errno.EACCES, 2, "Permission denied"),
    ],
)
def test_guard_tells_of_a_disk_that_is_full_with_the_file_and_what_to_do(capsys, number, status, told):
    def work():
        raise OSError(number, os.strerror(number), "runs/a.json")

    assert cli.guard(work) == status
    assert f"runs/a.json: {told}\n" in capsys.readouterr().err
