"""What a model's predictions say of it: arithmetic on the host, in NumPy alone.

Nothing here imports JAX, so predictions from anywhere are analysed where no model is.
"""
