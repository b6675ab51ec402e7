"""The reader of .pkl weights builds arrays, dictionaries, lists, texts and numbers, and refuses everything else."""

import collections
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from stemseg.modeling.backbone.convert_main import main
from stemseg.modeling.backbone.foreign_files import read_pickle
from stemseg.utils.errors import CheckpointError

CONTENT = {
    "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">i4"),
    "half": np.ones((1, 2, 1), dtype=np.float16),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "scalar": np.float32(0.5),
    "nested": [1, 2.5, "text", None, True, (np.arange(2), {"x": np.int64(3)})],
    "ordered": collections.OrderedDict(a=1),
    "bytes": b"\x00\xff",
}


def assert_same(a, b):
    if isinstance(b, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all()
    elif isinstance(b, dict):
        assert type(a) is dict and list(a) == list(b)
        for key in b:
            assert_same(a[key], b[key])
    elif isinstance(b, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL))
def test_arrays_and_containers_survive(tmp_path, protocol):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    assert_same(read_pickle(path), CONTENT)


def test_python_2_pickles(tmp_path):
    """As Python 2 wrote them: texts and array contents are byte strings (opcodes U and T), the old NumPy name."""
    content = np.arange(3, dtype="<f4").tobytes()
    path = tmp_path / "weights.pkl"
    path.write_bytes(
        b"\x80\x02}U\x07conv1_wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U" + bytes([len(content)]) + content + b"tbs."
    )
    assert_same(read_pickle(path), {"conv1_w": np.arange(3, dtype=np.float32)})


class Malicious:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def harmful(tmp_path):
    marker = tmp_path / "executed"
    return marker, [
        Malicious(os.system, f"touch {marker}"),
        Malicious(eval, f"open({str(marker)!r}, 'w')"),
        Malicious(exec, f"open({str(marker)!r}, 'w')"),
        Malicious(open, str(marker), "w"),
        Malicious(subprocess.call, ["touch", str(marker)]),
        Malicious(getattr, "", "join"),
        Malicious(np.load, str(marker)),
        Malicious(np.memmap, str(marker), "uint8", "w+", 0, (1,)),
        Malicious(__import__, "os"),
    ]


def test_code_is_refused_and_not_run(tmp_path, capsys):
    marker, attempts = harmful(tmp_path)
    path = tmp_path / "weights.pkl"
    for attempt in attempts:
        for protocol in (0, 2, 4):
            path.write_bytes(pickle.dumps({"model": {"conv1_w": attempt}}, protocol=protocol))
            with pytest.raises(CheckpointError, match=r"wants to call '.+'"):
                read_pickle(path)
    assert not marker.exists()
    assert main([str(path), str(tmp_path / "out.pth")]) == 1
    assert "Nothing of it was run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x80\x02(S'touch x'\nios\nsystem\n.", id="INST"),
        pytest.param(b"\x80\x04\x8c\x02os\x8c\x06system\x93.", id="STACK_GLOBAL"),
        pytest.param(b"\x80\x02cnumpy.core.multiarray\n__dict__\n.", id="dotted"),
        pytest.param(b"\x80\x04\x8c\x05numpy\x8c\x0dload.__code__\x93.", id="attribute of a function"),
        pytest.param(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.", id="another codec"),
    ],
)
def test_hand_written_programs_are_refused(tmp_path, content):
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="wants to call"):
        read_pickle(path)


def test_arrays_of_objects_are_refused(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"x": np.array([{}, None], dtype=object)}))
    with pytest.raises(CheckpointError, match=r"numpy\.dtype of 'O8'"):
        read_pickle(path)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(CONTENT)[:-20], b"\x80\x02(X\x01\x00\x00\x00aQ."])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pkl cannot be read as a pickle"):
        read_pickle(path)


def test_endless_containers_are_named(tmp_path):
    endless = []
    endless.append(endless)
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(endless))
    with pytest.raises(CheckpointError, match="without end"):
        read_pickle(path)
    assert sys.getrecursionlimit() < 100_000
