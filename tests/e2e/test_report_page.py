"""A report in headless Chromium: it opens offline without errors, sorts, and can be read by everybody."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from hf_lgt.experiments.report.page import write_report
from tests.support.chromium import Chromium, missing
from tests.support.report_runs import write_experiment, write_grid, write_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]
HERE = Path(__file__).parents[1] / "support"
TABLE = "document.querySelector('#demo-table-seeds').closest('table')"
COLUMN = f"[...{TABLE}.tBodies[0].rows].map(row => row.cells[arguments[0]].innerText.trim())"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_experiment(
        folder, arms=("transfer", "target_alone"), seeds=(0, 1, 2, 3), unfinished=[("transfer", 3)]
    )
    write_grid(folder, lengths=("4", "8"))
    write_run(
        folder, "a-name-that-is-quite-long-and-cannot-be-broken-anywhere-at-all-since-it-has-no-space", 0
    )
    return write_report(folder)[0]


@pytest.fixture(scope="module")
def chromium():
    with Chromium() as browser:
        yield browser


@pytest.fixture
def browser(chromium, index):
    """The page, newly opened in a wide and light window."""
    chromium.window(1400)
    chromium.goto(index)
    yield chromium
    assert chromium.log("browser") == []


@pytest.fixture
def focused(browser):
    return lambda: browser.run("return document.activeElement.innerText.trim()")


def test_it_opens_without_errors_and_asks_for_nothing(browser, index):
    assert browser.run("return document.title") == f"Length generalization: {index.parent.parent.name}"
    assert browser.requests() == [index.as_uri()]
    assert browser.log("browser") == []


def test_the_policy_blocks_what_is_not_the_page_s_own(browser):
    """So that the tests above would see a style or script that the page's own policy blocks."""
    browser.run(
        "const s = document.createElement('script'); s.text = 'window.evil = 1'; document.body.append(s)"
    )
    assert browser.run("return window.evil === undefined")
    browser.run('document.body.innerHTML += \'<p style="color: red">x</p><img src="http://127.0.0.1:1/x">\'')
    told = " ".join(entry["message"] for entry in browser.log("browser"))
    assert told.count("Content Security Policy") == 3
    assert "http://127.0.0.1:1/x" in browser.requests()


def test_a_click_sorts_and_another_turns_it_round(browser):
    before = browser.run(f"return {COLUMN}", 2)
    button = "#demo-table-seeds"
    browser.run(f"{TABLE}.tHead.querySelectorAll('button')[3].id = 'transfer-button'")
    assert browser.run(f"return {TABLE}.querySelectorAll('[aria-sort]').length") == 0
    browser.click("#transfer-button")
    values = browser.run(f"return {COLUMN}", 3)
    numbers = [float(v) for v in values]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 2
    header = "document.querySelector('#transfer-button').closest('th')"
    assert browser.run(f"return {header}.getAttribute('aria-sort')") == "ascending"
    browser.click("#transfer-button")
    assert [float(v) for v in browser.run(f"return {COLUMN}", 3)] == sorted(numbers, reverse=True)
    assert browser.run(f"return {header}.getAttribute('aria-sort')") == "descending"
    assert browser.run("return document.querySelector('#told').textContent") == (
        "Every run: sorted by transfer region, descending"
    )
    assert sorted(browser.run(f"return {COLUMN}", 2)) == sorted(before)
    assert browser.run(f"return document.querySelectorAll('{button}').length") == 1


def test_rows_stay_whole_when_they_are_sorted(browser):
    rows = f"return [...{TABLE}.tBodies[0].rows].map(row => row.innerText)"
    before = browser.run(rows)
    browser.run(f"[...{TABLE}.tHead.querySelectorAll('button')].forEach(b => b.click())")
    after = browser.run(rows)
    assert after != before
    assert sorted(after) == sorted(before)
    assert browser.run(f"return {TABLE}.querySelectorAll('[aria-sort]').length") == 1


def test_what_has_no_value_is_last_either_way(browser):
    column = browser.run(
        f"return [...{TABLE}.tHead.rows[0].cells].findIndex(c => c.innerText.startsWith('lowest auxiliary'))"
    )
    browser.run(f"{TABLE}.tHead.querySelectorAll('button')[{column}].id = 'auxiliaries-button'")
    for _ in range(2):
        browser.click("#auxiliaries-button")
        values = [v.split()[0] for v in browser.run(f"return {COLUMN}", column)]
        dashes = values.count("–")
        assert 0 < dashes < len(values)
        assert values[-dashes:] == ["–"] * dashes


