"""Texts that go with images: where they are found, and which of them a view has."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from tar_shards import encoded, pack, picture

from distill.config import resolve
from distill.data import (
    ChosenClasses,
    DataConfig,
    EvalLoader,
    Store,
    StoreWriter,
    Subset,
    TrainLoader,
    open_source,
)
from distill.data.captions import Captioned, all_captions
from distill.data.examples import EvaluationViews, TrainingViews
from distill.data.sources import CorruptImage, captions_of
from distill.data.store import Contents
from distill.data.tokens import Tokenizer, train_tokenizer
from distill.errors import RunFailed, UserError

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


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("vocabulary") / "tokenizer.json")
    train_tokenizer(ALL, 200, path)
    return Tokenizer(path=path, family="siglip2", length=8)


@pytest.fixture
def folder(tmp_path):
    """Images and their captions beside them, one a line."""
    place = tmp_path / "images"
    place.mkdir()
    for number, captions in enumerate(CAPTIONS):
        (place / f"{number}.png").write_bytes(encoded(number))
        if captions:
            (place / f"{number}.txt").write_text("\n".join(captions) + "\n\n")
    return place


def tar(place):
    """All texts before the images, which the index has to put together."""
    texts = [(f"{n}.txt", "\n".join(some).encode()) for n, some in enumerate(CAPTIONS) if some]
    images = [(f"{n}.png", encoded(n)) for n in range(COUNT)]
    return pack(place / "train-0.tar", [("9.txt", b"of no image"), *texts, *images])


def listed(folder, text, name="train.tsv"):
    (folder / name).write_text(text, encoding="utf-8")
    return open_source(f"list:{folder / name}", "train", channels=3, captions=True)


def found_in(source):
    return [captions_of(source, index) for index in range(len(source))]


def config(tokenizer, folder, **options):
    return DataConfig(source=f"images:{folder}", captions=tokenizer, decoder="pillow", **options)


def captioned(folder, tokenizer):
    return config(tokenizer, folder).open("train", channels=3)


# --- where they are


def test_lines_of_the_file_beside_an_image_are_its_captions(folder):
    source = open_source(f"images:{folder}", "train", channels=3, captions=True)
    assert found_in(source) == CAPTIONS
    assert source.found == "6 images without labels"
    without = open_source(f"images:{folder}", "train", channels=3)
    assert without.found == "6 images without labels; left out 5 .txt"
    assert without.fingerprint == source.fingerprint


def test_images_in_folders_of_classes_have_captions_too(tmp_path):
    for number in range(4):
        place = tmp_path / "train" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(encoded(number))
        (place / f"{number}.txt").write_text(f"number {number}")
    source = open_source(f"folder:{tmp_path}", "train", channels=3, captions=True)
    assert found_in(source) == [(f"number {n}",) for n in (0, 2, 1, 3)]
    assert source.found == "4 images in 2 classes"
    assert found_in(ChosenClasses(source, ["b"])) == [("number 1",), ("number 3",)]


@pytest.mark.parametrize("captions", [True, False])
def test_a_samples_text_is_its_captions_wherever_it_stands_in_the_tar(tmp_path, captions):
    tar(tmp_path)
    for _ in ("built", "found again"):
        source = open_source(f"wds:{tmp_path}", "train", channels=3, captions=captions)
        assert len(source) == COUNT
        assert found_in(source) == (CAPTIONS if captions else [()] * COUNT)
        assert ("left out" in source.found) != captions
        for index in range(COUNT):
            np.testing.assert_array_equal(source.read(index)["image"], picture(index))


def test_a_shard_that_changes_has_its_captions_read_again(tmp_path):
    tar(tmp_path)
    before = open_source(f"wds:{tmp_path}", "train", channels=3, captions=True)
    pack(tmp_path / "train-0.tar", [("a.jpg", encoded(1)), ("a.txt", b"changed"), ("x.cls", b"1")])
    after = open_source(f"wds:{tmp_path}", "train", channels=3, captions=True)
    assert found_in(after) == [("changed",)] and after.fingerprint != before.fingerprint


def test_the_texts_of_shards_are_part_of_what_the_data_is_known_by(tmp_path):
    for place, text in (("one", b"cat"), ("two", b"a cat")):
        pack(tmp_path / place / "train-0.tar", [("a.png", encoded(1)), ("a.txt", text)])
    prints = {
        open_source(f"wds:{tmp_path / place}", "train", channels=3, captions=yes).fingerprint
        for place in ("one", "two")
        for yes in (False, True)
    }
    assert len(prints) == 3


def rows():
    return "".join(f"{n}.png\t{one}\n" for n, some in enumerate(CAPTIONS) for one in some or [""])


def columns():
    lines = ("\t".join([f"{n}.png", *some, *[""] * (3 - len(some))]) for n, some in _numbered())
    return "\n".join(lines) + "\n"


def lists():
    return "".join(f"{n}.png\t{json.dumps(some)}\n" for n, some in _numbered())


def _numbered():
    return enumerate(CAPTIONS)


@pytest.mark.parametrize(
    "text",
    [
        rows(),
        "image\tcaption\n" + rows(),
        "PATH\tText\n" + rows(),
        columns(),
        "file_name\tcaption_0\tcaption_1\tcaption 2\n" + columns(),
        "image\tcaptions\n" + lists(),
    ],
    ids=["rows", "named_rows", "other_names", "columns", "named_columns", "lists"],
)
def test_a_list_has_captions_in_rows_columns_or_lists(folder, text):
    for file in folder.glob("*.txt"):
        file.unlink()
    source = listed(folder, text)
    assert found_in(source) == CAPTIONS and source.class_names == ()
    assert [int(source.read(n)["image"][0, 0, 0]) for n in range(COUNT)] == [*range(COUNT)]


def test_a_list_in_csv_has_captions_with_commas_beside_labels_and_splits(folder):
    text = (
        "caption,label,image,split\n"
        '"one, two",a,0.png,train\nthree,b,1.png,train\nfour,a,0.png,train\nfive,b,2.png,val\n'
    )
    source = listed(folder, text, "all.csv")
    assert found_in(source) == [("one, two", "four"), ("three",)]
    assert source.labels.tolist() == [0, 1] and source.class_names == ("a", "b")
    # Where no captions are read, lines are images, as ever.
    assert len(open_source(f"list:{folder / 'all.csv'}", "train", channels=3)) == 3


def test_a_list_without_captions_takes_those_beside_its_images(folder):
    assert found_in(listed(folder, "path\n3.png\n1.png\n")) == [CAPTIONS[3], CAPTIONS[1]]
    assert found_in(listed(folder, "3.png\n")) == [CAPTIONS[3]]


def test_the_captions_of_a_list_are_part_of_what_the_data_is_known_by(folder):
    one = listed(folder, "image\tcaption\n0.png\ta cat\n0.png\tdog\n")
    assert one.fingerprint == listed(folder, "0.png\ta cat\n0.png\tdog\n").fingerprint
    for other in ("0.png\ta dog\n0.png\tdog\n", "0.png\ta cat\n", "0.png\ta cat dog\n"):
        assert listed(folder, other).fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('image\tcaption\n0.png\t["a", 3]\n', "line 2 cannot be read: captions .* not texts alone"),
        ('image\tcaption\n0.png\t["a"\n', "line 2 cannot be read: captions .* no list in JSON"),
        ('image\tcaption\n0.png\t["\\ud800"]\n', "line 2 cannot be read: .* are not UTF-8"),
        (
            "image\tcaption\tlabel\n0.png\ta\tx\n1.png\tb\tx\n0.png\tc\ty\n",
            "line 4 gives '0.png' another label than line 2",
        ),
        (
            "image\tcaption\tsplit\n0.png\ta\tx\n0.png\tc\ty\n",
            "line 3 gives '0.png' another split than line 2",
        ),
        ("caption\tlabel\nx\ty\n", "line 1 is 'caption', 'label'; expected a line of names"),
    ],
)
def test_captions_of_a_list_that_cannot_be_read_are_named_by_line(folder, text, message):
    with pytest.raises(UserError, match=message):
        listed(folder, text)


def test_a_caption_that_is_no_list_is_a_text(folder):
    source = listed(folder, "image\tcaption\n0.png\t[untitled]\n0.png\t[]\n0.png\t two  spaces\n")
    assert found_in(source) == [("[untitled]", "two spaces")]


def test_captions_of_a_data_set_of_tfds(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    text = tfds.features.Text()
    kinds = {
        "nested": (
            {"captions": tfds.features.Sequence({"id": np.int64, "text": text})},
            "captions",
        ),
        "several": ({"captions": tfds.features.Sequence(text)}, "captions"),
        "one": ({"caption": text}, "caption"),
        "numbers": ({"captions": tfds.features.Sequence(np.int64)}, "captions"),
    }

    def value(kind, some):
        if kind == "nested":
            return [{"id": 1, "text": f" {one}\n"} for one in some]
        if kind == "numbers":
            return [len(some)]
        return [*some] if kind == "several" else (some or [""])[0]

    for kind, (features, name) in kinds.items():
        builder = _builder(tfds, kind, features, name, value)
        builder(data_dir=tmp_path, file_format="array_record").download_and_prepare()
        source = open_source(
            f"tfds:{builder.name}", "train", channels=3, data_dir=str(tmp_path), captions=True
        )
        found = {
            int(source.read(n)["image"][0, 0, 0]): captions_of(source, n) for n in range(COUNT)
        }
        expected = {"one": [some[:1] for some in CAPTIONS], "numbers": [()] * COUNT}
        assert [found[n] for n in range(COUNT)] == expected.get(kind, CAPTIONS)


def _builder(tfds, kind, features, name, value):
    class Builder(tfds.core.GeneratorBasedBuilder):
        """Registers itself with TFDS by its name."""

        name = f"distill_test_captions_{kind}"
        VERSION = tfds.core.Version("1.0.0")
        code_path = None

        def _info(self):
            image = {"image": tfds.features.Image(shape=(None, None, 3))}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(image | features)
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number, some in _numbered():
                yield number, {"image": picture(number), name: value(kind, some)}

    return Builder


def test_all_captions_of_images_are_there_for_retrieval(folder):
    source = open_source(f"images:{folder}", "train", channels=3, captions=True)
    texts, images = all_captions(source)
    assert texts == ALL and images.tolist() == [0, 1, 1, 1, 2, 3, 3, 4, 4]
    some = all_captions(Subset(source, np.array([3, 5, 0])))
    assert some.texts == ["a goat", "one goat", "a red cat"] and some.images.tolist() == [0, 0, 2]
    (folder / "3.txt").write_bytes(b"caf\xe9")
    with pytest.raises(RunFailed, match=r"3\.png: its captions in .*3\.txt are not UTF-8"):
        all_captions(source)


# --- which of them a view has


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
    for number, captions in _numbered():
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


@pytest.mark.parametrize("workers", [0, 2])
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
    tar(tmp_path / "shards")
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
    source = Captioned(listed(folder, text), tokenizer)
    again = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert found_in(again) == found_in(source) and len(captions_of(again, 0)) == 500
    assert len(pickle.dumps(source)) < 2 * sum(map(len, all_captions(source).texts))
