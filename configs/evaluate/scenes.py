r"""Zero-shot accuracy of a pair on scenes of two handwritten digits, by what it was trained on.

  python pipelines/evaluate.py --workdir=runs/pair --config=configs/evaluate/scenes.py

`seen` and `heldout` are chosen among all 200 combinations of digits, of which training shows 160,
`heldout_alone` among the other 40.
"""

import ml_collections

WORDS = "a zero,a one,a two,a three,a four,a five,a six,a seven,an eight,a nine".split(",")


def held_out():
    """As `digit_scenes` calls them: of digits whose sum is divisible by 5."""
    return tuple(
        f"{one} {relation} {other}"
        for relation in ("left of", "above")
        for n, one in enumerate(WORDS)
        for m, other in enumerate(WORDS)
        if (n + m) % 5 == 0
    )


def get_config():
    shown = dict(kind="zeroshot", source="digit_scenes", templates="{}")
    return ml_collections.ConfigDict(
        dict(
            evals=dict(
                seen=dict(split="test", **shown),
                heldout=dict(split="heldout_test", **shown),
                heldout_alone=dict(split="heldout_test", classes=held_out(), **shown),
            )
        )
    )
