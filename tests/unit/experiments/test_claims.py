"""The claims of an experiment's file."""

import pytest

from hf_lgt import ConfigError
from hf_lgt.experiments.claims import Claim, read_claims
from hf_lgt.experiments.spec import load_comparison, load_sweep
from hf_lgt.utils import yaml
from tests.conftest import ROOT

STRINGS = ROOT / "recipes/paper/strings_cpu.yaml"
SWEEP = f"name: s\nconfig: {STRINGS}\narms: [transfer, target_alone]\nseeds: [0]\n"


def faults_of(text, axes=("train.steps",)):
    faults = []
    read_claims(yaml.load(text), axes, faults)
    return faults


def test_claims_are_read_with_their_defaults():
    faults = []
    claims = read_claims(
        yaml.load(
            "- {more: {arm: transfer}, than: {arm: target_alone}}\n"
            "- {more: {group: a, train.steps: '5', checkpoint: c}, measure: gap, expected: false}\n"
            "- {more: {}}\n"
        ),
        ["train.steps"],
        faults,
    )
    assert faults == []
    assert claims == (
        Claim({"arm": "transfer"}, {"arm": "target_alone"}, "reach", True),
        Claim({"group": "a", "train.steps": "5", "checkpoint": "c"}, {}, "gap", False),
        Claim({}, {}),
    )
    assert [claim.words for claim in claims] == [
        "arm transfer above arm target_alone",
        "group a, train.steps 5, checkpoint c not above 0",
        "every setting above 0",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{more: {arm: a}}", "claims: {'more': {'arm': 'a'}} must be a list, as in [{more: "),
        ("null", "claims: null must be a list"),
        ("- arm", "claims.0: 'arm' must be a mapping with the keys more and than"),
        ("- {than: {arm: a}}", "claims.0: {'than': {'arm': 'a'}} must be a mapping with the keys more"),
        ("- [{more: {}}]", "claims.0: [{'more': {}}] must be a mapping"),
        ("- {more: {}, then: {}}", "claims.0: unknown key 'then'; did you mean 'than'? (known: more, than"),
        ("- {more: {}, 3: {}}", "claims.0: unknown key '3' (known: more"),
        ("- {more: arm}", "claims.0.more: 'arm' must map places to strings, as in {arm: transfer}"),
        ("- {more: null}", "claims.0.more: null must map places to strings"),
        ("- {more: {arm: 3}}", "claims.0.more: {'arm': 3} must map places to strings"),
        ("- {more: {train.steps: 100}}", "claims.0.more: {'train.steps': 100} must map places to strings"),
        ("- {more: {}, than: [arm]}", "claims.0.than: ['arm'] must map places to strings"),
        (
            "- {more: {arn: a}}",
            "claims.0.more: unknown place 'arn'; did you mean 'arm'? (known: group, arm, ",
        ),
        ("- {more: {}, than: {train.stops: a}}", "claims.0.than: unknown place 'train.stops'; did you mean"),
        ("- {more: {}, measure: reech}", "claims.0.measure: unknown measure 'reech'; did you mean 'reach'?"),
        ("- {more: {}, measure: null}", "claims.0.measure: unknown measure None (known: reach, gap, "),
        ("- {more: {}, measure: [reach]}", "claims.0.measure: unknown measure ['reach']"),
        ("- {more: {}, measure: {reach: 1}}", "claims.0.measure: unknown measure {'reach': 1}"),
        ("- {more: {}, expected: 'no'}", "claims.0.expected: 'no' must be a boolean"),
        ("- {more: {}, expected: 0}", "claims.0.expected: 0 must be a boolean"),
        ("- {more: {}}\n- {more: {}, expected: null}", "claims.1.expected: null must be a boolean"),
    ],
)
def test_each_fault_of_a_claim_is_reported_with_its_place(text, fault):
    (told,) = faults_of(text)
    assert told.startswith(fault)


def test_all_faults_are_reported_at_once():
    told = faults_of("- {more: x, than: y, measure: z, expected: w, v: u}\n- nothing\n- {more: {}}\n")
    assert [fault.split(": ")[0] for fault in told] == [
        "claims.0", "claims.0.more", "claims.0.than", "claims.0.measure", "claims.0.expected", "claims.1"
    ]  # fmt: skip


def test_a_sweep_s_claims_may_name_its_axes_and_a_comparison_s_may_not(tmp_path):
    file = tmp_path / "s.yaml"
    claims = "claims: [{more: {train.steps: '5'}, than: {train.steps: '6'}}]\n"
    file.write_text(SWEEP + "grid: {train.steps: [5, 6]}\n" + claims)
    assert load_sweep(file).claims == (Claim({"train.steps": "5"}, {"train.steps": "6"}),)
    file.write_text(SWEEP + claims)
    with pytest.raises(ConfigError) as caught:
        load_sweep(file)
    assert [fault.split(" (")[0] for fault in caught.value.faults] == [
        "claims.0.more: unknown place 'train.steps'", "claims.0.than: unknown place 'train.steps'"
    ]  # fmt: skip
    compare = tmp_path / "compare.yaml"
    compare.write_text("name: c\narms: [a.yaml]\nseeds: [0]\n" + claims)
    with pytest.raises(ConfigError, match=r"claims\.0\.more: unknown place 'train\.steps'"):
        load_comparison(compare)
    compare.write_text("name: c\narms: [a.yaml]\nseeds: [0]\nclaims: [{more: {arm: a}}]\n")
    assert load_comparison(compare).claims == (Claim({"arm": "a"}, {}),)
    compare.write_text("name: c\narms: [a.yaml]\nseeds: [0]\n")
    assert load_comparison(compare).claims == ()


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ("{more: {arm: transfr}}", "claims.0.more: unknown arm 'transfr'; did you mean 'transfer'?"),
        ("{more: {}, than: {arm: alone}}", "claims.0.than: unknown arm 'alone'"),
        ("{more: {group: a}}", "claims.0.more: unknown group 'a'"),
        ("{more: {checkpoint: main}}", "claims.0.more: unknown checkpoint 'main'"),
        ("{more: {train.steps: '3'}}", "claims.0.more: unknown train.steps '3'"),
    ],
)
def test_a_claim_about_what_the_experiment_does_not_have_is_reported(tmp_path, claim, told):
    file = tmp_path / "s.yaml"
    file.write_text(SWEEP + f"grid: {{train.steps: [1, 2]}}\nclaims:\n  - {claim}\n")
    with pytest.raises(ConfigError) as caught:
        load_sweep(file)
    assert any(fault.startswith(told) for fault in caught.value.faults), caught.value.faults
