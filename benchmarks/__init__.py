"""What is measured, each a command; what they share."""
