"""The controller: an LSTM policy that emits decision sequences.

Letters: D sequences, T decisions in each (10B; 5B where one cell serves as both), K choices of the widest decision,
H hidden units.

It computes in float64. That costs little at this size, and makes a proposal practically independent of the machine:
a drawn token would have to lie within rounding of a border between two choices to come out otherwise elsewhere.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nascli.search.strategies.fast_lstm import Recurrence, gate_factors

_TYPE = torch.float64
_NEVER = -1e9
"""Logit of a choice that a decision does not have: its probability is 0, and 0 times its logarithm is 0."""


class Controller(nn.Module):
    """A one-layer LSTM with one softmax for each decision; each decision is embedded and fed to the next step.

    Step t reads the embedding of decision t-1 (a learned vector at t = 0) and gives the logits of decision t. The joint
    probability of a sequence is the product over its T softmaxes; the normal cell comes first, the reduction cell goes
    on in the same sequence. Every position has its own softmax and its own embeddings.

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
    _gate_factors: Tensor  # (4H,)

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
        self.register_buffer("_gate_factors", gate_factors(hidden, _TYPE), persistent=False)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -init_range, init_range, generator=generator)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw decision sequences.

        Args:
            count: D, sequences to draw.
            generator: Everything random is drawn from it.

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
