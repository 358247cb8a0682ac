"""What counts as right on ImageNet and the sets that are made like it.

A set says which of a model's classes compete and which of them each image may be taken for. A
module of this package that lists `LABEL_SPACES` adds to the sets that are known by name.
"""
