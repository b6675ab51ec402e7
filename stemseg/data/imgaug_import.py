"""The one place that imports imgaug, whose release 0.4.0 asks numpy for ``np.sctypes``, which numpy 2 removed."""

from __future__ import annotations

import numpy as np


def _restore_sctypes() -> None:
    if hasattr(np, "sctypes"):
        return
    sctypes = {
        "int": [np.int8, np.int16, np.int32, np.int64],
        "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
        "float": [np.float16, np.float32, np.float64, np.longdouble],
        "complex": [np.complex64, np.complex128, np.clongdouble],
        "others": [bool, object, bytes, str, np.void],
    }
    vars(np).update(sctypes=sctypes)


_restore_sctypes()

import imgaug.augmenters as iaa  # noqa: E402

__all__ = ["iaa"]
