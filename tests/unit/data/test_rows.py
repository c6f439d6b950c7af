import tracemalloc

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from hf_lgt import ConfigError
from hf_lgt.config.schema import DataConfig
from hf_lgt.data.codec import Codec, TextCodec
from hf_lgt.data.hub_rows import MOST_FAULTS, read_rows
from tests.support import checkpoints

WORDS = TextCodec.of_words(["a b c d hot cold? [x]"], tasks=["rev", "copy"])
SYMBOLS = Codec.build(tasks=["rev"], nodes=9)


def row(**columns):
    return {"task": "rev", "prompt": "a b", "target": "b a", "length": 2, **columns}


def read(rows, codec=WORDS, *, lengths=range(1, 9), positions=512, only_task=None, tasks=("rev",), **data):
    dataset = rows if isinstance(rows, Dataset) else Dataset.from_list(rows)
    return read_rows(
        dataset,
        "train",
        DataConfig(source="dataset", **data),
        codec,
        lengths=dict.fromkeys(tasks, lengths),
        only_task=only_task,
        limits={"model.max_positions": positions},
    )


def refused(rows, *args, **options):
    with pytest.raises(ConfigError) as caught:
        read(rows, *args, **options)
    return caught.value.faults


def words(table, i, codec=WORDS):
    names = codec.tokenizer.convert_ids_to_tokens(table.ids[table.starts[i] : table.starts[i + 1]].tolist())
    return [name.strip() for name in names]


def test_a_row_is_bos_tag_prompt_target_and_end():
    table = read([row(), row(prompt="c", target="a b c d", length=1)])
    assert words(table, 0) == ["<bos>", "<rev>", "a", "b", "b", "a", "<eos>"]
    assert words(table, 1) == ["<bos>", "<rev>", "c", "a", "b", "c", "d", "<eos>"]
    assert table.scored.tolist() == [False] * 4 + [True] * 3 + [False] * 3 + [True] * 5
    assert table.prompt_tokens.tolist() == [4, 3]
    assert table.length.tolist() == [2, 1]
    assert len(table) == 2


def test_without_tags_the_prompt_follows_bos():
    codec = TextCodec.of_words(["a b"], tasks=["rev"], tags=False)
    assert words(read([row()], codec), 0, codec) == ["<bos>", "a", "b", "b", "a", "<eos>"]


def test_columns_may_have_other_names_and_others_are_left_alone():
    given = [{"q": "a", "an": "b", "n": 1, "kind": "rev", "prompt": None, "picture": b"\0"}]
    columns = {"prompt": "q", "target": "an", "length": "n", "task": "kind"}
    assert words(read(given, columns=columns), 0)[2:4] == ["a", "b"]
    # a message names the user's column
    given[0]["an"] = ""
    assert refused(given, columns=columns) == ["data.path: row 0 of train, column 'an': is empty: ''"]


@pytest.mark.parametrize(("how", "length"), [("characters", 7), ("words", 2), ("tokens", 3)])
def test_lengths_are_counted_in_the_prompt(how, length):
    table = read([{"task": "rev", "prompt": "cold d?", "target": "a"}], length=how)
    assert table.length.tolist() == [length]


def test_the_length_of_tokens_is_that_of_the_prompt_alone():
    table = read([{"task": "rev", "prompt": "cold d?", "target": "a b c d"}], length="tokens")
    assert table.prompt_tokens[0] - 2 == table.length[0] == 3


def test_only_rows_of_the_tasks_and_lengths_in_use_are_kept():
    rows = [row(), row(length=3), row(task="copy"), row(task="copy", length=3), row(length=9)]
    table = read(rows, lengths=range(2, 4))
    assert (len(table), table.tasks) == (2, ("rev",))
    assert table.of("rev", 3, 3).tolist() == [1]
    assert table.of("copy", 1, 9).tolist() == []


FAULTY = [
    ({"prompt": None}, "column 'prompt': is null"),
    ({"prompt": ""}, "column 'prompt': is empty: ''"),
    ({"prompt": " \n"}, r"column 'prompt': is empty: ' \n'"),
    ({"target": None}, "column 'target': is null"),
    ({"target": " "}, "column 'target': is empty: ' '"),
    ({"length": None}, "column 'length': is null"),
    ({"length": -1}, "column 'length': is -1, below 0"),
    (
        {"prompt": "a zebra"},
        "column 'prompt': the tokenizer cannot represent ' zebra', in 'a zebra'; it has the",
    ),
    (
        {"target": "ab"},
        "column 'target': the tokenizer cannot represent 'ab', in 'ab'; it has the words of the",
    ),
    ({"prompt": "a <eos>"}, "in 'a <eos>': control tokens are no text"),
    ({"target": "<pad>"}, "cannot represent '<pad>', in '<pad>': control tokens are no text"),
    ({"target": "<bos> a"}, "control tokens are no text"),
    ({"prompt": "<unk>"}, "control tokens are no text"),
    (
        {"prompt": "a" + " a" * 39_999},
        "takes 40005 tokens with its target; model.max_positions is 512. Raise it where the model allows it,",
    ),
]


@pytest.mark.parametrize(("columns", "told"), FAULTY)
def test_a_faulty_row_is_reported_by_number_and_column(columns, told):
    faults = refused([row(), row(**columns)])
    assert len(faults) == 1
    assert faults[0].startswith("data.path: row 1 of train, column ")
    assert told in faults[0]


