"""Which of an image's captions a view has."""

import dataclasses
import pickle

import numpy as np
import pytest
from captions import (
    ALL,
    CAPTIONS,
    COUNT,
    found_in,
    in_folder,
    in_tar,
    tokenizer_of_all,
)

from distill.config import resolve
from distill.data import DataConfig, EvalLoader, Store, StoreWriter, TrainLoader, open_source
from distill.data.captions import Captioned, all_captions
from distill.data.examples import EvaluationViews, TrainingViews
from distill.data.sources import CorruptImage, captions_of
from distill.data.store import Contents
from distill.errors import UserError


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tokenizer_of_all(tmp_path_factory.mktemp("vocabulary") / "tokenizer.json")


@pytest.fixture
def folder(tmp_path):
    return in_folder(tmp_path / "images")


def config(tokenizer, folder, **options):
    return DataConfig(source=f"images:{folder}", captions=tokenizer, decoder="pillow", **options)


def captioned(folder, tokenizer):
    return config(tokenizer, folder).open("train", channels=3)


def train(source, data, batch=4, **options):
    return TrainLoader(
        source, data, size=4, batch_size=batch, seed=3, put=lambda one: one, **options
    )


def texts_of(tokenizer, tokens):
    """Captions by their tokens, each of which is another's."""
    known = dict(zip(map(bytes, tokenizer(ALL)), ALL, strict=True))
    assert len(known) == len(ALL)
    return [known[bytes(row)] for row in tokens]


def test_a_view_has_one_of_its_images_captions_and_all_come_in_turn(folder, tokenizer):
    views = _views(captioned(folder, tokenizer))
    seen = {number: [] for number in range(COUNT)}
    for position in range(200 * COUNT):
        example = views.example(position)
        seen[int(example["index"])] += texts_of(tokenizer, [example["caption"]])
    for number, captions in enumerate(CAPTIONS):
        counts = [seen[number].count(one) for one in captions]
        assert sum(counts) == len(seen[number])
        # Binomial: within five standard deviations.
        spread = 5 * np.sqrt(len(seen[number]) / 4)
        assert all(abs(n - len(seen[number]) / len(captions)) < spread for n in counts)
    # As for its image the next one stands in, which is then seen twice as often.
    assert seen[5] == [] and sum(map(len, seen.values())) == 200 * COUNT


def _views(source, **options):
    view = DataConfig().view
    return TrainingViews(source, view, 4, 3, 4, range(4), **options)


def test_what_is_drawn_of_captions_changes_nothing_of_images(folder, tokenizer):
    # As many images with a caption: an image without one is not shown.
    (folder / "5.txt").write_text("a boat")
    plain = open_source(f"images:{folder}", "train", channels=3)
    with_captions = _views(captioned(folder, tokenizer))
    for position in range(30):
        one, other = _views(plain).example(position), with_captions.example(position)
        assert one.keys() == other.keys() - {"caption"}
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_captions_are_the_same_in_workers_and_after_a_stop(folder, tokenizer, workers):
    data = config(tokenizer, folder, max_corrupt_share=1.0, workers=workers)
    source = data.open("train", channels=3)
    positions = _views(source)
    loader = train(source, data)
    batches = [next(loader) for _ in range(3)]
    state = loader.state()
    batches += [next(loader) for _ in range(2)]
    loader.close()
    expected = [positions.example(position)["caption"] for position in range(20)]
    np.testing.assert_array_equal(np.concatenate([one["caption"] for one in batches]), expected)
    assert batches[0]["caption"].dtype == np.int32
    again = train(source, data, **state)
    for batch in batches[3:]:
        np.testing.assert_array_equal(next(again)["caption"], batch["caption"])
    again.close()


def test_evaluation_has_first_captions_and_drawn_views_drawn_ones(folder, tokenizer):
    source = captioned(folder, tokenizer)
    data = config(tokenizer, folder, max_corrupt_share=1.0)

    def rows_of(**options):
        loader = EvalLoader(source, data, size=4, batch_size=4, put=lambda one: one, **options)
        found = list(loader)
        mask = np.concatenate([batch["mask"] for batch in found])
        assert mask.tolist() == [True] * 5 + [False] * 3
        tokens = np.concatenate([batch["caption"] for batch in found])
        assert not tokens[~mask].any()
        return texts_of(tokenizer, tokens[mask])

    assert rows_of() == [some[0] for some in CAPTIONS[:5]]
    drawn = [rows_of(view_seed=seed) for seed in range(30)]
    assert {row[1] for row in drawn} == {*CAPTIONS[1]} and rows_of(view_seed=7) == drawn[7]


