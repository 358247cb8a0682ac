"""Parts of JPEGs decoded alone: crops of files that are marked for it without loss, and tops."""

from distill.data.jpeg.crops import crop, decode_crop, decode_top
from distill.data.jpeg.errors import UnsupportedJpeg
from distill.data.jpeg.header import Header, parse
from distill.data.jpeg.restarts import restart_interval, with_restarts
from distill.data.jpeg.scan import segments

__all__ = [
    "Header",
    "UnsupportedJpeg",
    "crop",
    "decode_crop",
    "decode_top",
    "parse",
    "restart_interval",
    "segments",
    "with_restarts",
]
