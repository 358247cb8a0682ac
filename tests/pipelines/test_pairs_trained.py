"""Pairs that runs train: on a locked image tower, from nothing, and from a teacher that is one."""

import json
import shutil

import jax
import numpy as np
import pytest
from exports import runtimes_in_this_process
from published_pairs import saved_siglip
from support import run_command, without_timings
from tar_shards import encoded

from distill.config import resolve
from distill.data.tokens import train_tokenizer
from distill.errors import UserError
from distill.json_files import read_json
from distill.nn import Pair, PairNetwork
from distill.parallel import MeshConfig, make_mesh
from distill.runs.distillation import DistillConfig
from distill.runs.opened import open_model
from distill.runs.pairs import PairTrainingConfig
from distill.runs.storing import StoreTargetsConfig
from distill.train import metrics
from distill.train.workdir import Workdir
from pipelines import distill_student, export, store_targets, train_pair
from teachers.pretrained import open_pair

TEXTS = ["a red cat", "two dogs\na pair of dogs", "a boat", "a goat", "a big horse", "one cow"]
VOCAB, LENGTH = 200, 8
TEXT = dict(variant="mu", vocab=VOCAB, length=LENGTH, width=16, mlp_dim=32)
# 16 images in batches of 8: two epochs, in which images with two captions have either.
TRAIN = dict(batch_size=8, total_steps=4, log_every=1, eval_every=4, checkpoint_every=4)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A published pair with its vocabulary."""
    pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("siglip")
    saved_siglip(path, vocab_size=VOCAB, max_position_embeddings=LENGTH)
    train_tokenizer(" ".join(TEXTS).split("\n"), VOCAB, str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def data(weights, tmp_path_factory):
    """Of a config: images with captions beside them, seen twice."""
    path = tmp_path_factory.mktemp("captioned")
    for number in range(16):
        (path / f"{number}.png").write_bytes(encoded(number))
        (path / f"{number}.txt").write_text(TEXTS[number % len(TEXTS)])
    vocabulary = dict(path=str(weights / "tokenizer.json"), family="siglip", length=LENGTH)
    return dict(
        source=f"images:{path}",
        validation_split="train",
        test_split=None,
        threads=1,
        captions=vocabulary,
        view=dict(crop_area=(0.5, 1.0)),
    )


def config(schema, data, **sections):
    return resolve(
        schema,
        dict(
            data=data,
            optimizer=dict(name="adam", learning_rate=1e-2, weight_decay=(("kernel$", 1e-3),)),
            schedule=dict(kind="cosine", warmup_percent=25.0),
            train=TRAIN,
            **sections,
        ),
    )


def locked(weights, data, schema=PairTrainingConfig, **sections):
    teacher = dict(teacher=dict(weights=dict(path=str(weights))))
    given = dict(model=dict(family="pair", text=TEXT, bias=True), loss={}) | teacher | sections
    return config(schema, data, **given)


def opened(path):
    return open_model(path, make_mesh(MeshConfig()))


@pytest.fixture(scope="module")
def live(weights, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("live")
    train_pair.run(locked(weights, data), Workdir(path), overview=False)
    return path


def training_rows(path):
    rows = without_timings(metrics.read(path))
    return [{k: v for k, v in row.items() if k.startswith(("step", "train/"))} for row in rows]


def test_stored_embeddings_train_what_the_tower_itself_does_bit_for_bit(
    live, weights, data, tmp_path
):
    stored = locked(weights, data, StoreTargetsConfig, store=dict(dtype="float32"))
    store_targets.run(stored, Workdir(tmp_path / "stored"))
    replay = locked(weights, data, teacher=None, targets=str(tmp_path / "stored"))
    train_pair.run(replay, Workdir(tmp_path / "replay"), overview=False)
    assert training_rows(tmp_path / "replay") == training_rows(live)
    ours, theirs = opened(tmp_path / "replay"), opened(live)
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)


def test_a_finished_run_is_a_whole_pair_whose_tower_is_the_one_it_was_trained_on(live, weights):
    pair = opened(live)
    assert isinstance(pair.network, PairNetwork)
    assert pair.params.keys() == pair.network.abstract_params.keys()
    published = open_pair(weights)
    jax.tree.map(np.testing.assert_array_equal, pair.params["image"], published.read()["image"])
    row = metrics.read(live)[-1]
    done = run_command(
        *("evaluate", f"--workdir={live}", "--config.evals.val.kind=retrieval"),
        *("--config.evals.val.split=train", "--batch_size=8"),
    )
    assert done.returncode == 0, done.stderr
    assert f"val/text_to_image@5   {row['val/text_to_image@5']:.4f}" in done.stdout


def test_a_tower_that_is_another_one_by_now_is_not_taken(live, weights, data, tmp_path):
    shutil.copytree(weights, tmp_path / "weights")
    shutil.copytree(live, tmp_path / "run")
    known = read_json(tmp_path / "run" / "teachers.json")
    known["teacher"]["weights"]["path"] = known["teacher"]["source"] = str(tmp_path / "weights")
    (tmp_path / "run" / "teachers.json").write_text(json.dumps(known))
    opened(tmp_path / "run")
    saved_siglip(tmp_path / "weights", vocab_size=VOCAB, hidden_size=48)
    import torch
    from safetensors.torch import load_file, save_file

    file = tmp_path / "weights" / "model.safetensors"
    tensors = load_file(file)
    name = next(n for n in tensors if n.startswith("vision_model.post_layernorm.weight"))
    tensors[name] = tensors[name] + torch.ones_like(tensors[name]) * 2**-10
    save_file(tensors, file)
    with pytest.raises(UserError, match="no longer the one"):
        opened(tmp_path / "run")
    shutil.rmtree(tmp_path / "weights")
    with pytest.raises(UserError, match="was trained on the image tower in"):
        opened(tmp_path / "run")


def student(weights, data, losses, text=None, **sections):
    image = dict(family="vit", variant="mu/8", image_size=48)
    return config(
        DistillConfig,
        data,
        model=dict(family="pair", image=image, text=text, **sections.pop("model", {})),
        teacher=dict(weights=dict(path=str(weights))),
        matching=dict(losses={"kl": 0.0} | losses, mixup=0.0),
        **sections,
    )


def test_a_student_keeps_its_teachers_text_tower_and_is_measured_beside_it(weights, data, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    evals = dict(words=dict(kind="retrieval"))
    losses = dict(embedding_cosine=1.0, similarities_softmax=0.1)
    run = student(weights, data, losses, evals=evals)
    trained = distill_student.run(run, Workdir(tmp_path / "run"), overview=False)
    theirs = open_pair(weights).read()
    for name in ("text", "temperature", "bias"):
        jax.tree.map(np.testing.assert_array_equal, trained.params[name], theirs[name])
    ours = opened(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, ours.params, trained.params)
    row = metrics.read(tmp_path / "run")[-1]
    assert row["words/text_to_image@5"] == trained.summary["words/text_to_image@5"]
    done = run_command(
        *("evaluate", f"--weights={weights}", "--config.evals.words.kind=retrieval"),
        *(f"--config.evals.words.source={data['source']}", "--config.evals.words.split=train"),
        "--batch_size=8",
    )
    assert f"words/text_to_image@5   {row['words/teacher_text_to_image@5']:.4f}" in done.stdout
    assert metrics.read(tmp_path / "run")[0]["train/loss"] > row["train/loss"]
    done = run_command(
        *("predict", f"--workdir={tmp_path / 'run'}", f"--source={data['source']}"),
        *("--split=train", f"--output={tmp_path / 'none.npz'}"),
    )
    assert done.returncode == 2 and "--zeroshot_classes" in done.stderr
    done = run_command(
        *("finetune", "--config=finetune/digits", f"--config.start.workdir={tmp_path / 'run'}"),
        f"--workdir={tmp_path / 'tuned'}",
    )
    assert done.returncode == 2 and "is a pair of towers" in done.stderr
    done = run_command(
        *("predict", f"--workdir={tmp_path / 'run'}", f"--zeroshot_classes={names}"),
        *(f"--source={data['source']}", "--split=train", f"--output={tmp_path / 'p.npz'}"),
    )
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "p.npz")["logits"].shape == (16, 2)
    done = run_command("export", f"--workdir={tmp_path / 'run'}", f"--zeroshot_classes={names}")
    assert done.returncode == 2 and "come without data; give --source" in done.stderr


def test_both_towers_of_a_student_are_trained_by_a_teacher(weights, data, tmp_path):
    losses = dict(similarities_sigmoid=1.0, texts_cosine=1.0)
    run = student(
        weights, data, losses, text=TEXT | dict(embed_dim=32), model=dict(bias=True), evals={}
    )
    trained = distill_student.run(run, Workdir(tmp_path), overview=False)
    began = run.model.network().init(jax.random.key(0))
    moved = jax.tree.map(lambda a, b: np.any(a != b), trained.params, began)
    assert all(jax.tree.leaves(moved["text"])) and moved["temperature"]
    rows = metrics.read(tmp_path)
    assert rows[0]["train/texts_cosine"] > rows[-1]["train/texts_cosine"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(loss=dict(kind="sigmoid"), model=dict(family="pair", text=TEXT)),
            "needs a pair with",
        ),
        (dict(teacher=None), "give model.image, an image tower to train, or teacher"),
        (dict(model=dict(family="pair", bias=True)), "model.text is missing"),
        (
            dict(model=dict(family="pair", text=TEXT | dict(length=5), bias=True)),
            "data.captions.length is 8 and model.text.length 5",
        ),
    ],
)
def test_a_pair_that_cannot_be_trained_is_refused(data, change, message):
    with pytest.raises(UserError, match=message):
        locked("weights", data, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(start=dict(workdir="elsewhere")), "starts from nothing; leave start out"),
        (
            dict(
                model=None,
                students=dict(
                    pair=dict(model=dict(family="pair", image=dict(family="vit", variant="mu/8"))),
                    alone=dict(model=dict(family="vit", variant="mu/8", num_classes=0)),
                ),
            ),
            "in runs of their own",
        ),
    ],
)
def test_a_student_that_is_a_pair_is_not_mixed_with_others(data, change, message):
    image = dict(family="vit", variant="mu/8", image_size=48)
    given = dict(model=dict(family="pair", image=image), teacher=dict(workdir="somewhere"))
    matching = dict(losses=dict(kl=0.0, embedding_cosine=1.0))
    with pytest.raises(UserError, match=message):
        config(DistillConfig, data, matching=matching, **given | change)


def test_a_student_of_images_alone_cannot_learn_from_texts(weights, data, tmp_path):
    run = config(
        DistillConfig,
        data,
        model=dict(family="vit", variant="mu/8", image_size=48, num_classes=0),
        teacher=dict(weights=dict(path=str(weights))),
        matching=dict(losses=dict(kl=0.0, similarities_softmax=1.0), mixup=0.0),
    )
    with pytest.raises(UserError, match="the student has no text tower"):
        distill_student.run(run, Workdir(tmp_path), overview=False)


def test_a_trained_pair_is_exported_by_tower(live, tmp_path):
    with runtimes_in_this_process():
        text = export.run(live, tmp_path / "text", tower="text", formats=("stablehlo",))
        image = export.run(live, tmp_path / "image", formats=("stablehlo",), images=8)
    described = json.loads((text["stablehlo"].path / "export.json").read_text())
    assert described["about"]["workdir"] == str(live)
    assert described["preprocessing"]["length"] == LENGTH
    described = json.loads((image["stablehlo"].path / "export.json").read_text())
    pair = opened(live)
    width = pair.network.config.embedding_width
    assert described["signature"]["outputs"] == {"embedding": ["float32", [None, width]]}
    call = jax.export.deserialize(
        bytearray((text["stablehlo"].path / "model.jax_export").read_bytes())
    ).call
    ids = np.arange(3 * LENGTH, dtype=np.int32).reshape(3, LENGTH)
    expected = pair.network.apply(pair.params, ids, method=Pair.embed_texts)
    np.testing.assert_allclose(call(ids)["embedding"], expected, atol=2e-5)
    with pytest.raises(UserError, match=r"without embed_dim=16 \(it projects no images\)"):
        export.run(live, tmp_path, tower="pair", formats=("hf",), images=2)
