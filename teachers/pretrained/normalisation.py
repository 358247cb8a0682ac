"""What models are fed where nothing beside the weights says so: mean and std of pixels."""

HALF = dict(mean=(0.5,), std=(0.5,))
"""To [−1, 1]: big_vision, ViT and SigLIP."""
IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""DeiT, DINOv2 and DINOv3."""
CLIP = dict(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))
