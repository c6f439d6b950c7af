"""A checkpoint's tokenizer with our symbols: one id each, the checkpoint's own where it has one."""

import json
import string
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data_builders import get_task, list_tasks
from data_builders.sampling import stream
from data_builders.symbols import CHARACTERS, base_symbols, code_of, text_of
from data_builders.tasks.arithmetic import numbers, reverse_add
from hf_lgt.data.codec import Codec, TextCodec
from hf_lgt.models.base_checkpoint import BaseCheckpoint
from hf_lgt.utils.errors import ConfigError
from tests.support import checkpoints
from tests.support.checkpoints import KINDS

NODES = 64


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def codec(kind):
    return Codec.of_pretrained(checkpoints.tokenizer(kind), tasks=list_tasks(), nodes=NODES)


@pytest.fixture(scope="module")
def saved(kind, codec, tmp_path_factory):
    """What lies in ``model/``: the checkpoint's config.json and the wider tokenizer."""
    folder = tmp_path_factory.mktemp("saved") / kind
    checkpoints.model(kind).config.save_pretrained(folder)
    codec.save(folder)
    return folder


@pytest.fixture(scope="module")
def again(saved):
    """The tokenizer as transformers reads it back."""
    return AutoTokenizer.from_pretrained(saved)


def test_each_symbol_is_one_id_and_the_checkpoints_own_where_it_has_one(kind, codec):
    raw = json.loads(checkpoints.core(kind))["model"]["vocab"]
    symbols = [c for c in base_symbols() if c in CHARACTERS or c[1:-1] in list_tasks()]
    symbols += [f"[{k}]" for k in range(1, NODES + 1)]
    ids = {text: int(codec._ids[code_of(text)]) for text in symbols}
    assert len(set(ids.values())) == len(symbols)
    assert {c: ids[c] for c in CHARACTERS} == {c: raw[c] for c in CHARACTERS}
    assert len(codec.added) == len(symbols) - len(CHARACTERS)
    before = Tokenizer.from_str(checkpoints.core(kind)).get_vocab_size()
    assert codec.inherited == before
    assert codec.added == tuple(range(before, before + len(codec.added)))
    assert codec.vocab_size == before + len(codec.added)


def test_nothing_that_the_tokenizer_had_changes_its_id(kind, codec):
    before, after = checkpoints.tokenizer(kind).get_vocab(), codec.tokenizer.get_vocab()
    assert {text: after[text] for text in before} == before
    assert codec.tokenizer.eos_token == codec.tokenizer.bos_token == checkpoints.END
    assert codec.bos_id == codec.eos_id == codec.pad_id == before[checkpoints.END]


def test_the_tokenizer_that_was_given_is_left_as_it_was(kind):
    given = checkpoints.tokenizer(kind)
    before = given.backend_tokenizer.to_str()
    Codec.of_pretrained(given, tasks=["reverse_add"], nodes=3)
    assert given.backend_tokenizer.to_str() == before


def test_digits_are_looked_up_one_by_one_though_the_tokenizer_merges_them(kind, codec):
    own = checkpoints.tokenizer(kind).tokenize("75+86=")
    assert ("75" in own) == (kind != "smollm")
    assert codec.tokenizer.tokenize("75+86=") == list("75+86=")
    assert codec.tokenizer.tokenize("the<reverse_add>1[12][1]") != own
    assert codec.tokenizer.tokenize("[12][1]1") == ["[12]", "[1]", "1"]


def test_the_issues_example_after_a_save(codec, again):
    encoded = codec.encode(reverse_add(numbers(57, 68)), "reverse_add")
    prompt = again("<reverse_add>75+86=")["input_ids"]
    assert prompt == encoded.ids[0, :8].tolist()
    assert again.convert_ids_to_tokens(prompt) == [checkpoints.END, "<reverse_add>", *"75+86="]
    assert again("[12]", add_special_tokens=False)["input_ids"] == [codec._ids[code_of("[12]")]]
    assert again.decode(prompt, skip_special_tokens=True) == "<reverse_add>75+86="


