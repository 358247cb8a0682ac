"""What a network is trained for: a loss, and everything that no gradient flows through."""
