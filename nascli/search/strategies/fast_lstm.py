"""The recurrence of an LSTM layer, forward and back through time, for the controller's many tiny steps.

Letters: T steps, D sequences, H hidden units. `torch.nn.LSTM` in float64 spends most of its time on the way from one
small operation to the next, twice over in training; here each step is a handful of calls into allocated memory, and
what does not depend on the step before is done for all steps at once. With it 20,000 trials of the paper's search,
1,000 updates of 75 ms, are replayed in 95 s on one core (`benchmarks/replay.py`): that is what this file is for.
"""

from typing import Any

import torch
from torch import Tensor


class Recurrence(torch.autograd.Function):
    """The states of an LSTM whose inputs were multiplied by their weights beforehand.

    With z_t = p_t + W h_{t-1}, all four gates are sigmoids: (i, f, c, o) = s(z_t). The candidate of the usual LSTM is
    tanh(x) = 2 s(2x) - 1, so rows 2H to 3H of p and W are to be given doubled (see `gate_factors`). Then
    m_t = f m_{t-1} + i (2c - 1) and h_t = o tanh(m_t), with h and m zero before the first step.
    """

    @staticmethod
    def forward(ctx: Any, fed: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
        """All states.

        Args:
            ctx: Autograd's.
            fed: p, (T, D, 4H).
            weight: W, (4H, H).

        Returns:
            h, (T, D, H).
        """
        steps, count, _ = fed.shape
        hidden = weight.shape[1]
        gates = torch.empty_like(fed)  # (T, D, 4H)
        states, memories = (fed.new_zeros(steps + 1, count, hidden) for _ in range(2))  # at t + 1 that of step t
        candidates, squashed = (fed.new_empty(steps, count, hidden) for _ in range(2))  # 2c - 1 and tanh(m)
        across = weight.t().contiguous()  # (H, 4H): the product is faster so
        every = zip(
            fed.unbind(),
            gates.unbind(),
            *(part.unbind() for part in gates.chunk(4, dim=2)),
            *(kept.unbind() for kept in (candidates, squashed, states, memories, states[1:], memories[1:])),
            strict=False,
        )
        for given, all_four, keep_in, keep, new, out, candidate, tanh, state, memory, next_state, next_memory in every:
            torch.addmm(given, state, across, out=all_four).sigmoid_()
            torch.mul(new, 2, out=candidate).sub_(1)
            torch.mul(keep, memory, out=next_memory).addcmul_(keep_in, candidate)
            torch.tanh(next_memory, out=tanh)
            torch.mul(out, tanh, out=next_state)
        ctx.save_for_backward(weight, gates, states, memories, candidates, squashed)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """The gradients of `fed` and `weight` from that of the states, (T, D, H)."""
        weight, gates, states, memories, candidates, squashed = ctx.saved_tensors
        steps, count, hidden = grad.shape
        slopes = torch.addcmul(gates, gates, gates, value=-1)  # (T, D, 4H): dh/dz for o, dm/dz for the others
        for part, factor in zip(slopes.chunk(4, dim=2), (candidates, memories[:-1], gates, squashed), strict=True):
            part.mul_(factor[..., :hidden])
        slopes[..., 2 * hidden : 3 * hidden].mul_(2)
        keep, out = gates[..., hidden : 2 * hidden], gates[..., 3 * hidden :]
        through = out - out * squashed.square()  # dh/dm
        back = torch.empty_like(gates)  # dz
        of_memory = grad.new_zeros(count, 1, hidden)
        every = zip(
            grad.unsqueeze(2).unbind(),
            keep.unsqueeze(2).unbind(),
            through.unsqueeze(2).unbind(),
            slopes.view(steps, count, 4, hidden)[:, :, :3].unbind(),
            slopes.view(steps, count, 4, hidden)[:, :, 3:].unbind(),
            back.view(steps, count, 4, hidden)[:, :, :3].unbind(),
            back.view(steps, count, 4, hidden)[:, :, 3:].unbind(),
            back.unbind(),
            strict=True,
        )
        later = grad.new_zeros(count, hidden)  # the gradient of a state from the steps after it
        for of_state, kept, passed, slope_memory, slope_out, back_memory, back_out, back_all in reversed(list(every)):
            of_state = later.view_as(of_state) + of_state
            of_memory.addcmul_(of_state, passed)
            torch.mul(slope_memory, of_memory, out=back_memory)
            torch.mul(slope_out, of_state, out=back_out)
            of_memory.mul_(kept)
            torch.mm(back_all, weight, out=later)
        before = states[:-1].reshape(steps * count, hidden)
        return back, back.view(steps * count, 4 * hidden).t() @ before


def gate_factors(hidden: int, dtype: torch.dtype) -> Tensor:
    """Factors of the rows of an LSTM's weights and biases, in PyTorch's order i f g o, for `Recurrence`: (4H,)."""
    factors = torch.ones(4, hidden, dtype=dtype)
    factors[2] = 2
    return factors.flatten()
