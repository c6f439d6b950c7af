"""What a command does from beginning to end: train, evaluate, publish."""