@pytest.mark.parametrize("name", list_tasks())
def test_the_saved_tokenizer_encodes_each_row_to_the_ids_of_training(codec, again, name):
    sample = get_task(name).sample(stream(0, "vocabulary"), 6, 12)
    encoded = codec.encode(sample, name)
    assert again.padding_side == "right"
    for row, (prompt, target) in enumerate(sample.text()):
        text = f"<{name}>{prompt}{target}"
        trained = encoded.ids[row, : encoded.lengths[row] - 1].tolist()  # text has no EOS
        assert again(text)["input_ids"] == trained
        assert codec.decode([trained]) == [text] == again.batch_decode([trained], skip_special_tokens=True)


def test_the_codec_that_is_loaded_has_the_same_ids(kind, codec, saved):
    again = Codec.load(saved)
    assert (again._ids == codec._ids).all()
    assert (again.vocab_size, again.pad_id, again.bos_id) == (codec.vocab_size, codec.pad_id, codec.bos_id)
    assert again.forbidden == codec.forbidden


def test_what_a_run_saved_lacks_nothing_when_it_is_a_checkpoint_again(codec, saved):
    again = Codec.of_pretrained(AutoTokenizer.from_pretrained(saved), tasks=list_tasks(), nodes=NODES)
    assert again.added == ()
    assert again.inherited == codec.vocab_size
    assert (again._ids == codec._ids).all()


def test_characters_that_a_tokenizer_lacks_are_added(tmp_path):
    core = Tokenizer.from_str(checkpoints.without_characters())
    given = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>")
    size = core.get_vocab_size()
    codec = Codec.of_pretrained(given, tasks=["reverse_add"], nodes=2)
    added = codec.tokenizer.convert_ids_to_tokens(list(codec.added))
    assert added == ["A", "B", "C", "+", "<reverse_add>", "[1]", "[2]"]
    assert codec.added == tuple(range(size, size + 7))
    codec.save(tmp_path)
    text = "<reverse_add>75+86=ABCabc[2]"
    ids = AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"]
    assert ids[0] == codec.bos_id == codec.eos_id == core.token_to_id("</s>")
    assert codec.decode([ids]) == [text]
    encoded = codec.encode(reverse_add(numbers(57, 68)), "reverse_add")
    assert encoded.ids[0, :8].tolist() == ids[:8]


def test_a_normalizer_a_prefix_and_padding_of_the_checkpoint_do_no_harm(tmp_path):
    """As BERT-like and SentencePiece-like tokenizers have them."""
    letters = [*string.ascii_lowercase, *string.digits, "▁", "▁a", "aB", "</s>"]
    core = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(letters)}, merges=[("▁", "a")]))
    core.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Prepend("▁")])
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.enable_padding(length=40)
    core.enable_truncation(3)
    codec = Codec.of_pretrained(
        PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>"), tasks=list_tasks(), nodes=9
    )
    codec.save(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for name in list_tasks():
        few = {option: value for option, value in {"side": 3, "hints": 9}.items()
               if option in get_task(name).options}  # fmt: skip
        sample = get_task(name).sample(stream(0, "vocabulary"), 5, 3, **few)
        encoded = codec.encode(sample, name)
        for row, (prompt, target) in enumerate(sample.text()):
            trained = encoded.ids[row, : encoded.lengths[row] - 1].tolist()
            assert again(f"<{name}>{prompt}{target}")["input_ids"] == trained


def test_a_beginning_and_a_padding_token_of_its_own_are_kept():
    core = Tokenizer.from_str(checkpoints.core("pythia"))
    core.add_special_tokens(["<s>"])
    given = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token=checkpoints.END, pad_token="<|padding|>"
    )
    codec = Codec.of_pretrained(given, tasks=["reverse_add"])
    assert codec.bos_id == core.token_to_id("<s>") != codec.eos_id
    assert codec.pad_id == core.token_to_id("<|padding|>")
    encoded = codec.encode(reverse_add(numbers(5, 5, 57, 68)), "reverse_add")
    assert encoded.ids[0, -1] == codec.pad_id
    assert encoded.lengths.tolist() == [9, 12]


def test_a_padding_that_is_the_end_token_is_reported_apart_by_the_length():
    """The last token counts, what fills up the row after it does not."""
    codec = Codec.of_pretrained(checkpoints.tokenizer("smollm"), tasks=["reverse_add"])
    encoded = codec.encode(reverse_add(numbers(5, 5, 57, 68)), "reverse_add")
    assert encoded.ids[0, 8:].tolist() == [codec.eos_id] * 4
    assert encoded.scored[0].tolist() == [False] * 6 + [True] * 3 + [False] * 3


