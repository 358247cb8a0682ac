"""Directories in the object stores of Google (`gs://`) and of Amazon and its likes (`s3://`).

A run works on local paths alone. What lies in a bucket is fetched into a local copy (`copies`),
and what a run writes there is sent to the bucket in the background (`mirror`), which one process at
a time may do (`owner`). `bucket` reads and writes objects.
"""

from distill.buckets.bucket import Bucket
from distill.buckets.copies import Copy, fetched, local, place_of, send
from distill.buckets.mirror import mirrored

__all__ = ["Bucket", "Copy", "fetched", "local", "mirrored", "place_of", "send"]
