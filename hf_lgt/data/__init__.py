"""From tasks or datasets to batches: tokenizers, encoding, position IDs, batch sources, test sets."""
