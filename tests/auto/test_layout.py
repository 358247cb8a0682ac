"""What kind of data a path holds, and which splits are made of it."""

import shutil

import pytest
import small_photos
from PIL import Image

from distill.auto.images import choose_images
from distill.auto.layout import find_data
from distill.auto.recipe import choose_recipe
from distill.auto.student import choose_student
from distill.data import open_source
from distill.errors import UserError


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return small_photos.in_classes(tmp_path_factory.mktemp("data") / "photos", 20)


@pytest.fixture
def in_splits(photos, tmp_path):
    """Makes root/split/class/image of the names of splits."""

    def make(*splits):
        for split in splits:
            shutil.copytree(photos, tmp_path / "splits" / split)
        return tmp_path / "splits"

    return make


def chosen(path, channels=3):
    return choose_images(find_data(str(path)), channels)


def test_folders_of_images_are_classes(photos):
    found = find_data(str(photos))
    assert found == (f"folder:{photos}", "root/class/image", ())


def test_sixty_images_are_split_by_drawing(photos):
    images = chosen(photos)
    section = images.section
    assert section["validation_split"] == "validation+test" and section["test_split"] is None
    assert images.train + images.held_out == 60 and 6 <= images.held_out <= 20
    assert images.class_names == small_photos.CLASSES and 40 <= images.side <= 44
    assert section["max_corrupt_share"] == 0.1


def test_a_folder_by_its_name_is_split_alike(photos):
    assert chosen(f"folder:{photos}").section == chosen(photos).section