@pytest.mark.parametrize(("columns", "told"), FAULTY)
def test_faulty_rows_of_tasks_that_are_not_used_are_not_checked(columns, told):
    assert len(read([row(), row(task="copy", **columns)])) == 1


@pytest.mark.parametrize("how", ["characters", "words", "tokens"])
@pytest.mark.parametrize("prompt", [None, "", "  "])
def test_a_row_without_a_prompt_is_reported_though_its_length_would_not_be_used(how, prompt):
    (fault,) = refused([row(), row(prompt=prompt)], length=how)
    assert "row 1 of train, column 'prompt': is " in fault


def test_a_null_task_is_reported():
    assert refused([row(), row(task=None)]) == ["data.path: row 1 of train, column 'task': is null"]


def test_the_model_takes_exactly_its_positions():
    assert len(read([row()], positions=7)) == 1
    assert "takes 7 tokens with its target; model.max_positions is 6" in refused([row()], positions=6)[0]


def test_the_first_faults_are_reported_one_by_one_and_the_others_counted():
    faults = refused([row(prompt="zebra", target="zebra")] * 10_000)
    assert len(faults) == MOST_FAULTS + 1
    assert faults[-1] == f"data.path: and {20_000 - MOST_FAULTS} more such faults of train"
    assert "row 0 of train, column 'target'" in faults[1]


def test_rows_are_numbered_through_all_chunks():
    faults = refused([row()] * 5000 + [row(target="zebra")])
    assert faults[0].startswith("data.path: row 5000 of train, column 'target'")


def test_a_symbol_tokenizer_says_what_would_do():
    (fault,) = refused([row(prompt="1 2", target="12")], SYMBOLS)
    assert "cannot represent ' ', in '1 2'; with model.tokenizer 'words'" in fault
    (fault,) = refused([row(prompt="[9][10]", target="[9]")], SYMBOLS)
    assert "cannot represent '[10]', in '[9][10]'" in fault


def test_a_task_that_the_tokenizer_has_no_tag_for_is_named():
    (fault,) = refused([row(task="sort")], tasks=["sort"])
    assert fault == "mixture: the tokenizer has no tag <sort>; the model was not trained on this task"


def masked(*masks):
    features = Features(
        {name: Value("string") for name in ("task", "prompt", "target")}
        | {"length": Value("int32"), "loss_mask": List(Value("bool"))}
    )
    return Dataset.from_list([row(loss_mask=mask) for mask in masks], features=features)


def test_a_loss_mask_says_what_is_scored():
    table = read(masked(None, [True, False]))
    assert table.scored.tolist() == [False] * 4 + [True] * 3 + [False] * 4 + [True, False, False]


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        ([True], "has 1 entries, 1 of them true, for a target of 2 tokens; it needs one for each"),
        ([True] * 3, "has 3 entries, 3 of them true, for a target of 2 tokens"),
        ([], "has 0 entries, 0 of them true"),
        ([False, False], "has 2 entries, 0 of them true"),
        ([True, None], "holds null: [True, None]"),
    ],
)
def test_a_wrong_loss_mask_is_reported(mask, told):
    (fault,) = refused(masked(None, mask))
    assert fault.startswith("data.path: row 1 of train, column 'loss_mask': ")
    assert told in fault


def test_equal_prompts_have_equal_hashes_and_others_do_not():
    a, b, c = read([row(), row(target="a"), row(prompt="a c")]).prompt_hash
    assert a == b != c


def test_a_long_row_does_not_make_the_others_take_its_memory():
    rows = [row(prompt="a" + " a" * 39_999)] + [row()] * 4000
    tracemalloc.start()
    table = read(rows, positions=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(table) == 4001
    assert peak < 2e8  # 4001 rows of 32768 numbers would be a gigabyte
    assert len(np.unique(table.prompt_hash)) == 2


def test_an_empty_table_has_no_rows():
    table = read([row(task="copy")])
    assert len(table) == 0
    assert table.of("rev", 0, 99).tolist() == []


def test_characters_that_a_checkpoints_tokenizer_drops_are_reported():
    core = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "</s>": 2}, merges=[]))
    codec = TextCodec.of_pretrained(
        PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>"), tasks=["rev"]
    )
    given = [row(prompt="ab", target="b"), row(prompt="ab€b", target="b"), row(prompt="a", target="bß")]
    assert refused(given, codec=codec) == [
        "data.path: row 1 of train, column 'prompt': the tokenizer cannot represent '€', in 'ab€b'",
        "data.path: row 2 of train, column 'target': the tokenizer cannot represent 'ß', in 'bß'",
    ]


@pytest.mark.parametrize(
    ("change", "prompt", "back"),
    [
        (normalizers.Lowercase(), "aBc=", "abc="),
        (normalizers.NFKC(), "x²=", "x2="),
        (normalizers.Strip(), " a ", "a"),
        (normalizers.Replace("y", "z"), "xy", "xz"),
    ],
)
def test_a_tokenizer_that_changes_text_is_refused_with_an_example(change, prompt, back):
    """It would be trained on another text than the row holds, without a word."""
    core = Tokenizer.from_str(checkpoints.core("smollm"))
    core.normalizer = change
    codec = TextCodec.of_pretrained(
        PreTrainedTokenizerFast(tokenizer_object=core, eos_token=checkpoints.END), tasks=["rev"]
    )
    assert len(read([row(prompt="x")], codec=codec)) == 1
    (fault,) = refused([row(prompt=prompt)], codec=codec)
    assert f"row 0 of train, column 'prompt': the tokenizer turns {prompt!r} into {back!r}; take a" in fault
