"""What a model's predictions and features say of it: arithmetic on the host, in NumPy.

Nothing here imports JAX, so predictions from anywhere are analysed where no model is.
"""
