"""What the attention heads of a trained model do: maps, causal tests, relatedness of tasks."""
