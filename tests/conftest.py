"""Shared by all tests: one thread, because test machines have few cores."""

import torch

torch.set_num_threads(1)
