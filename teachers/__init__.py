"""Teachers: the giants (ViT-22B; ViT-g, G and e)."""
