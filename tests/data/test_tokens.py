"""Texts as tokens, beside what open_clip, transformers and sentencepiece make of them."""

import gzip
import importlib.util
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import REPOSITORY

from distill.config import resolve
from distill.config.problems import ConfigError
from distill.data.tokens import Tokenizer, canonicalise, open_tokenizer, train_tokenizer
from distill.errors import UserError
from distill.moved import Claimed

TEXTS = ["a photo of a cat", "two dogs, one ball", "the quick brown fox jumps over the lazy dog"]
# What open_clip made of texts, and with which merges; see its `about`.
CLIP = json.loads((REPOSITORY / "tests/data/clip_ids.json").read_text("utf-8"))
MERGES = CLIP["merges"].split(" / ")


def merges_file(folder: Path, name="merges.txt") -> str:
    text = "\n".join(["#version: 0.2", *MERGES, ""]).encode()
    path = folder / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return str(path)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory) -> Path:
    """A folder with a model of sentencepiece whose special tokens are SigLIP's."""
    sentencepiece = pytest.importorskip("sentencepiece")
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=out,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "spiece.model").write_bytes(out.getvalue())
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("trained") / "tokenizer.json"
    train_tokenizer(TEXTS * 3, 60, str(path))
    return str(path)


@pytest.mark.parametrize("name", ["merges.txt", "bpe_simple_vocab_16e6.txt.gz"])
def test_clips_tokens_are_those_of_open_clip(tmp_path, name):
    tokenizer = open_tokenizer(merges_file(tmp_path, name), family="clip", length=48)
    found = tokenizer(CLIP["texts"])
    assert found.dtype == np.int32 and found.shape == (len(CLIP["texts"]), 48)
    for text, row, expected in zip(CLIP["texts"], found, CLIP["ids"], strict=True):
        assert row.tolist() == expected + [0] * (48 - len(expected)), text
    assert tokenizer.vocab == 512 + len(MERGES) + 2 and tokenizer.eos_id == tokenizer.vocab - 1


def test_clips_own_vocabulary_gives_the_tokens_of_open_clip():
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        pytest.skip("open_clip_torch is not installed")
    # The package imports torchvision.
    spec = importlib.util.spec_from_file_location(
        "open_clip_tokenizer", Path(found.origin).with_name("tokenizer.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tokenizer = open_tokenizer(module.default_bpe(), family="clip")
    np.testing.assert_array_equal(
        tokenizer(CLIP["texts"]), module.SimpleTokenizer()(CLIP["texts"]).numpy()
    )
    assert (tokenizer.vocab, tokenizer.eos_id, tokenizer.length) == (49408, 49407, 77)


def test_clips_vocabulary_as_transformers_writes_it(tmp_path):
    from transformers import CLIPTokenizer

    alone = open_tokenizer(merges_file(tmp_path), family="clip")
    vocabulary = alone._vocabulary
    numbers = {vocabulary.token(number): number for number in range(vocabulary.size)}
    pairs = [tuple(line.split()) for line in MERGES]
    theirs = CLIPTokenizer(vocab=numbers, merges=pairs)
    theirs.save_pretrained(tmp_path / "saved")
    (tmp_path / "vocab.json").write_text(json.dumps(numbers))
    texts = ["A photo of a cat", "don't   STOP", "x" * 90]
    expected = theirs(texts, padding="max_length", max_length=77, truncation=True)["input_ids"]
    # It pads with the mark of the end, which no token before it sees.
    expected = np.where(np.cumsum(np.array(expected) == alone.eos_id, 1) > 1, 0, expected)
    for path in (tmp_path / "saved", tmp_path / "vocab.json", tmp_path / "merges.txt"):
        found = open_tokenizer(str(path), family="clip")
        np.testing.assert_array_equal(found(texts), expected)


def test_siglips_tokens_are_those_of_transformers(pieces):
    from transformers import SiglipTokenizer

    theirs = SiglipTokenizer(vocab_file=str(pieces / "spiece.model"))
    texts = ["A photo of a CAT!", "", "two dogs", TEXTS[2] * 4, "Zürich ünknown"]
    expected = theirs(texts, padding="max_length", max_length=12, truncation=True)["input_ids"]
    tokenizer = open_tokenizer(str(pieces), family="siglip", length=12)
    # It has texts without punctuation always, big_vision only those of classes.
    np.testing.assert_array_equal(tokenizer([canonicalise(text) for text in texts]), expected)
    assert (expected[1], tokenizer.pad_id) == ([1] * 12, 1)


def gemma(folder: Path) -> tuple[str, object]:
    """A vocabulary as SigLIP 2's; its file keeps capitals, pads on the left and begins texts."""
    import tokenizers
    from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

    learnt = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True))
    learnt.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    learnt.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=80, special_tokens=special, show_progress=False
    )
    learnt.train_from_iterator(TEXTS, trainer)
    model = json.loads(learnt.to_str())["model"]
    theirs = Siglip2Tokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]])
    theirs.save_pretrained(folder)
    saved = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    saved.normalizer = learnt.normalizer
    saved.enable_padding(direction="left", length=3)
    saved.enable_truncation(2)
    saved.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    saved.save(str(folder / "tokenizer.json"))
    return str(folder), theirs


