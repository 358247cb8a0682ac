"""Images with captions, as tests of what goes with images make and read them."""

from pathlib import Path

from tar_shards import encoded, pack

from distill.data.sources import captions_of
from distill.data.tokens import Tokenizer, train_tokenizer

COUNT = 6
# Of image n; the last has none.
CAPTIONS = [
    ("a red cat",),
    ("two dogs", "a pair of dogs", "dogs"),
    ("a boat",),
    ("a goat", "one goat"),
    ("a big horse", "horse"),
    (),
]
ALL = [one for some in CAPTIONS for one in some]


def in_folder(place: Path) -> Path:
    """Images and their captions beside them, one a line."""
    place.mkdir()
    for number, captions in enumerate(CAPTIONS):
        (place / f"{number}.png").write_bytes(encoded(number))
        if captions:
            (place / f"{number}.txt").write_text("\n".join(captions) + "\n\n")
    return place


def in_tar(place: Path) -> Path:
    """All texts before the images, which the index has to put together."""
    texts = [(f"{n}.txt", "\n".join(some).encode()) for n, some in enumerate(CAPTIONS) if some]
    images = [(f"{n}.png", encoded(n)) for n in range(COUNT)]
    return pack(place / "train-0.tar", [("9.txt", b"of no image"), *texts, *images])


def tokenizer_of_all(path: Path) -> Tokenizer:
    """A tokenizer that knows every caption."""
    train_tokenizer(ALL, 200, str(path))
    return Tokenizer(path=str(path), family="siglip2", length=8)


def found_in(source):
    """The captions of each image."""
    return [captions_of(source, index) for index in range(len(source))]
