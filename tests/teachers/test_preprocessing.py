"""What published models are fed, against the processors of transformers they are published with."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from published import config_of, saved_by_timm, saved_by_transformers
from sklearn.datasets import load_sample_image

from distill.data.views import evaluation_view
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.evaluation_view import EvaluationView
from distill.runs.weights import WeightsConfig
from pipelines import evaluate
from teachers.pretrained import open_published

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

SQUARE = {"height": 48, "width": 48}
# Half of each of two photographs, wider than high and higher than wide.
PHOTOGRAPHS = [
    load_sample_image("china.jpg")[:300, :405],
    load_sample_image("flower.jpg")[:, 200:455],
]


def fed(path, **choices):
    """What a published model is fed with of each photograph, [2, H, W, 3]."""
    model = open_published(path, **choices)
    size = model.network.config.image_shape[0]
    images = np.stack([evaluation_view(one, size, model.view) for one in PHOTOGRAPHS])
    return np.asarray(model.network.prepare(images))


def processed(name, settings):
    """What the processor makes of them."""
    processor = getattr(transformers, f"{name}ImageProcessorPil")(**settings)
    images = [Image.fromarray(one) for one in PHOTOGRAPHS]
    return np.stack([processor(one)["pixel_values"][0] for one in images]).transpose(0, 2, 3, 1)


VARIANTS = {
    "as ViT's class has it": ("ViT", dict(size=SQUARE)),
    "an old file": ("ViT", dict(size=48, resample=3)),
    "no rescaling": (
        "ViT",
        dict(size=SQUARE, do_rescale=False, image_mean=[127.5] * 3, image_std=[127.5] * 3),
    ),
    "another factor": (
        "ViT",
        dict(size=SQUARE, rescale_factor=1 / 127.5, image_mean=[1.0] * 3, image_std=[1.0] * 3),
    ),
    "null normalisation": ("ViT", dict(size=SQUARE, do_normalize=None)),
    "null rescaling": ("ViT", dict(size=SQUARE, do_rescale=None)),
    "null crop": ("CLIP", dict(size=SQUARE, do_center_crop=None)),
    "no normalisation": ("ViT", dict(size=SQUARE, do_normalize=False)),
    "neither": ("ViT", dict(size=SQUARE, do_normalize=False, do_rescale=False)),
    "one mean": ("ViT", dict(size=SQUARE, image_mean=0.4, image_std=0.3)),
    "lanczos": ("ViT", dict(size=SQUARE, resample=1)),
    "nearest": ("ViT", dict(size=SQUARE, resample=0)),
    "squashed, then cut": (
        "DeiT",
        dict(size={"height": 54, "width": 54}, crop_size=SQUARE, resample=3),
    ),
    "cut": ("CLIP", dict(size={"shortest_edge": 56}, crop_size=SQUARE)),
    "cut, in an old file": ("CLIP", dict(size=48, crop_size=48)),
    "an odd edge is cut off": ("CLIP", dict(size={"shortest_edge": 55}, crop_size=SQUARE)),
    "whole images": ("Siglip", dict(size=SQUARE)),
    "hamming": ("Bit", dict(size={"shortest_edge": 52}, crop_size=SQUARE, resample=5)),
    "images of 8-bit numbers": (
        "Bit",
        dict(size={"shortest_edge": 50}, crop_size=48, do_rescale=False, do_normalize=False),
    ),
}


def write_processor(path, name, settings, file="preprocessor_config.json"):
    (path / file).write_text(
        json.dumps({"image_processor_type": f"{name}ImageProcessor"} | settings)
    )


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A ViT for 48 pixels."""
    path = tmp_path_factory.mktemp("vit")
    saved_by_transformers(path, "ViTModel", config_of("ViTConfig"))
    return path


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_is_fed_what_its_processor_makes_of_images(vit, variant):
    name, settings = VARIANTS[variant]
    write_processor(vit, name, settings)
    found, wanted = fed(vit), processed(name, settings)
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * scale)


def test_a_processor_inside_another_comes_first(vit):
    settings = dict(size={"shortest_edge": 56}, crop_size=SQUARE)
    write_processor(vit, "ViT", dict(size=SQUARE))
    inside = {"image_processor": {"image_processor_type": "CLIPImageProcessorFast"} | settings}
    file = vit / "processor_config.json"
    file.write_text(json.dumps(inside))
    np.testing.assert_allclose(fed(vit), processed("CLIP", settings), atol=1e-5)
    (vit / "preprocessor_config.json").unlink()
    np.testing.assert_allclose(fed(vit), processed("CLIP", settings), atol=1e-5)
    # Of text and images together it may say something that is no image processor.
    file.write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    write_processor(vit, "ViT", dict(size=SQUARE))
    np.testing.assert_allclose(fed(vit), processed("ViT", dict(size=SQUARE)), atol=1e-5)
    file.unlink()


