"""What to run: a file per experiment; `distill configs` lists them."""
