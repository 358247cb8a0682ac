"""Texts that go with images, where they are found."""

import json

import numpy as np
import pytest
from captions import ALL, CAPTIONS, COUNT, found_in, in_folder, in_tar
from tar_shards import encoded, pack, picture

from distill.data import ChosenClasses, Subset, open_source
from distill.data.captions import all_captions
from distill.data.sources import captions_of
from distill.errors import RunFailed, UserError


@pytest.fixture
def folder(tmp_path):
    return in_folder(tmp_path / "images")


def listed(folder, text, name="train.tsv"):
    (folder / name).write_text(text, encoding="utf-8")
    return open_source(f"list:{folder / name}", "train", channels=3, captions=True)


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
    in_tar(tmp_path)
    for _ in ("built", "found again"):
        source = open_source(f"wds:{tmp_path}", "train", channels=3, captions=captions)
        assert len(source) == COUNT
        assert found_in(source) == (CAPTIONS if captions else [()] * COUNT)
        assert ("left out" in source.found) != captions
        for index in range(COUNT):
            np.testing.assert_array_equal(source.read(index)["image"], picture(index))


def test_a_shard_that_changes_has_its_captions_read_again(tmp_path):
    in_tar(tmp_path)
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


@pytest.mark.slow
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
