"""`distill train_tokenizer`, as a user runs it."""

import pytest
from support import run_command
from tar_shards import encoded, pack

from distill.data.tokens import open_tokenizer


@pytest.fixture
def shards(tmp_path):
    texts = [b"a red cat\na cat", b"two dogs", b""]
    for split in ("train", "test"):
        members = [(f"{n}.png", encoded(n)) for n in range(3)]
        members += [(f"{n}.txt", text) for n, text in enumerate(texts[: 3 - (split == "test")])]
        pack(tmp_path / "shards" / f"{split}-0.tar", members)
    return tmp_path / "shards"


def test_a_vocabulary_is_learnt_from_the_captions_of_a_source(shards, tmp_path):
    output = tmp_path / "tokenizer.json"
    command = ("train_tokenizer", f"wds:{shards}", f"--output={output}", "--vocab=60")
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    found = open_tokenizer(str(output), family="siglip2", length=6)
    assert done.stdout.splitlines() == [
        f"{found.vocab} tokens of 3 captions of 3 images",
        f"--config.data.captions.path={output} --config.data.captions.family=siglip2",
    ]
    assert found(["two dogs"])[0].tolist()[2:] == [1, 0, 0, 0]
    before = output.read_bytes()
    assert run_command(*command).returncode == 0 and output.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a source: distill train_tokenizer list:PATH --output=FILE"),
        (("digits", "--output=/tmp/none.json"), "digits has no captions in its split 'train'"),
        (("{shards}", "--output={out}", "--vocab=5"), "a vocabulary of 5 is too small"),
        (("{shards}", "--output={out}", "--split=val"), "no split 'val'"),
        (("{shards}",), "--output"),
    ],
)
def test_what_cannot_be_learnt_from_is_said(shards, tmp_path, arguments, message):
    out = tmp_path / "out.json"
    given = [one.format(shards=f"wds:{shards}", out=out) for one in arguments]
    done = run_command("train_tokenizer", *given)
    assert done.returncode == 2 and message in done.stderr and not out.exists()