def test_a_replay_has_the_captions_of_the_run_that_was_stored_and_then_others(
    folder, tokenizer, tmp_path
):
    source = captioned(folder, tokenizer)
    contents = Contents(examples=12, batch_size=4, examples_per_file=12, arrays={})
    live = _views(source, describe=True)
    records = np.zeros(12, contents.record)
    for position in range(12):
        example = live.example(position)
        for field in ("epoch", "index", "box", "flip"):
            records[position][field] = example[field]
    (tmp_path / "store").mkdir()
    writer = StoreWriter(tmp_path / "store", contents)
    writer.write(records)
    writer.close()
    again = _views(source, store=Store(tmp_path / "store"))
    passes = [[again.example(12 * one + p)["caption"] for p in range(12)] for one in range(6)]
    np.testing.assert_array_equal(passes[0], [live.example(p)["caption"] for p in range(12)])
    assert any((passes[0] != np.array(other)).any() for other in passes[1:])


def test_an_image_without_a_caption_counts_as_corrupt_and_is_named(folder, tokenizer, caplog):
    source = captioned(folder, tokenizer)
    with pytest.raises(CorruptImage, match="it has no caption"):
        source.read(5)
    loader = train(source, config(tokenizer, folder, max_corrupt_share=1.0), batch=6)
    batch = next(loader)
    loader.close()
    assert 5 not in batch["index"]
    assert [message for message in caplog.messages if "skipped" in message] == [
        f"skipped corrupt image {folder}/5.png: it has no caption"
    ]


def test_captions_that_are_not_utf8_are_those_of_a_corrupt_image(folder, tokenizer):
    (folder / "2.txt").write_bytes(b"caf\xe9")
    source = captioned(folder, tokenizer)
    with pytest.raises(CorruptImage, match=r"captions in .*2\.txt are not UTF-8"):
        source.read(2)
    rows = EvaluationViews(source, DataConfig().view, 4, 4, range(4))
    assert [bool(rows[n]["mask"]) for n in range(COUNT)] == [True, True, False, True, True, False]


def test_data_without_captions_is_refused(folder, tokenizer):
    for file in folder.glob("*.txt"):
        file.unlink()
    with pytest.raises(UserError, match=r"no captions: none of 6 images looked at has one, such a"):
        captioned(folder, tokenizer)
    with pytest.raises(UserError, match="there are no captions"):
        DataConfig(captions=tokenizer).open("train", channels=1)


def test_a_vocabulary_that_is_not_there_is_said_when_data_is_opened(folder, tokenizer):
    gone = dataclasses.replace(tokenizer, path=str(folder / "gone.json"))
    with pytest.raises(UserError, match=r"no vocabulary at .*gone\.json"):
        captioned(folder, gone)


def test_a_run_finds_again_by_which_tokenizer_its_captions_were_read(folder, tokenizer):
    prints = {captioned(folder, tokenizer).fingerprint}
    prints |= {captioned(folder, dataclasses.replace(tokenizer, length=9)).fingerprint}
    prints |= {open_source(f"images:{folder}", "train", channels=3).fingerprint}
    assert len(prints) == 3


def test_images_are_kept_and_captions_drawn_all_the_same(folder, tokenizer):
    plain, kept = _views(captioned(folder, tokenizer)), config(tokenizer, folder, cache="ram")
    cached = _views(kept.open("train", channels=3))
    for _ in ("decoded", "kept"):
        for position in range(12):
            one, other = plain.example(position), cached.example(position)
            assert one.keys() == other.keys()
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


def test_a_mixture_and_slices_have_captions(folder, tokenizer, tmp_path):
    in_tar(tmp_path / "shards")
    parts = {"a": {"source": f"images:{folder}"}, "b": {"source": f"wds:{tmp_path}/shards"}}
    data = resolve(
        DataConfig,
        {
            "mixture": parts,
            "captions": dataclasses.asdict(tokenizer),
            "validation_split": None,
            "test_split": None,
            "train_split": "train[:5]+train[5:]",
        },
    )
    source = data.open_training(channels=3)
    assert sorted(all_captions(source).texts) == sorted(ALL * 2)
    assert source.spec["caption"].shape == (8,)


def test_images_without_labels_can_be_evaluated_on_where_they_have_captions(folder, tokenizer):
    data = config(tokenizer, folder, validation_split="train", test_split=None)
    splits = data.open_splits(channels=3)
    assert splits.validation is not None and splits.class_names == ()
    with pytest.raises(UserError, match="has no labels to evaluate against"):
        dataclasses.replace(data, captions=None).open_splits(channels=3)


def test_a_worker_is_handed_captions_in_a_few_arrays(folder, tokenizer):
    text = "".join(f"{n % COUNT}.png\tcaption number {n}\n" for n in range(3000))
    (folder / "many.tsv").write_text(text)
    source = Captioned(
        open_source(f"list:{folder / 'many.tsv'}", "train", channels=3, captions=True), tokenizer
    )
    again = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert found_in(again) == found_in(source) and len(captions_of(again, 0)) == 500
    assert len(pickle.dumps(source)) < 2 * sum(map(len, all_captions(source).texts))
