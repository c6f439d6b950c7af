"""Pretrain a small model on plain text: its tokenizer, its weights, and revisions on the way."""
