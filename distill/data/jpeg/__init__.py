"""Crops of JPEGs decoded alone, from files whose parts are marked for it without loss."""

from distill.data.jpeg.crops import crop, decode_crop
from distill.data.jpeg.errors import UnsupportedJpeg
from distill.data.jpeg.header import Header, parse
from distill.data.jpeg.restarts import restart_interval, with_restarts
from distill.data.jpeg.scan import segments

__all__ = [
    "Header",
    "UnsupportedJpeg",
    "crop",
    "decode_crop",
    "parse",
    "restart_interval",
    "segments",
    "with_restarts",
]
