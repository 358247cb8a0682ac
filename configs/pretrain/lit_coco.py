r"""A text tower on a published image tower, from COCO's captions (LiT).

  distill train_pair --config=pretrain/lit_coco --workdir=runs/lit \
      --config.teacher.weights.path=weights/vit-base --config.data.captions.path=tokenizer.json

`distill train_tokenizer tfds:coco_captions --output=tokenizer.json --vocab=32000` makes the
vocabulary of the data, which TensorFlow Datasets prepares once (pip install -e '.[tfds]'):

  import tensorflow_datasets as tfds
  tfds.builder("coco_captions", file_format="array_record").download_and_prepare()

arXiv 2111.07991: the image tower stays as it is, texts have 16 tokens, and the text tower's head
is as wide as the image's embedding; for another width than 768 set config.model.text.embed_dim, or
a projection of it is learnt. Settings are those of big_vision's configs of COCO: Adafactor at 1e-3,
decay 0.01 of kernels, cosine over 5000 steps; sigmoid loss of 512 pairs with a bias of −2.71, or
with the argument `:softmax` that of 4096 without. Images are squashed whole, and mirrored;
RandAugment, which big_vision has, is left out. `distill store_targets` with the same arguments
stores the embeddings, so that `--config.teacher=none --config.targets=…` trains without the image
tower. This run has not been measured here.
"""

import ml_collections

LOSSES = {
    "sigmoid": (512, dict(bias=True, initial_bias=-2.71)),
    "softmax": (4096, dict(bias=False)),
}


def get_config(loss="sigmoid"):
    if loss not in LOSSES:
        raise ValueError(f"expected one of {', '.join(LOSSES)}, not {loss!r}")
    batch_size, bias = LOSSES[loss]
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="pair",
                text=dict(variant="B", vocab=32_000, length=16, embed_dim=768, dtype="bfloat16"),
                initial_scale=10.0,
                **bias,
            ),
            teacher=dict(weights=dict(path="weights"), dtype="bfloat16"),
            loss=dict(kind=loss),
            data=dict(
                source="tfds:coco_captions",
                train_split="train",
                validation_split="val",
                test_split="test",
                captions=dict(path="tokenizer.json", family="siglip2", length=16),
                view=dict(crop_area=(1.0, 1.0), eval_resize="squash", eval_crop=1.0),
            ),
            optimizer=dict(name="adafactor", learning_rate=1e-3, weight_decay=(("kernel$", 0.01),)),
            schedule=dict(kind="cosine", warmup_steps=150),
            train=dict(
                batch_size=batch_size,
                total_steps=5000,
                log_every=50,
                eval_every=1000,
                checkpoint_every=1000,
            ),
        )
    )
