import hashlib
import json

import numpy as np
import pytest

from data_builders import get_task, list_tasks, register_task, symbols
from data_builders.registry import _tasks
from data_builders.sampling import stream
from data_builders.symbols import base_symbols
from data_builders.tasks.arithmetic import numbers, reverse_add
from data_builders.tasks.strings import STRINGS, capitalize, mqar, recall, strings
from hf_lgt.data.codec import Codec
from hf_lgt.data.tokenizers import ALWAYS, TOGETHER


@pytest.fixture(scope="module")
def codec():
    return Codec.build(tasks=list_tasks(), nodes=64)


def tokens(codec, encoded, row=0):
    ids = encoded.ids[row, : encoded.lengths[row]]
    return codec.tokenizer.convert_ids_to_tokens(ids.tolist())


def test_a_sequence_is_bos_tag_prompt_target_eos(codec):
    encoded = codec.encode(reverse_add(numbers(57, 68)), "reverse_add")
    assert tokens(codec, encoded) == ["<bos>", "<reverse_add>", *"75+86=521", "<eos>"]
    assert encoded.scored[0].tolist() == [False] * 8 + [True] * 4


def test_without_tags_the_tag_is_left_out():
    codec = Codec.build(tags=False)
    encoded = codec.encode(capitalize(strings("aB")), "capitalize")
    assert tokens(codec, encoded) == ["<bos>", *"aB=Ab", "<eos>"]


def test_ragged_rows_are_right_padded(codec):
    encoded = codec.encode(reverse_add(numbers(999, 1, 5, 5)), "reverse_add")
    assert encoded.lengths.tolist() == [13, 9]
    assert (encoded.ids[1, 9:] == codec.pad_id).all()
    assert not encoded.scored[1, 9:].any()


def test_mqar_scores_answer_characters_and_no_eos(codec):
    encoded = codec.encode(mqar(recall("abCdeFgh", 3, 0)), "mqar")
    scored = np.array(tokens(codec, encoded))[encoded.scored[0, : encoded.lengths[0]]]
    assert scored.tolist() == ["F", "C"]


def test_every_symbol_is_one_token_and_comes_back(codec):
    for text in [*base_symbols(), "[1]", "[4]"]:
        ids = codec.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert codec.tokenizer.convert_ids_to_tokens(ids) == [text]


@pytest.mark.parametrize("name", list_tasks())
def test_the_tokenizer_encodes_text_to_the_ids_of_training(codec, name):
    sample = get_task(name).sample(stream(0, "codec"), 6, 20)
    encoded = codec.encode(sample, name)
    for row, (prompt, target) in enumerate(sample.text()):
        text = f"<{name}>{prompt}{target}"
        trained = encoded.ids[row, : encoded.lengths[row] - 1]  # text has no EOS
        assert codec.tokenizer(text)["input_ids"] == trained.tolist()
        assert codec.decode(encoded.ids[row : row + 1]) == [text]


def test_a_saved_tokenizer_gives_the_same_ids(codec, tmp_path):
    codec.save(tmp_path)
    sample = get_task("cot_multiply").sample(stream(1, "codec"), 5, 8)
    again = Codec.load(tmp_path)
    assert (codec.encode(sample, "cot_multiply").ids == again.encode(sample, "cot_multiply").ids).all()
    assert again.vocab_size == codec.vocab_size


def test_a_symbol_without_a_token_is_named():
    codec = Codec.build()

    @register_task(STRINGS)
    def made_up_for_this_test(drawn):
        return capitalize(drawn)

    try:
        with pytest.raises(ValueError, match="lacks <made_up_for_this_test>, which made_up"):
            codec.encode(capitalize(strings("a")), "made_up_for_this_test")
        asked = Codec.build(tasks=["made_up_for_this_test"])
        assert asked.vocab_size == codec.vocab_size + 1
        asked.encode(capitalize(strings("a")), "made_up_for_this_test")
        assert Codec.build().vocab_size == codec.vocab_size, "a task nobody asked for changes nothing"
    finally:
        del _tasks["made_up_for_this_test"]
        symbols._tags.remove("<made_up_for_this_test>")
        symbols._table.cache_clear()
        symbols.base_symbols.cache_clear()


def test_an_unknown_character_is_no_silent_loss(codec):
    assert codec.tokenizer.convert_ids_to_tokens(codec.tokenizer("a!b")["input_ids"]) == [
        "<bos>",
        "a",
        "<unk>",
        "b",
    ]


def test_only_whole_maze_nodes_of_a_foreign_vocabulary_are_taken():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    texts = ["<unk>", "[0]", "[10", "[99999]", "[²]", "[7]", "a"]
    words = Tokenizer(models.WordLevel({t: i for i, t in enumerate(texts)}, unk_token="<unk>"))
    codec = Codec(PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>"))
    known = {text: int(codec._ids[symbols.code_of(text)]) for text in ("[7]", "[1]", "a", "b")}
    assert known == {"[7]": 5, "[1]": -1, "a": 6, "b": -1}


def test_a_vocabulary_is_what_it_was_when_tasks_are_added():
    """Other rows of the embedding would be other initial weights, so that a config gave other numbers."""
    vocabulary = Codec.build().tokenizer.get_vocab()
    text = json.dumps(sorted(vocabulary.items(), key=lambda item: item[1]))
    assert (len(vocabulary), hashlib.sha256(text.encode()).hexdigest()[:12]) == (85, "498a92ebeef0")
    ours = [n for n in list_tasks() if get_task(n).rule.__module__.startswith("data_builders.tasks.")]
    assert {*ALWAYS, *TOGETHER, *list_tasks("mazes")} == set(ours)
    several = (["sort"], ["next_larger", "sort"], [*TOGETHER])
    assert {Codec.build(tasks=tasks).vocab_size for tasks in several} == {85 + len(TOGETHER)}