def test_the_keyboard_reaches_and_sorts(browser, focused):
    browser.press("Tab")
    assert focused() == "Skip to the results"
    browser.press("Enter")
    assert browser.run("return document.activeElement.id") == "main"
    stops = browser.run("return document.querySelectorAll('a[href], button, [tabindex]').length")
    for _ in range(stops):
        browser.press("Tab")
        if browser.run(f"return {TABLE}.contains(document.activeElement)"):
            break
    assert browser.run(f"return {TABLE}.contains(document.activeElement)")
    name = focused()
    for key, order in (("Enter", "ascending"), ("Space", "descending")):
        browser.press(key)
        assert focused() == name
        sort = "return document.activeElement.closest('th').getAttribute('aria-sort')"
        assert browser.run(sort) == order
    outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_light_and_dark_follow_the_system_and_the_button(browser, index):
    ground = "return getComputedStyle(document.body).backgroundColor"
    pressed = "return document.querySelector('#theme').getAttribute('aria-pressed')"
    light = browser.run(ground)
    assert browser.run(pressed) == "false"
    browser.window(1400, dark=True)
    dark = browser.run(ground)
    assert dark != light
    assert browser.run(pressed) == "true"
    browser.run("document.querySelector('#theme').focus()")
    browser.press("Space")
    assert (browser.run(ground), browser.run(pressed)) == (light, "false")
    browser.press("Enter")
    assert (browser.run(ground), browser.run(pressed)) == (dark, "true")
    browser.window(1400)
    assert browser.run(ground) == dark
    browser.run("try { localStorage.clear() } catch { }")


@pytest.mark.parametrize("width", [320, 360, 390, 768, 1400])
def test_the_page_itself_does_not_scroll_sideways(browser, width):
    browser.window(width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    state = "e => [e.scrollWidth > e.clientWidth, e.tabIndex]"
    scrolling = browser.run(f"return [...document.querySelectorAll('.scroll')].map({state})")
    assert all(index == 0 for wide, index in scrolling if wide)
    assert width == 1400 or any(wide for wide, _ in scrolling)


def test_without_script_everything_is_there(chromium, index):
    chromium.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.goto(index)
        shown = "return document.body.innerText"
        assert "Every run" in chromium.run(shown)
    finally:
        chromium.devtools("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_words_stand_out_as_they_are_shown(browser, tmp_path, width, dark):
    browser.window(width, dark=dark)
    found = browser.run((HERE / "contrast.js").read_text() + "return contrasts();")
    assert len(found) > 200
    assert [one for one in found if one["contrast"] < one["needed"]] == []
    assert {one["kind"] for one in found} == {"html", "svg"}
    picture = browser.screenshot(tmp_path / "page.png")
    assert picture.stat().st_size > 50_000


def test_the_contrast_script_sees_what_cannot_be_read(browser):
    browser.run("document.querySelector('.lede').style.color = 'rgb(200, 200, 200)'")
    browser.run(
        "const e = document.querySelector('svg text');"
        "e.setAttribute('class', ''); e.setAttribute('fill', '#bbbbbb')"
    )
    found = browser.run((HERE / "contrast.js").read_text() + "return contrasts();")
    poor = [one for one in found if one["contrast"] < one["needed"]]
    assert {one["kind"] for one in poor} == {"html", "svg"}


def axe():
    """The script of axe-core, which a package of PyPI brings."""
    found = find_spec("axe_core_python")
    return None if found is None else Path(found.origin).with_name("axe.min.js")


@pytest.mark.skipif(axe() is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_axe_finds_nothing_to_mend(browser, width, dark):
    browser.window(width, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    options = {"resultTypes": ["violations"]}
    found = browser.run(axe().read_text() + "; return await axe.run(document, arguments[0])", options)
    told = [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:3]]) for v in found["violations"]]
    assert told == [], json.dumps(told, indent=1)
    assert len(found["passes"]) > 20


def test_axe_sees_what_is_wrong(browser):
    if axe() is None:
        pytest.skip("axe-core-python is not installed")
    browser.run("document.querySelector('svg').removeAttribute('aria-labelledby')")
    browser.run("document.querySelector('h2').outerHTML = '<h5>x</h5>'")
    found = browser.run(axe().read_text() + "; return await axe.run()")
    assert {"svg-img-alt", "heading-order"} <= {v["id"] for v in found["violations"]}
