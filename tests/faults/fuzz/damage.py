"""Changes to files that a recipe reads: what accidents, other programs and strangers leave."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.fuzz.running import MARKER, WORK

HOSTILE = [
    "../x", "../../x", "..", ".", "", " ", "/etc/passwd", "/dev/null", "/dev/null/x", "a/b", "a\\b", "-x",
    "--", "a\nb", "a\r\nb", "a\tb", "\0", "a\0b", "\x1b[31mred\x1b[0m", "\x07", "\x9b31m", "\u2028",
    "\u202eabc", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "](javascript:alert(1))",
    "a|b", "`a`", "```", "---", "--- a: b", "a: b", "# a", "$x$", r"$\frac$", "$", "{x}", "{{x}}", "%s",
    "%(x)s", "null", "~", "é", "漢字", "\U0001f600", "אבג", "\ufeff", "con", "a" * 101, "x" * 5000, "<pad>",
    "<s>", "[1]", "task", "role", "__class__", "$(id)", "`id`", "; ls", "*", "?", "[", "hf://x",
    "http://127.0.0.1:1/x", "file:///etc/passwd",
]  # fmt: skip
"""text that means something to a shell, a terminal, a page or a path"""
DELETE = ("delete",)
"""stands for a value: the place is taken away"""
RAW = [
    b"", b" ", b"\n", b"\0" * 64, b"\xff\xfe", b"\xef\xbb\xbf{}", b"null", b"[]", b"{}", b"0", b'""', b"NaN",
    b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b'{"a": ' + b"9" * 5000 + b"}", b'"\\ud800"', b"1e999",
    b'{"format": 1}', b"\x1b[31mred", "\u2028\u202e".encode(), b"a: &a [*a]", b"- " * 5000, b"{}\n{}",
    b"%YAML 1.2\n---\n", b"! x", b"*x", b"\r\n\r", b"-", b"..", b"/etc/passwd", b"5000-01-01", b"true",
]  # fmt: skip
"""what takes the place of a file, or stands in it"""
STRANGER = """
import pathlib
pathlib.Path(r"{marker}").write_text("I was here")
from transformers import {base}
class Stranger({base}):
    model_type = "stranger"
"""


@dataclass(frozen=True)
class Damage:
    """One change to the working folder."""

    pattern: str
    """of the paths that may be changed, below the folder"""
    which: int
    """of those that there are"""
    how: str
    """one of `HOWS`"""
    number: float = 0.0
    """where in the file, from 0 to 1"""
    data: bytes = b""
    changes: tuple[tuple[int, Any], ...] = ()
    """(which place of a structure, what it holds now)"""
    escaped: bool = True
    """whether JSON is written in ASCII alone"""
    resigned: bool = True
    """whether the hashes of a checkpoint are made right again"""

    def apply(self) -> None:
        """Change a path of the current folder."""
        # where no such file is there, another of the same folder
        near = str(Path(self.pattern).parent / "*")
        found = sorted(Path().glob(self.pattern)) or sorted(Path().glob(near))
        if not found:
            return
        path = found[self.which % len(found)]
        HOWS[self.how](path, self)
        if self.resigned:
            _resign(path.parent)


def _resign(folder: Path) -> None:
    """Make the manifest of a checkpoint say what its files hold."""
    from hf_lgt.checkpointing.checkpoints import _manifest
    from hf_lgt.utils.atomic_io import sha256

    if (folder / "manifest.json").is_file() and folder.parent.name == "checkpoints":
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json")
        (folder / "manifest.json").write_text(_manifest({path.name: sha256(path) for path in files}))


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _file(path: Path) -> Path | None:
    """The file to change; one within, where it is a folder."""
    if path.is_dir():
        return next((file for file in sorted(path.rglob("*")) if file.is_file()), None)
    return path if path.is_file() else None


def _bytes(change: Callable[[bytes, Damage], bytes]) -> Callable[[Path, Damage], None]:
    def apply(path: Path, damage: Damage) -> None:
        if (file := _file(path)) is not None:
            file.write_bytes(change(file.read_bytes(), damage))

    return apply


def _flip(content: bytes, damage: Damage) -> bytes:
    at = int(damage.number * len(content))
    return content[:at] + damage.data + content[at + len(damage.data) :]


def _insert(content: bytes, damage: Damage) -> bytes:
    at = int(damage.number * len(content))
    return content[:at] + damage.data + content[at:]


def _lines(content: bytes, damage: Damage) -> bytes:
    """A line goes, comes twice, or changes places with the next."""
    lines = content.splitlines(keepends=True) or [b""]
    at = int(damage.number * len(lines)) % len(lines)
    turn = damage.which % 3
    if turn == 0:
        del lines[at]
    elif turn == 1:
        lines.insert(at, lines[at])
    else:
        lines[at : at + 2] = lines[at : at + 2][::-1]
    return b"".join(lines)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything in a structure."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [place for key, item in items for place in places(item, (*path, key))]
    return [path, *below] if path else below


def changed(value: Any, changes: tuple[tuple[int, Any], ...]) -> Any:
    """A structure with some places taken by other values, or taken away."""
    value = copy.deepcopy(value)
    for which, new in changes:
        known = places(value)
        if not known:
            return new if new != DELETE else None
        *way, last = known[which % len(known)]
        at = value
        for part in way:
            at = at[part]
        if new == DELETE:
            del at[last]
        elif isinstance(new, tuple):
            at[last] = _near(at[last], new[1]) if new[0] == "near" else _wild(at[last], new[1])
        else:
            at[last] = copy.deepcopy(new)
    return value


def _near(value: Any, turn: int) -> Any:
    """Something like a value."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return [value + 1, value - 1, -value, 0, value * 2, str(value)][turn % 6]
    if isinstance(value, str):
        return [value + "x", value[:-1], value.upper(), "", value * 2, [value]][turn % 6]
    if isinstance(value, list):
        return [value[:-1], value[1:], value * 2, value[::-1], [value], dict(enumerate(map(str, value)))][
            turn % 6
        ]
    kept = list(value.items())
    return [dict(kept[:-1]), dict(kept[1:]), {}, kept, {**value, "x": 1}, str(value)][turn % 6]


