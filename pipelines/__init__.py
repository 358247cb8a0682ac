"""The story of each run, a page each, and the command `distill` that tells them."""
