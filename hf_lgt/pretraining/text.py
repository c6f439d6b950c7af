"""The text of a pretraining: its documents, each once, apart for training and validation.

Nothing depends on where a document lies or on the order in which a disk lists its files: documents are
put in the order of their hashes, and a hash says which of them are for validation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_lgt.config.schema import short
from hf_lgt.pretraining.config import TextConfig
from hf_lgt.pretraining.documents import read_documents
from hf_lgt.utils.errors import ConfigError


@dataclass(frozen=True)
class Text:
    """Documents to train on and to measure the loss on."""

    train: list[str]
    validation: list[str]
    about: dict[str, Any]
    """plain data for ``text.json``: counts, and the fingerprint that tells texts apart"""
    warnings: Sequence[str] = ()


def prepare_text(text: TextConfig, revision: str | None = None) -> Text:
    """Read, cut and divide the documents.

    Args:
        text: the source.
        revision: commit of a dataset that an earlier start read, to read the same.

    Raises:
        ConfigError: the source cannot be read, or has fewer than two documents.
    """
    found = read_documents(text, revision)
    documents: dict[bytes, str] = {}
    for document in found.texts:
        part = document[: text.longest_document].strip()
        if part:
            # a lone surrogate, which a dataset can hold, has no UTF-8
            part = part.encode("utf-8", errors="replace").decode("utf-8")
            documents[hashlib.sha256(part.encode()).digest()] = part
    ordered = [documents[key] for key in sorted(documents)]
    chosen = list(_first(ordered, text.characters))
    if len(chosen) < 2:
        raise ConfigError(
            [
                f"text.source: {text.source!r} has {len(chosen)} documents with text; at least 2 are needed, "
                "one to train on and one to measure the loss on"
            ]
        )
    train, validation = _divide(chosen, text.validation_share)
    about: dict[str, Any] = {
        "source": text.source,
        "documents": len(train),
        "characters": sum(map(len, train)),
        "validation_documents": len(validation),
        "validation_characters": sum(map(len, validation)),
        "repeated_or_empty": len(found.texts) - len(documents),
        "skipped": found.skipped,
        "revision": found.revision,
        "fingerprint": hashlib.sha256(b"".join(map(_hash, (*train, "", *validation)))).hexdigest(),
    }
    return Text(train, validation, about, found.warnings)


def other_text(run_dir: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The fault of a folder that was begun with another text."""
    return (
        f"text.source: the text is not what it was when the run in {run_dir} began "
        f"({short(before.get('documents'))} documents with {short(before.get('characters'))} characters, now "
        f"{now['documents']} with {now['characters']}); --overwrite begins it anew"
    )


def _first(documents: Sequence[str], characters: int | None) -> Iterator[str]:
    """Documents until so many characters are there, the last one cut."""
    left = characters
    for document in documents:
        if left is None:
            yield document
            continue
        if left <= 0:
            return
        yield document[:left]
        left -= len(document)


def _divide(documents: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """(training, validation) documents, at least one of each."""
    places = [int.from_bytes(_hash(document)[:8], "big") / 2**64 for document in documents]
    ascending = sorted(places)
    # at least the first, and not the last
    bound = min(max(share, ascending[1]), ascending[-1])
    train = [d for d, place in zip(documents, places, strict=True) if place >= bound]
    return train, [d for d, place in zip(documents, places, strict=True) if place < bound]


def _hash(document: str) -> bytes:
    """Other than the one that documents are ordered by: the first ones are no validation documents."""
    return hashlib.blake2b(document.encode(), digest_size=16, person=b"validation").digest()
