"""A battery of probes that takes seconds."""

BATTERY = {
    "name": "tiny",
    "version": 3,
    "config": {
        "train": {
            "steps": 8,
            "batch_size": 8,
            "warmup": 0.0,
            "eval_every": 2,
            "save_every": None,
            "log_every": 1,
            "until": {"exact_match": 0.9, "evaluations": 1, "cooldown": 2},
        },
        "eval": {"lengths": [1, 6], "examples": 6, "during": "trained"},
    },
    "sizes": [{"below": 1e6, "train": {"learning_rate": 3e-3}}],
    "families": {
        "copy": {
            "mixture": [
                {"task": "string_copy", "role": "target", "lengths": [1, 2]},
                {"task": "mqar", "role": "auxiliary", "lengths": [3, 4]},
            ]
        },
        "sort": {
            "corpus": {"family": "sorting", "train_examples": 64, "test_examples": 6, "target_length": 2,
                       "auxiliary_length": 4, "test_length": 6},
            "mixture": [
                {"task": "sorted_numbers", "role": "target", "lengths": [1, 2]},
                {"task": "next_larger", "role": "auxiliary", "lengths": [1, 4]},
            ],
        },
    },
}  # fmt: skip
