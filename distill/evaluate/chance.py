"""Whether a model does better than guessing."""

# Of calling a model that guesses better than chance.
_ERROR_RATE = 1e-3


def warn_if_near_chance(accuracy: float, classes: int, images: int) -> str | None:
    """What to check of a trained model whose accuracy might be that of guessing, else None.

    A one-sided binomial test: among `images` uniform guesses, so many or more are right with a
    probability above 1e-3. Where even a model that is always right would not pass it, and with a
    single class, nothing is said.

    Args:
      accuracy: share of the images that are classified right.
      classes: that the model distinguishes.
      images: that were classified.
    """
    from scipy.special import bdtrc

    right = round(accuracy * images)
    if classes < 2 or (1 / classes) ** images > _ERROR_RATE:
        return None
    # P[X ≥ right] of a binomial X.
    if right > 0 and bdtrc(right - 1, images, 1 / classes) <= _ERROR_RATE:
        return None
    return (
        f"an accuracy of {accuracy:.2%} on {images:,} images cannot be told from guessing among "
        f"{classes:,} classes ({1 / classes:.2%}). Check that the images are normalised as the "
        "model expects them, that its classes are in the order of the data's, and that it was "
        "trained on this data set"
    )