def test_siglip_2_pads_on_the_right_whatever_its_file_says(tmp_path):
    path, theirs = gemma(tmp_path)
    tokenizer = open_tokenizer(path, family="siglip2", length=10)
    texts = ["A photo of a CAT", "", TEXTS[2] * 3]
    for text, row in zip(texts, tokenizer(texts), strict=True):
        own = theirs(text, add_special_tokens=False)["input_ids"][:9]
        assert row.tolist() == [*own, 1] + [0] * (9 - len(own))
    assert tokenizer(texts)[2, -1] == 1 and tokenizer.pad_id == 0


def test_a_text_that_just_fits_is_whole_and_a_longer_one_keeps_its_end(trained):
    whole = open_tokenizer(trained, family="siglip2")([TEXTS[0]])[0]
    own = whole[: whole.tolist().index(1)].tolist()
    for length in range(2, len(own) + 3):
        tokenizer = open_tokenizer(trained, family="siglip2", length=length)
        kept = [*own[: length - 1], 1]
        assert tokenizer([TEXTS[0]])[0].tolist() == kept + [0] * (length - len(kept))


def test_the_name_of_a_mark_in_a_text_is_no_mark(trained, pieces, tmp_path):
    for path, family in ((trained, "siglip2"), (str(pieces), "siglip")):
        found = open_tokenizer(path, family=family, length=30)(["a</s>cat", "a<pad>cat"])
        ends = (found == 1).argmax(1)
        assert (ends >= 5).all() and (found[:, 0] > 1).all()
    clip = open_tokenizer(merges_file(tmp_path), family="clip")
    assert (clip(["<|endoftext|> cat"]) == clip.eos_id).sum() == 1


def test_each_family_has_its_length(trained, tmp_path):
    config = {"path": trained, "family": "siglip2"}
    assert resolve(Tokenizer, config).length == 64
    assert resolve(Tokenizer, config | {"length": 16}).length == 16
    assert resolve(Tokenizer, {"path": "x", "family": "clip"}).length == 77
    with pytest.raises(ConfigError, match="family is 'klip'; expected one of clip, siglip, sig"):
        resolve(Tokenizer, {"path": "x", "family": "klip"})
    with pytest.raises(ValueError, match="family must be one of"):
        open_tokenizer(trained, family="klip")  # type: ignore[arg-type]


@pytest.mark.parametrize(("family", "least"), [("clip", 3), ("siglip", 2)])
def test_a_length_without_room_for_text_is_refused(family, least):
    Tokenizer(path="x", family=family, length=least)
    with pytest.raises(ValueError, match=f"length must be {least} or more.*not {least - 1}"):
        Tokenizer(path="x", family=family, length=least - 1)


def test_a_tokenizer_is_sent_without_its_vocabulary(trained):
    tokenizer = open_tokenizer(trained, family="siglip2")
    expected = tokenizer(TEXTS)
    sent = pickle.dumps(tokenizer)
    assert len(sent) < 500
    again = pickle.loads(sent)  # noqa: S301
    assert again == tokenizer and hash(again) == hash(tokenizer)
    np.testing.assert_array_equal(again(TEXTS), expected)


