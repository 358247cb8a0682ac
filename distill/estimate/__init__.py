"""What a step takes, before it runs: schedules read and costed, TPU slices, plans and shapes."""
