"""Official metrics, built in: YouTube-VIS / OVIS AP, DAVIS J and F, KITTI-MOTS sMOTSA and HOTA.

What computes what, and why:

- **AP**: matching and accumulation are pycocotools' ``COCOeval`` (maintained, and what the official YouTube-VIS tool
  was forked from); the spatio-temporal IoU and the video area ranges, which it lacks, are ours.
- **DAVIS**: our own code. The official ``davis2017-evaluation`` is not on PyPI; ours measures all objects of a frame at
  once and gives the same digits.
- **KITTI-MOTS**: our own code, after ``mots_tools`` (sMOTSA, counts) and TrackEval (HOTA). TrackEval (the optional
  extra ``eval``) is what the tests compare with where it is installed; nothing needs it.
"""