def _wild(value: Any, turn: int) -> Any:
    """Something far from a value, but of its type."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return [10**400, 2**63, 2**31, -1, 10**9, 10**15][turn % 6]
    if isinstance(value, float):
        return [float("nan"), float("inf"), -1.0, 1e308, 1e-320, 2.0][turn % 6]
    if isinstance(value, str):
        return HOSTILE[turn % len(HOSTILE)]
    if isinstance(value, list):
        return [value * 1000, [value] * 3, [*value, None], value[:1] * 3, [], [[[]]]][turn % 6]
    return [value | {str(i): i for i in range(5000)}, {"": value}, {"x\0": None}][turn % 3]


def _edit(path: Path, damage: Damage) -> None:
    """Change values of what a file holds, whatever its format."""
    file = _file(path)
    if file is None:
        return
    content = file.read_bytes()
    try:
        if file.suffix == ".safetensors":
            file.write_bytes(_header(content, damage))
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in content.splitlines()]
            file.write_bytes(b"".join(_json(row, damage) + b"\n" for row in changed(rows, damage.changes)))
        elif file.suffix in (".yaml", ".yml"):
            from hf_lgt.utils import yaml

            value = changed(yaml.load(content.decode()), damage.changes)
            file.write_bytes(yaml.dump(value).encode("utf-8", "surrogatepass"))
        else:
            file.write_bytes(_json(changed(json.loads(content), damage.changes), damage))
    except Exception:  # no structure, or an earlier damage has ended it
        file.write_bytes(_flip(content, damage))


def _json(value: Any, damage: Damage) -> bytes:
    indent = 1 if damage.which % 2 else None
    return json.dumps(value, ensure_ascii=damage.escaped, indent=indent).encode("utf-8", "surrogatepass")


def _header(content: bytes, damage: Damage) -> bytes:
    """Change what the header of a safetensors file says."""
    size = int.from_bytes(content[:8], "little")
    header = changed(json.loads(content[8 : 8 + size]), damage.changes)
    text = _json(header, damage)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def _length(content: bytes, damage: Damage) -> bytes:
    """Change the length that a safetensors file begins with."""
    size = int.from_bytes(content[:8], "little")
    said = [0, 1, size - 1, size + 1, len(content), 2**31, 2**63, 2**64 - 1][damage.which % 8]
    return said.to_bytes(8, "little") + content[8:]


def _overlap(content: bytes, damage: Damage) -> bytes:
    """Give a tensor the bytes of another one, or another name."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    names = [name for name in header if name != "__metadata__"]
    if len(names) > 1:
        one, two = (names[(damage.which + i) % len(names)] for i in (0, 1))
        if damage.number < 0.5:
            header[one]["data_offsets"] = header[two]["data_offsets"]
        else:
            header[one], header[two] = header[two], header[one]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def _away(path: Path, damage: Damage) -> None:
    _clear(path)