def test_an_edge_without_a_crop_is_the_resolution(vit):
    write_processor(vit, "Bit", dict(size={"shortest_edge": 40}, do_center_crop=False))
    model = open_published(vit)
    assert model.network.config.image_size == 40
    assert model.view == EvaluationView(crop=1.0, filter="bicubic")


def test_images_that_are_not_resized_stay_what_they_are(vit):
    write_processor(vit, "ViT", dict(do_resize=False))
    model = open_published(vit)
    image = PHOTOGRAPHS[0][:48, :48]
    np.testing.assert_array_equal(evaluation_view(image, 48, model.view), image)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(do_flip_channel_order=True), "do_flip_channel_order = True.*not known"),
        (dict(image_processor_type="GLPNImageProcessor"), "GLPNImageProcessor, which is not known"),
        (dict(do_pad=True), "cannot be padded"),
        (dict(resample=7), "resample is 7; expected 0 .nearest., 1 .lanczos."),
        (dict(size={"longest_edge": 48}), "size is .*longest_edge"),
        (dict(do_resize=False, do_center_crop=True, crop_size=48), "without do_resize"),
        (dict(size=40, crop_size=48, do_center_crop=True), "cuts 48×48 pixels out of 40×40"),
        (dict(rescale_factor=0.0), "rescale_factor must be positive"),
        (dict(rescale_factor="1/255"), "rescale_factor is '1/255'; expected a number"),
        (dict(size={"shortest_edge": 48.5}), "size is 48.5"),
        (dict(crop_size={"height": 32, "width": 48}, size=48, do_center_crop=True), "same share"),
        (dict(image_std=[0.5, 0.0, 0.5]), "image_std must be positive"),
    ],
)
def test_a_setting_that_is_not_known_is_named(vit, settings, message):
    write_processor(vit, "ViT", settings)
    with pytest.raises(UserError, match=message) as found:
        open_published(vit)
    assert "preprocessor_config.json" in str(found.value)


@pytest.mark.parametrize("settings", [dict(size=4), dict(size={"height": 48, "width": 7})])
def test_a_model_is_not_fed_less_than_a_patch(vit, settings):
    write_processor(vit, "ViT", settings)
    with pytest.raises(UserError, match="less than one of its patches of 8"):
        open_published(vit)


@pytest.mark.parametrize("name", ["ViT", "DeiT", "CLIP", "Siglip", "Bit"])
def test_defaults_are_those_of_the_processors_class(vit, name):
    write_processor(vit, name, {})
    np.testing.assert_allclose(fed(vit), processed(name, {}), atol=1e-5)


