"""Images without labels: what reads them, what refuses them, and evaluation beside them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from distill.data import DataConfig, TrainLoader, open_source
from distill.errors import UserError
from distill.evaluate.transfer import TransferConfig, TransferEvaluator
from distill.parallel import MeshConfig, make_mesh
from students import vit


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four images at several depths, of the grey levels 0, 40, 80 and 120, in order of paths."""
    root = tmp_path_factory.mktemp("photos")
    names = ("2024/b.JPG", "2024/deep/er/a.png", "2025/a.webp", "z.jpeg")
    for level, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (40 * level,) * 3).save(root / name)
    (root / "2024" / "notes.txt").write_text("not an image")
    (root / "folder.jpg").mkdir()
    return root


def data(photos, **options):
    return DataConfig(**{"source": f"images:{photos}"} | options)


def without_evaluation(photos, **options):
    return data(photos, validation_split=None, test_split=None, **options)


def test_every_image_is_read_in_the_order_of_paths(photos):
    source = open_source(f"images:{photos}", "train", channels=3)
    assert [source.describe(i) for i in range(len(source))] == [
        str(photos / name) for name in ("2024/b.JPG", "2024/deep/er/a.png", "2025/a.webp", "z.jpeg")
    ]
    for index in range(4):
        image, label = source.read(index).values()
        assert label == -1 and image.dtype == np.uint8 and image.shape == (4, 6, 3)
        np.testing.assert_allclose(image, 40 * index, atol=3)


def test_there_are_no_labels_and_no_classes(photos):
    source = open_source(f"images:{photos}", "train", channels=1)
    assert source.class_names == ()
    assert source.labels.dtype == np.int32 and source.labels.tolist() == [-1] * 4


def test_they_are_trained_on_by_their_numbers(photos):
    splits = without_evaluation(photos).open_splits(channels=3)
    assert splits.validation is None and splits.test is None
    loader = TrainLoader(
        splits.train, data(photos), size=4, batch_size=4, seed=0, put=lambda batch: batch
    )
    batch = next(loader)
    loader.close()
    assert sorted(batch["index"].tolist()) == [0, 1, 2, 3] and batch["label"].tolist() == [-1] * 4
    np.testing.assert_allclose(batch["image"].mean(axis=(1, 2, 3)), 40 * batch["index"], atol=3)


def test_a_damaged_image_is_replaced_as_in_other_sources(photos, tmp_path):
    root = shutil.copytree(photos, tmp_path / "photos")
    (root / "z.jpeg").write_bytes(b"<html>404 Not Found</html>")
    source = open_source(f"images:{root}", "train", channels=3)
    loader = TrainLoader(
        source,
        data(root, max_corrupt_share=0.5),
        size=4,
        batch_size=4,
        seed=0,
        put=lambda batch: batch,
    )
    batch = next(loader)
    state = loader.state()
    loader.close()
    assert set(batch["index"].tolist()) == {0, 1, 2} and state["skipped"] == 1


def test_another_split_is_refused_with_what_to_do(photos):
    with pytest.raises(UserError) as caught:
        data(photos).open_splits(channels=3)
    message = str(caught.value)
    assert "no split 'validation'" in message and "one split, 'train'" in message
    assert "config.data.validation_split=none" in message
    assert "config.data.test_split=none" in message
    assert "config.data.eval_source" in message


def test_a_folder_that_is_missing_or_holds_no_images_is_refused(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/nowhere does not exist"):
        open_source(f"images:{tmp_path}/nowhere", "train", channels=3)
    with pytest.raises(UserError, match=f"no images under {tmp_path}"):
        open_source(f"images:{tmp_path}", "train", channels=3)


def test_evaluation_takes_its_splits_from_elsewhere(photos, image_folder):
    config = data(photos, eval_source=f"folder:{image_folder}")
    splits = config.open_splits(channels=3)
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [4, 6, 6]
    assert splits.train.class_names == ()
    assert splits.class_names == splits.validation.class_names == ("dark", "grey", "light")


def test_labelled_data_is_evaluated_elsewhere_too(image_folder, tmp_path):
    shutil.copytree(image_folder / "test", tmp_path / "validation")
    config = DataConfig(source=f"folder:{image_folder}", eval_source=f"folder:{tmp_path}")
    splits = DataConfig(**vars(config) | {"test_split": None}).open_splits(channels=3)
    assert splits.validation.describe(0) == str(tmp_path / "validation" / "dark" / "0.jpg")
    (tmp_path / "validation" / "dark").rename(tmp_path / "validation" / "black")
    with pytest.raises(UserError) as caught:
        DataConfig(**vars(config) | {"test_split": None}).open_splits(channels=3)
    assert (
        f"split 'validation' of folder:{tmp_path} has 1 class that split 'train' of "
        f"folder:{image_folder} does not have: 'black'"
    ) in str(caught.value)


def test_evaluation_splits_are_compared_beside_images_without_labels(photos, tmp_path):
    for split, names in {"validation": "ab", "test": "abc"}.items():
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("L", (4, 4)).save(tmp_path / split / name / "i.png")
    with pytest.raises(UserError, match=r"'test' of .* that split 'validation' of .*: 'c'"):
        data(photos, eval_source=f"folder:{tmp_path}").open_splits(channels=3)


def test_evaluation_needs_labels(photos):
    with pytest.raises(UserError, match="has no labels to evaluate against"):
        data(photos, validation_split="train").open_splits(channels=3)
    with pytest.raises(UserError, match="has no labels to evaluate against"):
        DataConfig(eval_source=f"images:{photos}").open_evaluation("train", channels=3)


def test_learning_from_labels_is_refused(photos, image_folder):
    splits = without_evaluation(photos).open_splits(channels=3)
    with pytest.raises(UserError, match=r"pre-training learns from labels.*config\.data\.source"):
        splits.check_labels("pre-training")
    splits = data(photos, eval_source=f"folder:{image_folder}").open_splits(channels=3)
    with pytest.raises(UserError, match="fine-tuning learns from labels"):
        splits.check_labels("fine-tuning")
    DataConfig().open_splits(channels=3).check_labels("pre-training")


def test_classes_cannot_be_chosen(photos):
    with pytest.raises(UserError, match="classes a, b cannot be chosen: the images have no labels"):
        without_evaluation(photos, classes=("a", "b")).open_splits(channels=3)


def test_features_are_not_evaluated_on_shots_without_labels(photos, image_folder):
    network = vit.build(vit.configure("mu/4", image_size=8)).placed(make_mesh(MeshConfig()))
    config = data(photos, eval_source=f"folder:{image_folder}")
    with pytest.raises(UserError, match=r"learns from labels.*transfer\.sources or --source"):
        TransferEvaluator(TransferConfig(shots=(1,)), config, network, batch_size=8)
    other = TransferConfig(shots=(1,), sources=(f"folder:{image_folder}",))
    (task,) = TransferEvaluator(other, config, network, batch_size=8).tasks.values()
    assert (len(task.train), len(task.test)) == (24, 6)
