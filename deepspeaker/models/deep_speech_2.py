r"""GRU layers as in Deep Speech 2 (arXiv 1512.02595): batch norm of the input products, clipped ReLU of the candidate.

With the products :math:`z_t, r_t, c_t` of the input and three matrices, each normalised over batch and time, and with
the recurrent matrices :math:`U`, the state is

.. math::

    \begin{aligned}
    \hat z_t &= \sigma(z_t + U_z h_{t-1}) \qquad \hat r_t = \sigma(r_t + U_r h_{t-1}) \\
    \hat c_t &= \min(\max(c_t + \hat r_t \odot U_c h_{t-1}, 0), 20) \\
    h_t &= (1 - \hat z_t) \odot \hat c_t + \hat z_t \odot h_{t-1}
    \end{aligned}

The update gate is read the other way round than there, as torch and ONNX do. The batch norm's shift is the bias.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepspeaker.models.layers import full_precision

_CLIP = 20.0


def _states(gates: Tensor, recurrent: Tensor) -> tuple[Tensor, Tensor]:
    """Run the recurrence over the products ``gates`` (frames, batch, 3 * hidden), which become the gates in place.

    Returns the states, after the initial zeros, and what the candidate gets from the state before: shapes
    (frames + 1, batch, hidden) and (frames, batch, hidden).
    """
    frames, batch, hidden = len(gates), gates.shape[1], recurrent.shape[1]
    states = gates.new_zeros(frames + 1, batch, hidden)
    products = gates.new_empty(frames, batch, 3 * hidden)
    transposed = recurrent.t()
    # Views of all frames are made at once: a view costs about as much time as a small operation.
    update_reset = zip(gates[..., : 2 * hidden].unbind(0), products[..., : 2 * hidden].unbind(0), strict=True)
    update, reset, candidate = (part.unbind(0) for part in gates.chunk(3, dim=2))
    of_state, state = products[..., 2 * hidden :].unbind(0), states.unbind(0)
    for t, ((both, increment), product) in enumerate(zip(update_reset, products.unbind(0), strict=True)):
        torch.mm(state[t], transposed, out=product)
        both.add_(increment).sigmoid_()
        candidate[t].addcmul_(reset[t], of_state[t]).clamp_(0.0, _CLIP)
        torch.lerp(candidate[t], state[t], update[t], out=state[t + 1])
    return states, products[..., 2 * hidden :]


class _Recurrence(torch.autograd.Function):
    """The recurrence with its gradient: as many small operations as it needs, and one product for the matrices."""

    @staticmethod
    def forward(ctx: Any, products: Tensor, recurrent: Tensor) -> Tensor:
        gates = products.clone(memory_format=torch.contiguous_format)
        states, of_state = _states(gates, recurrent)
        ctx.save_for_backward(gates, states, of_state, recurrent)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gates, states, of_state, recurrent = ctx.saved_tensors
        frames, hidden = len(gates), recurrent.shape[1]
        update, reset, candidate = gates.chunk(3, dim=2)
        # Derivatives by what goes into each nonlinearity, for all frames at once.
        by_candidate = (1 - update) * ((candidate > 0) & (candidate < _CLIP))
        by_update = (states[:-1] - candidate) * update * (1 - update)
        by_reset = of_state * reset * (1 - reset)
        of_recurrent, of_candidate = torch.empty_like(gates), torch.empty_like(states[1:])
        of_update, of_reset, of_increment = (part.unbind(0) for part in of_recurrent.chunk(3, dim=2))
        inner = torch.zeros_like(gradient[0])  # gradient by the state of the frame after
        for t in range(frames - 1, -1, -1):
            inner = inner + gradient[t]
            torch.mul(inner, by_update[t], out=of_update[t])
            torch.mul(inner, by_candidate[t], out=of_candidate[t])
            torch.mul(of_candidate[t], by_reset[t], out=of_reset[t])
            torch.mul(of_candidate[t], reset[t], out=of_increment[t])
            inner = torch.addmm(inner * update[t], of_recurrent[t], recurrent)
        of_products = torch.cat([of_recurrent[..., : 2 * hidden], of_candidate], dim=2)
        return of_products, of_recurrent.flatten(0, 1).t() @ states[:-1].flatten(0, 1)


class DeepSpeech2Layer(nn.Module):
    """One layer, on sequences of shape (frames, batch, size); its parameters are as many as those of ``nn.GRU``.

    Rows of both matrices: update gate, reset gate, candidate.
    """

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden, size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.norm = nn.BatchNorm1d(3 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return the states, shape (frames, batch, hidden)."""
        products = F.linear(x, self.weight_ih)
        normed = self.norm(products.flatten(0, 1)).view_as(products)
        with torch.autocast(x.device.type, enabled=False):
            states: Tensor = _Recurrence.apply(full_precision(normed), self.weight_hh)  # type: ignore[no-untyped-call]
        return states


class _FoldedFunction(torch.autograd.Function):
    """A folded layer, as one operator of an ONNX graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_ih: Tensor, bias: Tensor, weight_hh: Tensor) -> Tensor:
        return _states(F.linear(x, weight_ih, bias), weight_hh)[0][1:]

    @staticmethod
    def symbolic(graph: Any, x: Any, weight_ih: Any, bias: Any, weight_hh: Any) -> Any:
        """Write ONNX's GRU; it has the same order of gates, and its clip also bounds the gates' inputs, at +-20."""
        hidden = weight_hh.type().sizes()[1]
        none = graph.op("Constant", value_t=torch.zeros(3 * hidden))  # the recurrent products have no bias
        bias = graph.op("Concat", bias, none, axis_i=0)
        weights = [graph.op("Unsqueeze", part, axes_i=[0]) for part in (weight_ih, weight_hh, bias)]
        states, _ = graph.op(
            "GRU",
            x,
            *weights,
            activations_s=["Sigmoid", "Relu"],
            clip_f=_CLIP,
            hidden_size_i=hidden,
            linear_before_reset_i=1,
            outputs=2,
        )
        return graph.op("Squeeze", states, axes_i=[1])


class FoldedLayer(nn.Module):
    """A layer in evaluation mode whose batch norm has become part of the matrix and a bias."""

    weight_ih: Tensor
    bias: Tensor
    weight_hh: Tensor

    def __init__(self, layer: DeepSpeech2Layer) -> None:
        super().__init__()
        norm = layer.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.register_buffer("weight_ih", (layer.weight_ih * scale[:, None]).detach())
        self.register_buffer("bias", (norm.bias - norm.running_mean * scale).detach())
        self.register_buffer("weight_hh", layer.weight_hh.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the states, shape (frames, batch, hidden)."""
        states: Tensor = _FoldedFunction.apply(x, self.weight_ih, self.bias, self.weight_hh)  # type: ignore[no-untyped-call]
        return states


class DeepSpeech2GRU(nn.Module):
    """Forward GRU layers of Deep Speech 2, on sequences of shape (batch, frames, size), like ``nn.GRU``."""

    def __init__(self, size: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DeepSpeech2Layer(hidden if n else size, hidden) for n in range(layers))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of the last layer, (batch, frames, hidden), and its last state."""
        x = x.transpose(0, 1)
        for layer in self.layers:
            x = layer(x)
        return x.transpose(0, 1), x[-1]

    def fold(self) -> None:
        """Replace the layers by folded ones."""
        self.layers = nn.ModuleList(FoldedLayer(layer) for layer in self.layers)  # type: ignore[arg-type]
