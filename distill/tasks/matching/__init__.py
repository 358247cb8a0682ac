"""Function matching: a student learns to be its teachers' function."""
