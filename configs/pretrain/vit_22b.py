r"""ViT-22B: batch 65,536 for 177k steps, as its authors trained it.

  python pipelines/pretrain.py --config=configs/pretrain/vit_22b.py --workdir=runs/vit_22b \
      --config.data.source=folder:DIR

arXiv 2302.05442, §3 and appendix: peak learning rate 1e-3, warmup 10k, cooldown 30k. The head and
body decay of 3.0 and 0.03 are ViT-G's, which the paper does not contradict; everything else is
configs/pretrain/vit_g14.py. Its data, JFT-4B with 29,593 classes, is not public: bring your own
and set config.model.num_classes.
"""

from configs.pretrain import vit_g14


def get_config():
    config = vit_g14.get_config()
    config.model.update(family="vit_22b", variant="22B/14")
    # What fits into the 32 GiB of a TPU v4 need not be computed again.
    config.model.remat_keep = ("query",)
    # 6144 = 64 · 96: on 1024 chips, 16 replicas of 64 chips each.
    config.mesh = dict(data=-1, fsdp=64)
    config.optimizer = vit_g14.optimizer(learning_rate=1e-3)
    config.schedule.cooldown_steps = 30_000
    config.train.update(
        batch_size=65_536, total_steps=177_000, eval_every=2000, checkpoint_every=1000
    )
    return config
