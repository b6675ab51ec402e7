"""Helpers of the flow's tests: weights away from their initial zeros, the golden recipe, and Jacobians."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stemseg.modeling.flow.glow import Glow
from tests.helpers.golden_weights import det, recipe_value


def randomized(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """The module in float64 with every weight moved, so that nothing is zero or the identity any more."""
    torch.manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def log_abs_det_jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det| of the Jacobian of ``function`` at each item of x [N, ...], by autograd; [N]."""
    jacobians = [torch.autograd.functional.jacobian(lambda v: function(v[None])[0].flatten(), item) for item in x]
    return torch.stack([torch.linalg.slogdet(j.reshape(len(j), -1)).logabsdet for j in jacobians])


def fill_flow(flow: Glow) -> None:
    """Fill a flow by the recipe behind the golden numbers."""
    with torch.no_grad():
        for key, value in flow.state_dict().items():
            value.copy_(_flow_value(key, value))


def _flow_value(key: str, current: Tensor) -> Tensor:
    name = key.rsplit(".", 1)[-1]
    if name in ("loc", "w_s", "w_l", "w_u"):
        return 0.1 * det(key, current.shape)
    if name == "scale":
        return float("actnorm" in key) + 0.1 * det(key, current.shape)
    if name == "w_p":  # row i has its 1 in column i - 1
        return torch.eye(len(current)).roll(-1, dims=1)
    if name == "s_sign":
        return torch.where(det(key, current.shape) >= 0, 1.0, -1.0)
    if name == "initialized":
        return torch.ones_like(current)
    if name in ("u_mask", "l_mask", "l_eye"):
        return current
    return recipe_value(key, current)
