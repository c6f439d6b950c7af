"""What every part uses: atomic writes, locks, logs, progress, processes; nothing of models or tasks."""
