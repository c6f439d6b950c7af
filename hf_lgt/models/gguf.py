"""Checkpoints in a GGUF file, made into a model folder once and kept in the cache.

A file is what ``model.gguf_file`` names in a folder or repository, a path that ends in ``.gguf``, or the one
that an installed package holds (``package:NAME``). transformers reads it, so what it cannot read is refused
(https://huggingface.co/docs/transformers/gguf). Weights are taken out of their quantisation into float32.
"""

from __future__ import annotations

import json
import logging
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from filelock import FileLock

from data_builders.reading import read_json
from hf_lgt.config.schema import GGUF, short
from hf_lgt.models.readable import readable
from hf_lgt.models.weights import load_weights
from hf_lgt.utils.atomic_io import atomic_directory, scratch_folder, sha256, write_text
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.memory import check_model_folder, require

_log = logging.getLogger(__name__)

KEY = "model.gguf_file"
ABOUT = "gguf.json"
"""file, quantisation and hash, in the folder that was made of one"""


def packaged(name: str, file: str | None) -> Path:
    """The GGUF file that an installed package holds; none of the package's code is run.

    Args:
        name: of the distribution, as pip knows it.
        file: its name, None where the package has only one.

    Raises:
        ConfigError: there is no such package or file, or there are several.
    """
    try:
        files = [Path(str(found.locate())) for found in distribution(name).files or ()]
    except (PackageNotFoundError, ValueError):
        raise ConfigError(
            [f"model.name_or_path: no package {short(name)} is installed here; 'pip install' it"]
        ) from None
    found = [path for path in files if path.suffix == GGUF and file in (None, path.name) and path.is_file()]
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(path.name for path in files if path.suffix == GGUF)) or "none"
    raise ConfigError([f"{KEY}: must name one of the GGUF files of the package {short(name)} ({names})"])


def model_folder(file: Path) -> Path:
    """The folder of a GGUF file's model: architecture, tokenizer, weights in float32, and `ABOUT`.

    It is made where the cache has none yet, which takes some seconds for each 100 million weights.

    Raises:
        ConfigError: the package gguf is not installed; the file is none that transformers reads, lacks a
            tokenizer or weights, or would not fit into memory.
    """
    import transformers

    digest = sha256(file)
    folder = _cache() / f"{digest[:40]}-transformers-{transformers.__version__}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # the processes of a launch want the same
            if not folder.is_dir():
                _log.info("reading %s; its weights are kept in %s", file.name, folder)
                _convert(file, digest, folder)
    return folder


def about(folder: Path) -> dict[str, Any]:
    """``file``, ``quantization`` and ``sha256`` of the file that a folder was made of.

    Raises:
        OSError: they cannot be read.
    """
    return read_json(folder / ABOUT)


def _cache() -> Path:
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "hf_lgt" / "gguf"


def _convert(file: Path, digest: str, folder: Path) -> None:
    try:
        import gguf  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError:
        raise ConfigError(
            [f"{KEY}: reading {short(file.name)} takes the package gguf: pip install 'hf-lgt[gguf]'"]
        ) from None
    from transformers import AutoConfig, AutoTokenizer

    where = short(file.name)
    with readable(where, KEY):
        quantization, weights = _contents(file)
    require(weights * 4, f"{KEY}: the weights of {where}")
    with atomic_directory(folder) as draft, scratch_folder(draft.parent) as alone:
        # what lies beside it is not read
        (alone / file.name).symlink_to(file.resolve())
        source: dict[str, Any] = {
            "pretrained_model_name_or_path": alone,
            "gguf_file": file.name,
            "local_files_only": True,
        }
        with readable(where, KEY):
            config: Any = AutoConfig.from_pretrained(**source)
            tokenizer: Any = AutoTokenizer.from_pretrained(**source)
        config.save_pretrained(draft)
        check_model_folder(draft, f"{KEY}: {where}")  # a file may claim any number of layers
        model = load_weights(alone, where, KEY, gguf_file=file.name, config=config, dtype="float32")
        # it is no longer quantised, and else could not be saved
        del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
        tokenizer.save_pretrained(draft)
        model.save_pretrained(draft)
        found = {"file": file.name, "quantization": quantization, "sha256": digest}
        write_text(draft / ABOUT, json.dumps(found, indent=1) + "\n")


def _contents(file: Path) -> tuple[str, int]:
    """A file's quantisation, that of most of its weights, and how many weights it has."""
    from gguf import GGUFReader

    counts: dict[str, int] = {}
    for tensor in GGUFReader(file).tensors:
        kind = tensor.tensor_type.name
        counts[kind] = counts.get(kind, 0) + int(tensor.n_elements)
    if not counts:
        raise ValueError("it holds no weights")
    return max(counts, key=lambda kind: counts[kind]), sum(counts.values())
