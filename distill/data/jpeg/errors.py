"""Why a JPEG is left to an ordinary decoder."""


class UnsupportedJpeg(Exception):
    """A JPEG that cannot be cut: of a kind that has no segments, or damaged; carries the reason.

    It says nothing of the image: a decoder of whole files may well read it.
    """