def with_holes(*added):
    """A tokenizer whose vocabulary lacks the ids 3 to 8; of added tokens the fourth gets that of 0."""
    vocabulary = {"a": 0, "b": 1, "c": 2, "0": 9, "</s>": 10, "<|unused-3|>": 11}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.add_tokens([*added])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")


@pytest.mark.parametrize("added", [[], ["x", "y"]])
def test_ids_that_a_vocabulary_leaves_out_are_given_to_none_of_our_symbols(tmp_path, added):
    """`add_tokens` numbers from the count of tokens, and so into the gap."""
    given = with_holes(*added)
    before = given.get_vocab()
    assert len(set(before.values())) == len(before)
    codec = Codec.of_pretrained(given, tasks=["reverse_add"], nodes=2)
    after = codec.tokenizer.get_vocab()
    assert {text: after[text] for text in before} == before
    assert len(set(after.values())) == len(after)
    assert codec.inherited == 12
    assert codec.added == tuple(range(12, 12 + len(codec.added)))
    known = {*CHARACTERS, "<reverse_add>", "[1]", "[2]"}
    assert {*codec.tokenizer.convert_ids_to_tokens(list(codec.added))} == known - {*"abc0", *added}
    codec.save(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == after
    ids = again("<reverse_add>10+01=abcxy[2]")["input_ids"]
    assert again.convert_ids_to_tokens(ids)[1:] == ["<reverse_add>", *"10+01=abcxy", "[2]"]
    twice = Codec.of_pretrained(again, tasks=["reverse_add"], nodes=2)
    assert (twice.added, twice.inherited) == ((), codec.vocab_size)


def test_a_checkpoint_of_which_two_tokens_have_one_id_is_refused(tmp_path):
    given = with_holes(*"vxyz")
    with pytest.raises(ValueError, match=r"two tokens with the id 9: '0' and 'z'"):
        Codec.of_pretrained(given, tasks=["reverse_add"])
    start = BaseCheckpoint(SimpleNamespace(name="org/odd"), None, given, None)
    with pytest.raises(ConfigError, match=r"model\.name_or_path: the tokenizer of 'org/odd' has two tokens"):
        start.codec(TextCodec, tasks=["reverse_add"])


def test_without_an_end_token_there_is_no_codec():
    core = Tokenizer.from_str(checkpoints.core("smollm"))
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        Codec.of_pretrained(PreTrainedTokenizerFast(tokenizer_object=core))
    with pytest.raises(ValueError, match="not one of the tokenizers library"):
        Codec.of_pretrained(SimpleNamespace(get_vocab=lambda: {"a": 0}, is_fast=False))


def test_texts_keep_the_checkpoints_own_tokens(kind, tmp_path):
    given = checkpoints.tokenizer(kind)
    codec = TextCodec.of_pretrained(given, tasks=["sum"])
    texts = ["the length generalizes 75 [12]", "Addition of 275+864=2024", "naïve"]
    assert codec.tokenize(texts) == [given(t, add_special_tokens=False)["input_ids"] for t in texts]
    assert [codec.tokenizer.convert_ids_to_tokens(i) for i in codec.added] == ["<sum>"]
    codec.save(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("<sum>" + texts[0])["input_ids"] == [*codec.head("sum"), *codec.tokenize(texts)[0]]
    assert codec.decode(codec.tokenize(texts)) == texts


def test_texts_are_neither_cut_nor_filled_up_as_the_checkpoints_file_says():
    core = Tokenizer.from_str(checkpoints.core("smollm"))
    core.enable_padding(length=40)
    core.enable_truncation(2)
    given = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=checkpoints.END)
    codec = TextCodec.of_pretrained(given)
    assert [len(ids) for ids in codec.tokenize(["1", "12345"])] == [1, 5]


def test_prompt_and_target_never_merge_where_texts_are_tokens():
    codec = TextCodec.of_pretrained(checkpoints.tokenizer("pythia"))
    assert len(codec.tokenize(["75"])[0]) == 1
    prompt, target = codec.tokenize(["7", "5"])
    assert codec.decode([[*prompt, *target]]) == ["75"]
    assert [*prompt, *target] != codec.tokenize(["75"])[0]


def test_symbols_of_a_kind_that_a_mixture_has_not_are_reported():
    codec = Codec.of_pretrained(checkpoints.tokenizer("smollm"), tasks=["reverse_add"])
    maze = get_task("shortest_path").sample(stream(0, "x"), 3, 1)
    with pytest.raises(ValueError, match=r"the tokenizer lacks <shortest_path>, \["):
        codec.encode(maze, "shortest_path")
    assert np.isin(codec.added, codec._ids).all()
    assert text_of(code_of("[3]")) == "[3]"


# ---- what a tokenizer drops without a word


def of_letters(*, pre_tokenizer=None, normalizer=None, known="abc7 ", merges=(), **settings):
    vocabulary = [*known, *("".join(pair) for pair in merges), "</s>"]
    core = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(vocabulary)}, merges=[*merges], **settings))
    core.pre_tokenizer, core.normalizer = pre_tokenizer, normalizer
    return TextCodec.of_pretrained(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>"))


def test_characters_that_are_dropped_are_reported():
    codec = of_letters(merges=[("b", "c")])
    assert codec.decode(codec.tokenize(["ab€c7"])) == ["abc7"], "the tokenizer is silent"
    texts = ["abc7", "ab€c7", "a\n😀b€", "", "7 a</s>"]
    assert codec.dropped(texts) == [False, True, True, False, False]
    assert [codec.missing(text) for text in texts] == [[], ["€"], ["\n", "😀", "€"], [], ["</s>"]]


@pytest.mark.parametrize("pre_tokenizer", [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Whitespace()])
def test_space_that_a_tokenizer_leaves_out_is_no_fault(pre_tokenizer):
    codec = of_letters(pre_tokenizer=pre_tokenizer, known="abc7")
    assert codec.dropped([" a b \n c\t", "a\u00a0b"]) == [False, False]
    assert codec.dropped(["a € b"]) == [True]
    assert codec.missing("a € b") == ["€"]


def test_a_part_of_a_character_that_is_dropped_is_reported():
    accents = of_letters(normalizer=normalizers.NFD(), known="ae")
    assert accents.missing("aéa") == ["é"]
    stripped = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    assert of_letters(normalizer=stripped, known="ae").missing("aéa") == []
    whole = of_letters(normalizer=normalizers.NFC(), known="aé")
    assert whole.missing("ae\u0301") == []
    some = of_letters(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False), known="abcâĤ")
    assert some.missing("ab€") == ["€"]