def _as_folder(path: Path, damage: Damage) -> None:
    """A folder in the place of a file, or a file in that of a folder."""
    was_folder = path.is_dir()
    _clear(path)
    if was_folder:
        path.write_bytes(damage.data)
    else:
        path.mkdir()
        if damage.which % 2:
            (path / "x").write_bytes(damage.data)


def _linked(path: Path, damage: Damage) -> None:
    """A link to itself, to nothing, or out of the folder, to what stood there."""
    turn = damage.which % 4
    if turn > 1:
        away = Path(*[".."] * len(WORK.parts), f"outside-{path.name}").absolute()
        path.rename(Path(os.path.normpath(away)))
        path.symlink_to(os.path.normpath(away))
        return
    _clear(path)
    path.symlink_to(path.name if turn else "nowhere")


def _special(path: Path, damage: Damage) -> None:
    """What never ends when it is read."""
    _clear(path)
    if damage.which % 2:
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


def _stranger(path: Path, damage: Damage) -> None:
    """Code of its own beside a model, and a config that says it may run; or a pickle in place of weights."""
    folder = path if path.is_dir() else path.parent
    root = Path.cwd().parents[len(WORK.parts) - 1]
    _set(folder / "config.json", "auto_map", {
        "AutoConfig": "configuring.Stranger", "AutoModelForCausalLM": "modeling.Stranger",
        "AutoModel": "modeling.Stranger", "AutoTokenizer": ["tokenizing.Stranger", "tokenizing.Stranger"],
    })  # fmt: skip
    _set(folder / "tokenizer_config.json", "auto_map", {
        "AutoTokenizer": ["tokenizing.Stranger", "tokenizing.Stranger"],
    })  # fmt: skip
    if damage.which % 2:
        _set(folder / "config.json", "model_type", "stranger")
        _set(folder / "tokenizer_config.json", "tokenizer_class", "Stranger")
    bases = {
        "configuring": "PretrainedConfig",
        "modeling": "LlamaForCausalLM",
        "tokenizing": "PreTrainedTokenizerFast",
    }
    for name, base in bases.items():
        (folder / f"{name}.py").write_text(STRANGER.format(marker=root / MARKER, base=base))
    if damage.which % 3 == 0:
        _pickle(folder, root / MARKER)
    for config in (
        folder / "config.yaml",
        folder.parent / "config.yaml",
        folder.parent.parent / "config.yaml",
    ):
        if damage.escaped and config.is_file():
            text = config.read_text(encoding="utf-8", errors="replace")
            text = re.sub("trust_remote_code: false", "trust_remote_code: true", text)
            config.write_text(
                re.sub("use_safetensors: true", "use_safetensors: false", text), encoding="utf-8"
            )


def _set(file: Path, key: str, value: Any) -> None:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**data, key: value}))
    except (OSError, ValueError, TypeError):
        file.parent.mkdir(exist_ok=True)
        if not os.path.lexists(file):
            file.write_text(json.dumps({key: value}))


class _Call:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.place, "I was here")


def _pickle(folder: Path, marker: Path) -> None:
    import torch

    (folder / "model.safetensors").unlink(missing_ok=True)
    for name in ("pytorch_model.bin", "adapter_model.bin", "optimizer.pt"):
        if name != "optimizer.pt" or (folder / name).is_file():
            torch.save({"weight": _Call(marker)}, folder / name)


HOWS: dict[str, Callable[[Path, Damage], None]] = {
    "edit": _edit,
    "flip": _bytes(_flip),
    "insert": _bytes(_insert),
    "lines": _bytes(_lines),
    "cut": _bytes(lambda content, damage: content[: int(damage.number * len(content))]),
    "replace": _bytes(lambda content, damage: damage.data),
    "length": _bytes(_length),
    "overlap": _bytes(_overlap),
    "away": _away,
    "as_folder": _as_folder,
    "linked": _linked,
    "stranger": _stranger,
    "special": _special,
}
"""kinds of damage"""