def test_few_images_are_held_out_until_each_class_is(tmp_path):
    root = small_photos.in_classes(tmp_path / "photos", 8)
    section = chosen(root).section
    held = open_source(section["source"], section["validation_split"], channels=3)
    train = open_source(section["source"], section["train_split"], channels=3)
    assert set(held.labels) == set(train.labels) == {0, 1, 2}
    names = [{one.name(n) for n in range(len(one))} for one in (train, held)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 24


def test_splits_that_are_there_are_taken(in_splits):
    root = in_splits("train", "val", "test")
    images = chosen(root)
    assert images.section["validation_split"] == "validation"
    assert images.section["test_split"] == "test" and images.train == images.held_out == 60


def test_a_test_split_alone_is_looked_at_on_the_way(in_splits):
    images = chosen(in_splits("train", "test"))
    assert images.section["validation_split"] == "test" and images.section["test_split"] is None


def test_test_images_without_labels_are_left_out(in_splits, capsys):
    root = in_splits("train", "val")
    small_photos.flat(root / "test", 3)
    images = chosen(root)
    assert images.section["validation_split"] == "validation"
    assert images.section["test_split"] is None and images.class_names == small_photos.CLASSES
    assert "the test split is left out" in capsys.readouterr().err


def test_of_a_train_split_alone_a_part_is_held_out(in_splits):
    images = chosen(in_splits("training"))
    assert (images.train, images.held_out) == (48, 12)
    split = images.section["validation_split"]
    held = open_source(images.section["source"], split, channels=3)
    assert set(held.labels) == {0, 1, 2}


def test_a_list_in_the_order_of_its_classes_is_held_out_in_stripes(photos, tmp_path):
    rows = [
        f"{photos / name / f'{n:03}.jpg'},{name}"
        for name in small_photos.CLASSES
        for n in range(20)
    ]
    (tmp_path / "train.csv").write_text("\n".join(["path,label", *rows, ""]))
    images = chosen(tmp_path / "train.csv")
    assert images.section["source"] == f"list:{tmp_path / 'train.csv'}"
    splits = [images.section[key] for key in ("train_split", "validation_split")]
    train, held = (open_source(images.section["source"], one, channels=3) for one in splits)
    assert set(held.labels) == {0, 1, 2}
    names = [{one.name(n) for n in range(len(one))} for one in (train, held)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 60


def test_of_few_images_so_many_are_held_out_that_each_class_is_shown(photos, tmp_path):
    for first in range(8):
        file = tmp_path / str(first) / "train.csv"
        file.parent.mkdir()
        of_class = range(first, first + 5)
        rows = [f"{photos / c / f'{n:03}.jpg'},{c}" for c in small_photos.CLASSES for n in of_class]
        file.write_text("\n".join(["path,label", *rows, ""]))
        images = chosen(file)
        most, held = (
            set(open_source(f"list:{file}", split, channels=3).labels)
            for split in ("train[60%:]", images.section["validation_split"])
        )
        assert len(held) == 3 or len(most) < 3


@pytest.mark.parametrize("nested", [False, True])
def test_images_that_are_not_in_classes_have_no_labels(photos, tmp_path, nested):
    if nested:
        shutil.copytree(photos, tmp_path / "all" / "2026" / "raw")
        shutil.copytree(photos, tmp_path / "all" / "2025")
    else:
        small_photos.flat(tmp_path / "all", 9)
    images = chosen(tmp_path / "all")
    assert images.section["source"] == f"images:{tmp_path / 'all'}" and not images.class_names
    assert images.section["validation_split"] is None and images.held_out == 0


def test_a_file_that_cannot_be_decoded_is_counted_and_allowed_for(tmp_path):
    images = chosen(small_photos.flat(tmp_path / "all", 12, damaged=2))
    said = {choice.what: choice for choice in images.choices}
    assert said["unreadable"].chosen == "2 of 12 looked at" and "000.jpg" in said["unreadable"].why
    assert images.section["max_corrupt_share"] == pytest.approx(2 * 2 / 12, abs=1e-3)


def test_data_most_of_which_is_damaged_is_refused(tmp_path):
    with pytest.raises(UserError, match="4 of 6 images that were looked at cannot be decoded"):
        chosen(small_photos.flat(tmp_path / "all", 6, damaged=4))


def test_other_data_goes_by_its_name():
    assert find_data("digits").source == "digits"
    images = chosen("digits", channels=1)
    assert images.section["validation_split"] == "validation" and images.side == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zh-plus/tiny-imagenet", "hf download zh-plus/tiny-imagenet --repo-type=dataset"),
        ("./nowhere", "give a folder of images, or a source by its name"),
        ("s3://bucket/photos", "say what it holds, such as folder:s3://bucket/photos"),
    ],
)
def test_what_is_not_there_says_what_to_type(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        find_data(text)


def test_one_image_and_other_files_are_no_data(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    (tmp_path / "notes.doc").write_text("no images")
    with pytest.raises(UserError, match="is one image; give the folder of many"):
        find_data(str(tmp_path / "one.png"))
    with pytest.raises(UserError, match="is no data that is known"):
        find_data(str(tmp_path / "notes.doc"))
    (tmp_path / "one.png").unlink()
    with pytest.raises(UserError, match=r"no images under .* \(there is .doc\)"):
        find_data(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("shard-000.tar", "wds"),
        ("data/train-00000-of-00001.parquet", "parquet"),
        ("a.array_record", "array_record"),
        ("manifest.json", "prepared"),
        ("dataset_dict.json", "hf"),
    ],
)
def test_shards_are_known_by_their_names(tmp_path, file, source):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"")
    assert find_data(str(tmp_path)).source == f"{source}:{tmp_path}"


@pytest.mark.parametrize(
    ("folders", "form", "said"),
    [
        ({"cat": 1, "dog": 1}, "{}", "2 images in 2 folders, too few for classes: give 2 of each"),
        ({"cat": 3}, "{}", "a single class, cat: give folders of two classes"),
        ({"cat": 3}, "folder:{}", "a single class, cat: give folders of two classes"),
        ({"": 3}, "{}", "there are none"),
        ({"a/b": 2, "a/c": 2}, "{}", "there are none"),
    ],
)
def test_folders_without_classes_to_learn_are_told_why(folders, form, said, tmp_path):
    for folder, count in folders.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for seed in range(count):
            small_photos.photograph(0, seed).save(tmp_path / folder / f"{seed}.png")
    images = chosen(form.format(tmp_path))
    with pytest.raises(UserError, match=said):
        choose_recipe(images, None, choose_student(None, None, images))
