"""Shared by all tests: one thread (test machines have few cores), and the helpers beside this file are importable."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))  # tests import golden_weights from any folder
torch.set_num_threads(1)
