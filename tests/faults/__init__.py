"""What can go wrong under a run, done to real ones: `python -m tests.faults.kill`, `.damage` and `.disk`."""
