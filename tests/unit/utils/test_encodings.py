import ast

import pytest

from tests.conftest import ROOT

FOLDERS = ("data_builders", "hf_lgt", "recipes", "benchmarks")
TEXT = {"read_text", "write_text"}
PROCESSES = {"run", "Popen", "check_output"}


def faults(source):
    """Lines of calls that read or write text in the encoding of the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        method = node.func.attr if isinstance(node.func, ast.Attribute) else None
        name = node.func.id if isinstance(node.func, ast.Name) else method
        # open(path, mode) and path.open(mode); os.open, which takes flags, gives bytes
        at = 0 if name == method else 1
        mode = given.get("mode", node.args[at] if len(node.args) > at else ast.Constant("r"))
        of_os = method == "open" and isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
        text = (
            method in TEXT
            or (
                name == "open" and not of_os and isinstance(mode, ast.Constant) and "b" not in str(mode.value)
            )
            or (name in PROCESSES and {"text", "universal_newlines"} & set(given))
            or name == "TextIOWrapper"
        )
        if text and "encoding" not in given:
            yield node.lineno


@pytest.mark.parametrize(
    ("call", "fine"),
    [
        ("open(path)", False),
        ("open(path, 'w')", False),
        ("path.open()", False),
        ("path.open('a')", False),
        ("path.read_text()", False),
        ("(a / 'b').write_text(text)", False),
        ("subprocess.run(command, text=True)", False),
        ("open(path, 'rb')", True),
        ("path.open('rb')", True),
        ("os.open(path, flags)", True),
        ("open(path, 'w', encoding='utf-8')", True),
        ("path.write_text(text, encoding='utf-8')", True),
        ("write_text(path, text)", True),
        ("subprocess.run(command, encoding='utf-8')", True),
    ],
)
def test_the_check_tells_text_in_the_encoding_of_the_locale(call, fine):
    assert (list(faults(call)) == []) == fine


def test_every_file_is_read_and_written_as_utf_8_whatever_the_locale():
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number in faults(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []
