"""The controller: an LSTM policy that emits decision sequences.

Letters: D sequences, T decisions in each (10B; 5B where one cell serves as both), K choices of the widest decision,
H hidden units.

The recurrence is written by hand: `torch.nn.LSTM` in float64 spends most of its time on the way from one small
operation to the next, twice over in training. Here each step is a handful of calls into allocated memory, and what does
not depend on the step before is done for all steps at once. So 20,000 trials of the paper's search, 1,000 updates of
75 ms, are replayed in 95 s on one core (`benchmarks/replay.py`).

It computes in float64. That costs little at this size, and makes a proposal practically independent of the machine:
a drawn token would have to lie within rounding of a border between two choices to come out otherwise elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TYPE = torch.float64
_NEVER = -1e9
"""Logit of a choice that a decision does not have: its probability is 0, and 0 times its logarithm is 0."""


class Controller(nn.Module):
    """A one-layer LSTM with one softmax for each decision; each decision is embedded and fed to the next step.

    Step t reads the embedding of decision t-1 (a learned vector at t = 0) and gives the logits of decision t. The joint
    probability of a sequence is the product over its T softmaxes; of cells, the normal one comes first and the
    reduction cell follows in the same sequence. Every position has its own softmax and its own embeddings.

    Args:
        sizes: Choices per decision, `SearchSpace.decision_sizes`.
        hidden: H, units of the LSTM; also the width of an embedding.
        init_range: Every weight starts uniform in plus or minus this.
        generator: Draws the first weights.

    References:
        Zoph et al. 2018, section 3 and appendix A.2 (H = 100, range 0.1).

    Deviation:
        The paper says nothing about embeddings; a table for each position is the choice that assumes least.
    """

    _floor: Tensor  # (T, K), 0, or _NEVER where decision t has no choice k
    _gate_factors: Tensor  # (4H,), of the rows of the gates i, f, g, o

    def __init__(self, sizes: Sequence[int], hidden: int, init_range: float, generator: torch.Generator) -> None:
        super().__init__()
        steps, widest = len(sizes), max(sizes)
        self.sizes = tuple(sizes)
        self.hidden = hidden
        self.first = nn.Parameter(torch.empty(hidden, dtype=_TYPE))
        self.embeddings = nn.Parameter(torch.empty(steps - 1, widest, hidden, dtype=_TYPE))
        self.lstm = nn.LSTM(hidden, hidden, dtype=_TYPE, device="meta").to_empty(device="cpu")  # holds its weights
        self.weights = nn.Parameter(torch.empty(steps, widest, hidden, dtype=_TYPE))
        self.biases = nn.Parameter(torch.empty(steps, widest, dtype=_TYPE))
        absent = torch.arange(widest) >= torch.tensor(self.sizes)[:, None]
        self.register_buffer("_floor", absent.to(_TYPE) * _NEVER, persistent=False)
        self.register_buffer(
            "_gate_factors", torch.tensor([1.0, 1.0, 2.0, 1.0], dtype=_TYPE).repeat_interleave(hidden), persistent=False
        )
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -init_range, init_range, generator=generator)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw decision sequences.

        Args:
            count: D, sequences to draw.

        Returns:
            The tokens, (D, T) integers, and the log-probability of each at its step, (D, T).
        """
        draws = torch.rand(len(self.sizes), count, 1, dtype=_TYPE, generator=generator)
        from_seen, from_state, bias = self._lstm_weights()
        both = torch.cat((from_seen, from_state), dim=1).t().contiguous()  # (2H, 4H)
        seen = self.first.expand(count, -1)  # (D, H)
        state = memory = seen.new_zeros(count, self.hidden)
        tokens, states = [], []
        heads = zip(self.sizes, self.weights.transpose(1, 2).unbind(), self.biases.unbind(), draws, strict=True)
        for step, (size, weight, biases, draw) in enumerate(heads):
            gates = torch.addmm(bias, torch.cat((seen, state), dim=1), both).sigmoid_()  # (D, 4H)
            keep_in, keep, new, out = gates.chunk(4, dim=1)
            memory = (keep * memory).addcmul_(keep_in, new.mul_(2).sub_(1))
            state = memory.tanh().mul_(out)
            chances = torch.addmm(biases[:size], state, weight[:, :size]).softmax(dim=1)
            borders = chances.cumsum(dim=1)  # (D, size); the last is 1 but for rounding
            token = (draw >= borders).sum(dim=1).clamp_(max=size - 1)  # (D,)
            tokens.append(token)
            states.append(state)
            if step < len(self.sizes) - 1:
                seen = self.embeddings[step].index_select(0, token)
        drawn = torch.stack(tokens)  # (T, D)
        return drawn.t().contiguous(), _pick(self._log_probs(torch.stack(states)), drawn)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy at every step of given sequences, all in one pass.

        Args:
            tokens: (D, T) integers.

        Returns:
            The log-probability of each token given those before it, (D, T), and the entropy of its softmax in nats,
            (D, T).
        """
        log_probs = self._log_probs(self._states(tokens.t()))  # (T, D, K)
        entropies = -(log_probs.exp() * log_probs).sum(dim=2)
        return _pick(log_probs, tokens.t()), entropies.t()

    def _states(self, tokens: Tensor) -> Tensor:
        """The LSTM's state at every step of given sequences, (T, D, H); `tokens` is (T, D).

        Sequences share most of their (position, token) pairs, so each pair is multiplied by the input weights once.
        """
        from_seen, from_state, bias = self._lstm_weights()
        steps, widest, hidden = self.embeddings.shape
        places = tokens[:-1] + widest * torch.arange(steps)[:, None]  # (T-1, D)
        used, rows = torch.unique(places, return_inverse=True)
        vectors = torch.cat((self.first[None], F.embedding(used, self.embeddings.view(-1, hidden))))  # (U, H)
        table = torch.addmm(bias, vectors, from_seen.t())  # (U, 4H)
        rows = torch.cat((rows.new_zeros(1, tokens.shape[1]), rows + 1))  # (T, D)
        states: Tensor = Recurrence.apply(F.embedding(rows, table), from_state)
        return states

    def _log_probs(self, states: Tensor) -> Tensor:
        """Log-probability of every choice at every step, (T, D, K), from the states, (T, D, H)."""
        logits = torch.baddbmm((self.biases + self._floor)[:, None], states, self.weights.transpose(1, 2))
        return logits.log_softmax(dim=2)

    def _lstm_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of the input and of the state, (4H, H) each, and the bias, (4H,), all as `Recurrence` wants them."""
        from_seen, from_state, bias_seen, bias_state = self.lstm.all_weights[0]
        factors = self._gate_factors[:, None]
        return from_seen * factors, from_state * factors, (bias_seen + bias_state) * self._gate_factors


def _pick(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """The log-probabilities of the tokens, (D, T), out of those of all choices, (T, D, K); `tokens` is (T, D)."""
    return log_probs.gather(2, tokens[:, :, None]).squeeze(2).t()


class Recurrence(torch.autograd.Function):
    """The states of an LSTM whose inputs were multiplied by their weights beforehand.

    With z_t = p_t + W h_{t-1}, all four gates are sigmoids: (i, f, c, o) = s(z_t). The candidate of the usual LSTM is
    tanh(x) = 2 s(2x) - 1, so rows 2H to 3H of p and W are to be given doubled (`Controller._lstm_weights`). Then
    m_t = f m_{t-1} + i (2c - 1) and h_t = o tanh(m_t), with h and m zero before the first step.
    """

    @staticmethod
    def forward(ctx: Any, fed: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
        """All states.

        Args:
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
