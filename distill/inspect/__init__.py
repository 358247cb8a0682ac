"""What a path holds, told from descriptions and headers alone: the command `distill inspect`."""
