"""Data sets of TensorFlow Datasets."""

import functools
import operator
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from distill.data.sources.array_records import DamagedRecords, record_failure
from distill.data.sources.base import (
    EmptySplit,
    MissingSplit,
    cached_property,
    count,
    fingerprint_of,
    labelled,
    printable,
)
from distill.data.sources.captions import captions_of_record
from distill.data.sources.class_lists import checked_names
from distill.data.sources.decoding import Decoding
from distill.data.sources.formats import Format, Request
from distill.data.sources.reading import persistently
from distill.data.spec import Example, labelled_images
from distill.errors import RunFailed, UserError, did_you_mean

# Records whose labels are read at once, and seconds between lines that say how far it is.
_RECORDS, _PATIENCE = 1024, 20.0
# Features of captions, as COCO's and others have them, of which the first there is counts.
_CAPTIONS = (("captions", "text"), ("captions",), ("caption",), ("text",))
# Features that are said otherwise than as attributes.
_OWN = (("image",), ("label",), ("file_name",))


class TfdsSource:
    """A TensorFlow Datasets data set prepared as `array_record`, read without TensorFlow.

    Its classes are those of the feature `label`; without one, images have no labels. What other
    features say of an image as a whole, such as `attributes/Male`, are its attributes. Its captions
    are those of a feature `captions/text`, `captions`, `caption` or `text`.

    Args:
      name: of the data set.
      split: its name, or slices of it.
      decoding: how images become pixels.
      data_dir: where TFDS keeps its data sets; None for its default.
      encoded: other features that are images, whose records hold the bytes of their files.
    """

    def __init__(
        self,
        name: str,
        split: str,
        decoding: Decoding,
        data_dir: str | None,
        encoded: Sequence[str] = (),
    ):
        # Imported here because it takes a second that other sources need not spend.
        import tensorflow_datasets as tfds

        self.dataset, self.split = name, split
        self.spec = labelled_images(decoding.channels)
        self._decode = decoding
        try:
            builder = tfds.builder(name, data_dir=data_dir)
        except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
            known = tfds.list_builders(with_community_datasets=False)
            why = did_you_mean(name, known) or f": {_first_line(error)}"
            raise UserError(f"TFDS has no data set {name!r}{why}") from error
        features = builder.info.features
        is_dict = isinstance(features, tfds.features.FeaturesDict)
        if not is_dict or "image" not in features:
            raise UserError(f"TFDS data set {name!r} has no feature named image")
        self._named = "file_name" in features
        stored = builder.info.file_format and builder.info.file_format.value
        if not builder.is_prepared():
            raise UserError(
                f"TFDS data set {name!r} is not prepared in {builder.data_dir}; prepare it with "
                f"tfds.builder({name!r}, data_dir={data_dir!r}, file_format='array_record')"
                ".download_and_prepare(), for which pip install -e '.[tfds]' brings TensorFlow"
            )
        if stored != "array_record":
            raise UserError(
                f"TFDS data set {name!r} is stored as {stored}, which cannot be read at random; "
                f"prepare it with tfds.builder({name!r}, data_dir=ANOTHER, "
                "file_format='array_record').download_and_prepare() and set "
                "config.data.data_dir=ANOTHER"
            )
        try:
            # Its decorator hides its arguments and its result from type checkers.
            as_data_source: Any = builder.as_data_source
            self._records: Any = as_data_source(
                split=split,
                decoders=dict.fromkeys(("image", *encoded), tfds.decode.SkipDecoding()),
            )
        except (ValueError, AssertionError, NotImplementedError) as error:
            if "0 length" in str(error):
                raise EmptySplit(f"split {split!r} of tfds:{name} holds no images") from error
            wrong = MissingSplit if "Unknown split" in str(error) else UserError
            raise wrong(f"TFDS data set {name!r}, split {split!r}: {_first_line(error)}") from error
        label: Any = dict(features.items()).get("label")
        self._labelled = isinstance(label, tfds.features.ClassLabel)
        self.class_names = checked_names(label.names, f"tfds:{name}") if self._labelled else ()
        self._attributes = {
            "/".join(keys): (keys, feature)
            for keys, feature in _scalars(features, tfds.features.FeaturesDict)
            if keys not in _OWN
        }
        self._captions = next((keys for keys in _CAPTIONS if _is_text(features, keys)), None)
        splits = [(s.name, s.num_bytes, s.shard_lengths) for s in builder.info.splits.values()]
        self.fingerprint = fingerprint_of(
            builder.info.full_name, split, sorted(splits), self.class_names
        )
        """Of name, config and version of the data set, the lengths of its shards, and the split."""

    def __len__(self) -> int:
        return len(self._records)

    @property
    def found(self) -> str:
        """How many images and classes there are."""
        if not self._labelled:
            return f"{count(len(self), 'image')} without labels"
        return labelled(len(self), len(self.class_names))

    @cached_property
    def labels(self) -> np.ndarray:
        """Of all images, int32 [N]; every record is read for it, once, if there are any."""
        labels = np.full(len(self), -1, np.int32)
        if not self._labelled:
            return labels
        said = time.monotonic()
        for start in range(0, len(self), _RECORDS):
            indices = range(start, min(start + _RECORDS, len(self)))
            labels[indices] = [record["label"] for record in self._fetch(indices)]
            if time.monotonic() - said > _PATIENCE:
                said = time.monotonic()
                logging.warning(
                    "reading labels of %s %s: %d of %d",
                    self.dataset,
                    self.split,
                    indices.stop,
                    len(self),
                )
        return labels

    def read(self, index: int) -> Example:
        """Reads and decodes the record."""
        (record,) = self._fetch([index])
        return self._example(record)

    def _example(self, record: Any) -> Example:
        label = np.int32(record["label"] if self._labelled else -1)
        return {"image": self._decode(record["image"]), "label": label}

    def encoded(self, index: int) -> bytes:
        """The bytes of the image's file."""
        return self._fetch([index])[0]["image"]

    def _fetch(self, indices: Sequence[int]) -> Sequence[Any]:
        def fetch():
            try:
                return self._records.__getitems__(indices)
            # What array_record raises where the system fails and where a file is damaged.
            except RuntimeError as error:
                raise record_failure(error) from error

        what = self.describe(indices[0])
        try:
            return persistently(fetch, what)
        except DamagedRecords as error:
            raise RunFailed(
                f"{what}: the data set's files are damaged: {error}. Prepare or copy it again"
            ) from error

    def describe(self, index: int) -> str:
        """The record's place in its split."""
        return f"{self.dataset} {self.split} record {index}"

    def name(self, index: int) -> str:
        """The record's `file_name`, where the data set has one; else its place in its split."""
        if not self._named:
            return f"{self.split}/{index}"
        (record,) = self._fetch([index])
        return printable(os.fsdecode(record["file_name"]))

    def attributes(self, index: int) -> dict[str, Any]:
        """What the record says of the image as a whole: texts, numbers and bools by feature.

        Those of features in others are called by their path, such as `attributes/Male`; classes by
        their names, and one that is not known is empty.
        """
        if not self._attributes:
            return {}
        (record,) = self._fetch([index])
        return {
            path: _plain(feature, record, keys)
            for path, (keys, feature) in self._attributes.items()
        }

    def captions(self, index: int) -> tuple[str, ...]:
        """The record's captions, if the data set has any."""
        if self._captions is None:
            return ()
        (record,) = self._fetch([index])
        found = np.atleast_1d(functools.reduce(operator.getitem, self._captions, record)).tolist()
        return captions_of_record(found, f"feature {'/'.join(self._captions)}")


def _is_text(features: Any, keys: tuple[str, ...]) -> bool:
    """Whether there is a feature of text, or of several, at a path of keys."""
    for key in keys:
        if not hasattr(features, "keys") or key not in features.keys():  # noqa: SIM118
            return False
        features = features[key]
    return not hasattr(features, "keys") and np.dtype(features.np_dtype).kind == "O"


def _scalars(
    features: Any, nested: type, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The features that are one value each, after their keys; in those of `nested` as well."""
    for name, feature in features.items():
        # Sequences have the attributes of what they are of, so that only the type tells.
        if isinstance(feature, nested):
            yield from _scalars(feature, nested, (*above, name))
        elif feature.shape == ():
            yield (*above, name), feature


def _plain(feature: Any, record: Any, keys: tuple[str, ...]) -> Any:
    value = functools.reduce(operator.getitem, keys, record)
    if hasattr(feature, "names"):
        return feature.names[value] if value >= 0 else ""
    return os.fsdecode(value) if isinstance(value, bytes) else value


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _open(request: Request) -> TfdsSource:
    return TfdsSource(request.argument, request.split, request.decoding, request.data_dir)


FORMATS = (Format(name="tfds", argument="NAME", open=_open),)
