"""The numbers of an experiment as JSON, and back."""

import copy
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_lgt import ConfigError
from hf_lgt.evaluation.measures import Errors
from hf_lgt.experiments.claims import Claim
from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.report.comparison_figures import comparison_pictures
from hf_lgt.experiments.report.stored import Results, read_results, results_data
from hf_lgt.experiments.report.sweep_figures import sweep_pictures
from hf_lgt.experiments.report.verdict_tables import result_tables
from hf_lgt.experiments.results import seed_groups
from tests.support.made_results import made

CLAIMS = (
    Claim({"arm": "transfer"}, {"arm": "target_alone"}),
    Claim({"arm": "transfer"}, {}, "instability", False),
)


def results_of(*runs, axes=None, claims=CLAIMS, kept=""):
    return Results(Manifest("m", tuple(r.entry for r in runs), axes or {}), seed_groups(runs), claims, kept)


def arms(seeds=2, **more):
    """Three arms; every seed has other numbers."""
    return [
        made(arm, seed, reach + 0.05 * seed, gap=0.25 + seed / 8, changes=(0.2, 0.5, 0.4, 0.6), **more)
        for arm, reach in {"transfer": 0.6, "target_alone": 0.1, "target_long": 0.9}.items()
        for seed in range(seeds)
    ]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Writes results, or any data, as a file."""
    folder = tmp_path_factory.mktemp("stored")

    def write(results, name="x.json"):
        data = results_data(results, folder) if isinstance(results, Results) else results
        (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))
        return folder / name

    return write


@pytest.mark.parametrize("claims", [(), CLAIMS])
@pytest.mark.parametrize("kept", ["", "data seeds 0 throughout"])
def test_what_is_read_gives_the_same_tables(stored, claims, kept):
    results = results_of(*arms(), claims=claims, kept=kept)
    again = read_results(stored(results))
    assert result_tables(again) == result_tables(results)
    assert result_tables(again)[0].name == "summary"
    assert (list(again.claims), again.kept, again.manifest.name) == (list(claims), kept, "m")
    # and written once more it is the same file, but for what the runs' folders say
    assert results_data(again, stored(results).parent) == results_data(results, stored(results).parent)


def test_grids_groups_and_checkpoints_come_back(stored):
    runs = [
        r
        for group in ("g", "h")
        for point in ({"p": "a", "q": "1"}, {"p": "b", "q": "1"})
        for start in ("random", "step-1")
        for r in arms(1, group=group, point=point, checkpoint=start)
    ]
    results = results_of(*runs, axes={"p": ("a", "b"), "q": ("1",)})
    again = read_results(stored(results))
    assert again.manifest.axes == results.manifest.axes
    assert result_tables(again) == result_tables(results)
    assert [p.alt for p in sweep_pictures(again.manifest, again.cells)] == [
        p.alt for p in sweep_pictures(results.manifest, results.cells)
    ]


def test_errors_and_unknown_numbers_come_back(stored):
    first, *others = arms()
    summary = dataclasses.replace(first.summary, errors=Errors(0.1, 0.2, 0.1), gap=None, normalized_gap=None)
    runs = [dataclasses.replace(first, summary=summary), *others]
    again = read_results(stored(results_of(*runs)))
    found = again.cells[0].results[0]
    assert found.summary == summary
    assert (found.alone, found.gain, found.recovered) == pytest.approx((0.1, 0.5, 0.625))
    assert found.by_step == first.by_step
    assert found.config.seed.data == 0
    assert others[0].seed == again.cells[0].results[1].config.seed.data == 1


def test_curves_come_back_in_the_order_of_lengths(stored):
    data = results_data(results_of(*arms(1)), stored({}).parent)
    for run in (run for cell in data["cells"] for run in cell["runs"]):
        for key in ("curve", "auxiliary_curve", "regimes_by_step"):
            run[key] = dict(reversed(run[key].items()))
    again = read_results(stored(data))
    assert list(again.cells[0].results[0].summary.curve) == [8, 16, 20]
    assert result_tables(again) == result_tables(results_of(*arms(1)))


def _at(data, path):
    for key in path[:-1]:
        data = data[key]
    return data, path[-1]


def damaged(data, path, value=None, *, gone=False):
    data = copy.deepcopy(data)
    place, key = _at(data, path)
    if gone:
        del place[key]
    else:
        place[key] = value
    return data


RUN = ("cells", 0, "runs", 0)
DAMAGES = [
    (("format",), 1, "no file of results of format 2"),
    (("format",), None, "no file of results of format 2"),
    (("cells",), None, "is damaged"),
    (("cells",), {"a": 1}, "is damaged"),
    (("cells", 0), [], "is damaged"),
    (("cells", 0, "group"), None, "null is no string"),
    (("cells", 0, "arm"), ["transfer"], r"\['transfer'\] is no string"),
    (("cells", 0, "checkpoint"), 1, "1 is no string"),
    (("cells", 0, "point"), [], "is damaged"),
    (("cells", 0, "point"), {"p": "a"}, "the runs do not lie on its axes"),
    (("cells", 0, "point"), {"p": 1}, "1 is no string"),
    (("cells", 0, "arm"), "target_alone", "a run is there twice"),
    (("cells", 0, "config"), [], "is damaged"),
    (("cells", 0, "config"), {"train": {"steps": -1}}, "train.steps"),
    (("cells", 0, "config", "mixture"), [], "is damaged"),
    (("cells", 0, "config", "train", "stops"), 3, "stops"),
    (("cells", 0, "runs"), {"a": {}}, "is damaged"),
    ((*RUN, "seed"), 1, "a run is there twice"),
    ((*RUN, "seed"), True, "true is no integer"),
    ((*RUN, "seed"), "0", "'0' is no integer"),
    ((*RUN, "seed"), 2**63, "is no integer"),
    ((*RUN, "id"), {}, "is no string"),
    ((*RUN, "target"), None, "null is no string"),
    ((*RUN, "target_length"), "8", "'8' is no integer"),
    ((*RUN, "auxiliary_length"), 8.5, "8.5 is no integer"),
    ((*RUN, "effective_length_90"), -1, "-1 is no integer"),
    ((*RUN, "effective_length_50"), None, "null is no integer"),
    ((*RUN, "curve"), {}, "the seeds share no length"),
    ((*RUN, "curve"), {"9": 0.5}, "the seeds share no length"),
    ((*RUN, "curve"), {"x": 0.5}, "is damaged"),
    ((*RUN, "curve"), {"8": 1.5}, "1.5 is not between 0 and 1"),
    ((*RUN, "curve"), {"8": "1"}, "'1' is not between 0 and 1"),
    ((*RUN, "curve"), {"8": float("nan")}, "nan is not between 0 and 1"),
    ((*RUN, "curve"), {"-8": 1.0}, "-8 is no integer"),
    ((*RUN, "curve"), {"9" * 20: 1.0}, "is no integer"),
    ((*RUN, "curve"), [1.0], "is damaged"),
    ((*RUN, "auxiliary_curve"), {"9": 0.5}, "the seeds share no length"),
    ((*RUN, "auxiliary_curve"), {"8": None}, "null is not between 0 and 1"),
    ((*RUN, "regimes"), {"within": 1.0}, "is damaged"),
    ((*RUN, "regimes", "transfer"), -0.5, "-0.5 is not between 0 and 1"),
    ((*RUN, "regimes", "far"), 0.5, "is damaged"),
    ((*RUN, "errors"), {"stopped_early": 0.5}, "is damaged"),
    ((*RUN, "errors"), {"stopped_early": 0.5, "ran_on": 0.5, "content": True}, "true is not between"),
    ((*RUN, "auxiliaries"), ["capitalize"], "is damaged"),
    ((*RUN, "auxiliaries"), {"capitalize": None}, "null is not between 0 and 1"),
    ((*RUN, "gap"), "0.5", "'0.5' is not between 0 and 1"),
    ((*RUN, "gap"), 2, "2 is not between 0 and 1"),
    ((*RUN, "normalized_gap"), float("inf"), "inf is no normalised gap"),
    ((*RUN, "normalized_gap"), "none", "'none' is no normalised gap"),
    ((*RUN, "gap_reason"), 3, "3 is no string"),
    ((*RUN, "regimes_by_step"), {}, "a run without an evaluation"),
    ((*RUN, "regimes_by_step", "100"), None, "is damaged"),
    (("axes",), [], "is damaged"),
    (("axes",), {"p": []}, "do not lie on its axes"),
    (("axes",), {"p": ["a"]}, "do not lie on its axes"),
    (("axes",), {"p": [1]}, "1 is no string"),
    (("claims",), {"more": {}}, "claims: "),
    (("claims", 0, "measure"), "reech", "claims.0.measure: unknown measure 'reech'"),
    (("claims", 0, "measure"), ["reach"], "claims.0.measure: unknown measure"),
    (("claims", 0, "more"), {"arn": "a"}, "claims.0.more: unknown place 'arn'"),
    (("name",), 3, "3 is no string"),
    (("kept",), ["a"], r"\['a'\] is no string"),
]


@pytest.mark.parametrize(("path", "value", "told"), DAMAGES)
def test_a_damaged_file_is_one_error(stored, path, value, told):
    data = results_data(results_of(*arms()), stored({}).parent)
    file = stored(damaged(data, path, value))
    with pytest.raises(ConfigError, match=told) as caught:
        read_results(file)
    (fault,) = caught.value.faults
    assert fault.startswith(f"{file} is ")
    assert fault.endswith("; run the recipe that made it again")
    assert fault.isprintable()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"format": 2}', '{"format": 2, "cells": [{}]}'])
def test_what_is_no_file_of_results_is_one_error(stored, text):
    file = stored(text)
    with pytest.raises(ConfigError) as caught:
        read_results(file)
    (fault,) = caught.value.faults
    assert fault.startswith(str(file))


def test_a_file_that_is_not_there_is_one_error(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.json: No such file"):
        read_results(tmp_path / "nowhere.json")


@pytest.fixture(scope="module")
def whole(stored):
    return results_data(results_of(*arms()), stored({}).parent)


def test_every_key_is_needed(stored, whole):
    needed = [(key,) for key in whole] + [("cells", 0, key) for key in whole["cells"][0]]
    needed += [(*RUN, key) for key in whole["cells"][0]["runs"][0]]
    # which are made of the others, or for who reads the file, or not in files of before
    spare = {"made_with", "gain", "recovered", "reached", "tokens"}
    for path in needed:
        file = stored(damaged(whole, path, gone=True))
        if path[-1] in spare:
            read_results(file)
            continue
        with pytest.raises(ConfigError) as caught:
            read_results(file)
        assert len(caught.value.faults) == 1


def paths(data, place=()):
    """Every place of nested data."""
    found = [place] if place else []
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return found + [path for key, value in items for path in paths(value, (*place, key))]


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([[], {}, {"8": 0.5}, {"8": "x"}, {"arm": "transfer"}, 10**30, 0, 1, "reverse", "\x1b"])
)


@given(picks=st.lists(st.tuples(st.integers(0, 10**6), VALUES, st.booleans()), min_size=1, max_size=3))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_any_file_is_read_and_shown_or_reported(stored, whole, picks):
    data = copy.deepcopy(whole)
    for pick, value, gone in picks:
        # rather than at one of the config's many keys, half of the changes are elsewhere
        every = [path for path in paths(data) if pick % 2 or "config" not in path]
        if every:
            data = damaged(data, every[pick % len(every)], value, gone=gone)
    file = stored(data, "any.json")
    try:
        results = read_results(file)
    except ConfigError as error:
        (fault,) = error.faults
        assert fault.startswith(str(file))
        assert fault.isprintable()
        return
    result_tables(results)
    sweep_pictures(results.manifest, results.cells)
    if results.cells:
        list(comparison_pictures(results.manifest, results.cells))