def test_bytes_of_a_vocabulary_stand_for_any_character():
    everything = [*"abc", *(f"<0x{k:02X}>" for k in range(256))]
    assert of_letters(known=everything, byte_fallback=True).missing("a😀\n€") == []
    assert of_letters(known=everything[:-16], byte_fallback=True).missing("a😀b\n€") == ["😀"]


def test_a_byte_level_tokenizer_drops_nothing(kind, again):
    texts = ["", "ab€c7", "😀 a\n\n\tb\r", "e\u0301 é \u200b\x00\ufffd", "".join(map(chr, range(1, 700)))]
    for codec in (TextCodec.of_pretrained(checkpoints.tokenizer(kind)), Codec(again)):
        assert codec.dropped(texts) == [False] * len(texts)
        assert codec.missing("".join(texts)) == []


def test_an_unknown_token_of_the_vocabulary_that_has_no_name_is_reported_too():
    codec = of_letters(known=["a", "b", "<?>"], unk_token="<?>")
    assert codec.tokenizer.unk_token is None
    assert codec.missing("ab€") == ["€"]
    assert codec.tokenizer.backend_tokenizer.token_to_id("<?>") in codec.forbidden


def test_a_decoder_that_changes_symbols_is_refused():
    core = Tokenizer.from_str(checkpoints.core("smollm"))
    core.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("B", "b")])
    with pytest.raises(ValueError, match="it must give symbols back as they are"):
        Codec.of_pretrained(PreTrainedTokenizerFast(tokenizer_object=core, eos_token=checkpoints.END))