def resized_by_torch(image, height, width):
    """As torchvision resizes floats: bilinear, antialiased."""
    pixels = torch.tensor(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    interpolate = torch.nn.functional.interpolate
    found = interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return found[0].numpy().transpose(1, 2, 0)


def test_dinov3_is_fed_what_its_processor_makes_of_images(tmp_path):
    """Its processor needs torchvision, so what it does is done here: rescale, resize, normalise."""
    saved_by_transformers(tmp_path, "DINOv3ViTModel", config_of("DINOv3ViTConfig"))
    write_processor(tmp_path, "DINOv3ViT", dict(size=SQUARE))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    wanted = [(resized_by_torch(one, 48, 48) - mean) / std for one in PHOTOGRAPHS]
    # Floats are not rounded to 1/255 between the two.
    np.testing.assert_allclose(fed(tmp_path), wanted, atol=1.1 / 255 / 0.224)


def timms_transform(image, size, cfg):
    """What timm's `create_transform` does for evaluation, with Pillow."""
    resized = math.floor(size / cfg["crop_pct"])
    height, width = image.shape[:2]
    shorter = min(height, width)
    sides = (int(resized * width / shorter), int(resized * height / shorter))
    if cfg["crop_mode"] == "squash":
        sides = (resized, resized)
    by = Image.Resampling[cfg["interpolation"].upper()]
    whole = np.asarray(Image.fromarray(image).resize(sides, by), np.float32) / 255
    left, top = (round((side - size) / 2) for side in sides)
    cut = whole[top : top + size, left : left + size]
    return (cut - np.float32(cfg["mean"])) / np.float32(cfg["std"])


TIMM = {
    "most": dict(crop_pct=0.9, interpolation="bicubic", crop_mode="center"),
    "squashed": dict(crop_pct=1.0, interpolation="bicubic", crop_mode="squash"),
    "squashed, then cut": dict(crop_pct=0.8, interpolation="bicubic", crop_mode="squash"),
    "whole": dict(crop_pct=1.0, interpolation="bilinear", crop_mode="center"),
    "defaults": {},
}


@pytest.mark.parametrize("variant", TIMM)
def test_a_timm_model_is_fed_what_timms_transform_makes_of_images(tmp_path, variant):
    saved_by_timm(tmp_path, "vit_base_patch16_224", num_classes=0)
    file = tmp_path / "config.json"
    cfg = TIMM[variant] | dict(input_size=[3, 48, 48], fixed_input_size=True)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pretrained_cfg": cfg}))
    defaults = dict(
        crop_pct=0.875,
        interpolation="bicubic",
        crop_mode="center",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    wanted = [timms_transform(one, 48, defaults | cfg) for one in PHOTOGRAPHS]
    np.testing.assert_allclose(fed(tmp_path, heads=4), wanted, atol=1e-5)


def test_an_old_timm_file_has_it_without_a_section(tmp_path):
    saved_by_timm(tmp_path, "vit_base_patch16_224", num_classes=0)
    cfg = dict(input_size=[3, 48, 48], crop_pct=0.8, interpolation="bilinear", mean=[0.1] * 3)
    about = {"architecture": "vit_base_patch16_224"} | cfg
    (tmp_path / "config.json").write_text(json.dumps(about))
    model = open_published(tmp_path, heads=4)
    assert model.view == EvaluationView(crop=0.8, rounding="even")
    assert model.network.config.mean == (0.1, 0.1, 0.1)


def test_a_timm_model_that_takes_one_size_is_fed_that(tmp_path):
    saved_by_timm(tmp_path, "vit_base_patch16_224", num_classes=0)
    file = tmp_path / "config.json"
    about = json.loads(file.read_text()) | {"pretrained_cfg": {"input_size": [3, 64, 64]}}
    for args, size in (
        ({}, 64),
        ({"img_size": 48}, 48),
        ({"img_size": [48, 48]}, 48),
        ({"img_size": 48, "dynamic_img_size": True}, 64),
    ):
        file.write_text(json.dumps(about | {"model_args": args}))
        assert open_published(tmp_path, heads=4).network.config.image_shape[:2] == (size, size)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (dict(crop_mode="border"), "crop_mode 'border'"),
        (dict(interpolation="random"), "interpolation 'random'; expected one of nearest"),
        (dict(crop_pct=1.2), "crop_pct 1.2; expected a share"),
    ],
)
def test_a_timm_setting_that_is_not_known_is_named(tmp_path, cfg, message):
    saved_by_timm(tmp_path, "vit_base_patch16_224", num_classes=0)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pretrained_cfg": cfg}))
    with pytest.raises(UserError, match=message):
        open_published(tmp_path, heads=4)


def test_grey_models_of_timm_take_the_mean_of_the_colours(tmp_path):
    saved_by_timm(tmp_path, "deit_base_patch16_224", num_classes=0, in_chans=1)
    file = tmp_path / "config.json"
    cfg = {"input_size": [1, 48, 48], "mean": [0.3, 0.4, 0.5], "std": [0.2] * 3}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pretrained_cfg": cfg}))
    config = open_published(tmp_path, heads=4).network.config
    assert config.channels == 1
    np.testing.assert_allclose((config.mean, config.std), ((0.4,), (0.2,)))
    file.unlink()
    assert open_published(tmp_path, heads=4).network.config.mean == (0.5,)


def test_an_evaluation_sees_what_the_publisher_sees(tmp_path):
    """Photographs in folders that are called what the publisher's model calls them."""
    names = {number: f"class {number}" for number in range(200)}
    weights, data = tmp_path / "weights", tmp_path / "data"
    model = saved_by_transformers(
        weights,
        "ViTForImageClassification",
        config_of("ViTConfig", num_labels=200, id2label=names),
    )
    settings = dict(size={"shortest_edge": 60}, crop_size=SQUARE)
    write_processor(weights, "CLIP", settings)
    processor = transformers.CLIPImageProcessorPil(**settings)
    called = set()
    for number in range(24):
        pixels = PHOTOGRAPHS[number % 2][5 * number :, 7 * number :]
        image = Image.fromarray(np.roll(pixels, number, axis=2))
        with torch.no_grad():
            logits = model(**processor(image, return_tensors="pt")).logits
        name = names[int(logits.argmax())]
        called.add(name)
        folder = data / "test" / name
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number}.png")
    assert len(called) > 2
    found = evaluate.run(
        WeightsConfig(path=str(weights)), {"": SplitConfig(source=f"folder:{data}")}
    )
    assert found["test/accuracy"] == 1.0