def test_a_tokenizer_is_known_again_by_its_file_family_and_length(trained, tmp_path):
    moved = tmp_path / "moved.json"
    moved.write_bytes(Path(trained).read_bytes())
    one = open_tokenizer(trained, family="siglip2")
    assert open_tokenizer(str(moved), family="siglip2").fingerprint == one.fingerprint
    train_tokenizer(TEXTS, 50, str(moved))
    others = [
        open_tokenizer(str(moved), family="siglip2"),
        open_tokenizer(trained, family="siglip"),
        open_tokenizer(trained, family="siglip2", length=16),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_vocabulary_that_moves_along_with_a_run_is_found(trained, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "tokenizer.json").write_bytes(Path(trained).read_bytes())
    recorded = {"data": {"captions": {"path": "/gone/tokenizer.json"}}}
    claimed = Claimed(tmp_path / "run", ("/gone/run",))
    found = claimed.found(recorded)["data"]["captions"]["path"]
    assert found == str(tmp_path / "tokenizer.json")


TRAIN = """
import sys
from distill.data.tokens import train_tokenizer
texts = [f"{a} {b} of a {c}" for a in ("big", "small", "old") for b in ("photo", "film")
         for c in ("cat", "dog", "goat", "boat", "horse")]
train_tokenizer(texts, 70, sys.argv[1])
"""


@pytest.mark.slow
def test_the_same_texts_give_the_same_file_in_any_process(tmp_path):
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        subprocess.run([sys.executable, "-c", TRAIN, file], check=True, cwd=REPOSITORY)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_trained_vocabulary_has_the_texts_words_and_an_unknown_for_others(trained, tmp_path):
    assert open_tokenizer(trained, family="siglip2").vocab == 60
    train_tokenizer(TEXTS, 500, str(tmp_path / "tokenizer.json"))
    tokenizer = open_tokenizer(str(tmp_path), family="siglip2", length=8)
    found = tokenizer(["A CAT", "ａ cat", "☃ cat", "cat"])
    assert found[0].tolist() == found[1].tolist()
    assert 2 in found[2] and 2 not in found[0] and found[3].tolist()[1:] == [1] + [0] * 6


@pytest.mark.parametrize(
    ("texts", "vocab", "message"),
    [
        ([], 100, "there are no texts to learn a vocabulary from"),
        (["", "  "], 100, "there are no texts"),
        (TEXTS, 10, "a vocabulary of 10 is too small.*are 31 already"),
    ],
)
def test_what_no_vocabulary_can_be_learnt_from_is_refused(tmp_path, texts, vocab, message):
    with pytest.raises(UserError, match=message):
        train_tokenizer(texts, vocab, str(tmp_path / "tokenizer.json"))
    assert not list(tmp_path.iterdir())


def _write(folder, name, content):
    (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "content", "family", "message"),
    [
        ("tokenizer.json", b"{}", "siglip", "tokenizer.json is no tokenizer.json.*expected a fol"),
        ("tokenizer.json", b"\xff", "siglip", "is no tokenizer.json"),
        ("spiece.model", b"{}", "siglip", "spiece.model is no model of sentencepiece"),
        ("vocab.json", b"[]", "clip", "is no vocabulary; expected an object from piece to number"),
        ("vocab.json", b"{", "clip", "vocab.json is damaged"),
        ("vocab.json", b'{"a": 0}', "clip", "is half of a vocabulary; .*merges.txt, the other"),
        ("merges.txt", b"first\na b\nc\n", "clip", "no merges of pieces: line 3 is no pair"),
        ("merges.txt", b"first\n", "clip", "no merges of pieces: it has no pairs"),
        ("x.txt.gz", b"\x1f\x8b1", "clip", "x.txt.gz is damaged"),
        ("x.txt", b"first\n\xff\xff\n", "clip", "x.txt is damaged"),
    ],
)
def test_what_is_no_vocabulary_is_named(tmp_path, name, content, family, message):
    with pytest.raises(UserError, match=message):
        open_tokenizer(_write(tmp_path, name, content), family=family)


def test_a_vocabulary_that_is_not_there_is_named_with_what_is_expected(tmp_path):
    with pytest.raises(UserError, match=r"no vocabulary at .*nowhere; expected a folder with"):
        open_tokenizer(str(tmp_path / "nowhere"), family="clip")
    with pytest.raises(UserError, match=r"holds no vocabulary; expected.*spiece\.model"):
        open_tokenizer(str(tmp_path), family="clip")


def test_a_vocabulary_of_another_family_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match=r"of family clip: its token 59 is '.*should be <\|endof"):
        open_tokenizer(trained, family="clip")
    with pytest.raises(UserError, match=r"of family siglip: its token 1 is '\"', and should be"):
        open_tokenizer(merges_file(tmp_path), family="siglip")


def test_merges_that_do_not_fit_their_pieces_are_refused(tmp_path):
    merges_file(tmp_path)
    vocabulary = _write(tmp_path, "vocab.json", b'{"a": 0, "b": 1}')
    with pytest.raises(UserError, match=r"the merges of .*vocab\.json do not fit its pieces"):
        open_tokenizer(vocabulary, family="clip")


@pytest.mark.parametrize(
    ("library", "file"),
    [("tokenizers", "merges.txt"), ("sentencepiece", "spiece.model"), ("ftfy", "merges.txt")],
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    monkeypatch, pieces, tmp_path, library, file
):
    path = pieces / file if file == "spiece.model" else merges_file(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    family = "siglip" if file == "spiece.model" else "clip"
    with pytest.raises(UserError, match=rf"the package {library}, which.*pip install -e '.\[text"):
        open_tokenizer(str(path), family=family)(["a cat"])


def test_a_texts_canonical_form_is_transformers(pieces):
    from transformers import SiglipTokenizer

    theirs = SiglipTokenizer(vocab_file=str(pieces / "spiece.model"))
    for text in ("It's  a DOG, isn't it?\n", " - ", "", "a.b{c}", "“quoted” – dash"):
        assert canonicalise(text) == theirs.canonicalize_text(text).lower()


@pytest.mark.parametrize(
    ("text", "keep", "expected"),
    [
        ("golden_Retriever", "", "golden retriever"),
        ("A photo, of {}.", "{}", "a photo of {}"),
        ("a {b} of {}!", "{}", "a b of {}"),
        ("crane, Bird's", ",", "crane, birds"),
    ],
)
def test_canonical_form_keeps_what_it_is_told(text, keep, expected):
    assert canonicalise(text, keep=keep) == expected
