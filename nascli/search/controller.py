"""The controller: an LSTM policy that emits decision sequences.

Letters: D sequences, T = 10B decisions in each, K choices of the widest decision, H hidden units.

It computes in float64. That costs little at this size, and makes a proposal practically independent of the machine:
a drawn token would have to lie within rounding of a border between two choices to come out otherwise elsewhere.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TYPE = torch.float64


class Controller(nn.Module):
    """A one-layer LSTM with one softmax for each decision; each decision is embedded and fed to the next step.

    Step t reads the embedding of decision t-1 (a learnt vector at t = 0) and gives the logits of decision t. The joint
    probability of a sequence is the product over its T softmaxes; the normal cell comes first, the reduction cell goes
    on in the same sequence. Every position has its own softmax and its own embeddings.

    Args:
        sizes: How many choices each decision has, `SearchSpace.decision_sizes`.
        hidden: H, units of the LSTM; also the width of an embedding.
        init_range: Every weight starts uniform in plus or minus this.
        generator: Draws the first weights.

    References:
        Zoph et al. 2018, section 3 and appendix A.2 (H = 100, range 0.1).

    Deviation:
        The paper says nothing about embeddings; a table for each position is the choice that assumes least.
    """

    _wrong: Tensor  # (T, K), true where decision t has no choice k

    def __init__(self, sizes: Sequence[int], hidden: int, init_range: float, generator: torch.Generator) -> None:
        super().__init__()
        steps, widest = len(sizes), max(sizes)
        self.sizes = tuple(sizes)
        self.hidden = hidden
        self.first = nn.Parameter(torch.empty(hidden, dtype=_TYPE))
        self.embeddings = nn.Parameter(torch.empty(steps - 1, widest, hidden, dtype=_TYPE))
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True, dtype=_TYPE, device="meta").to_empty(device="cpu")
        self.weights = nn.Parameter(torch.empty(steps, widest, hidden, dtype=_TYPE))
        self.biases = nn.Parameter(torch.empty(steps, widest, dtype=_TYPE))
        self.register_buffer("_wrong", torch.arange(widest) >= torch.tensor(self.sizes)[:, None])
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -init_range, init_range, generator=generator)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw decision sequences.

        Args:
            count: D.
            generator: Everything random is drawn from it.

        Returns:
            The tokens, (D, T) integers, and the log-probability of each at its step, (D, T).
        """
        draws = torch.rand(len(self.sizes), count, 1, dtype=_TYPE, generator=generator)
        from_seen, from_state, bias_seen, bias_state = self.lstm.all_weights[0]
        both = torch.cat((from_seen, from_state), dim=1).T  # (2H, 4H)
        bias = bias_seen + bias_state
        seen = self.first.expand(count, -1)  # (D, H)
        state = memory = seen.new_zeros(count, self.hidden)
        tokens, log_probs = [], []
        for step, size in enumerate(self.sizes):
            gates = torch.addmm(bias, torch.cat((seen, state), dim=1), both)  # (D, 4H), in PyTorch's order i f g o
            keep_in, keep, new, out = gates.chunk(4, dim=1)
            memory = keep.sigmoid() * memory + keep_in.sigmoid() * new.tanh()
            state = out.sigmoid() * memory.tanh()
            log_prob = F.linear(state, self.weights[step, :size], self.biases[step, :size]).log_softmax(dim=1)
            borders = log_prob.exp().cumsum(dim=1)  # (D, size); the last is 1 but for rounding
            token = (draws[step] >= borders).sum(dim=1).clamp_(max=size - 1)  # (D,)
            tokens.append(token)
            log_probs.append(log_prob.gather(1, token[:, None]))
            if step < len(self.sizes) - 1:
                seen = self.embeddings[step, token]
        return torch.stack(tokens, dim=1), torch.cat(log_probs, dim=1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy at every step of given sequences, all in one pass.

        Args:
            tokens: (D, T) integers.

        Returns:
            The log-probability of each token given those before it, (D, T), and the entropy of its softmax in nats,
            (D, T).
        """
        steps = torch.arange(len(self.sizes) - 1)
        fed = self.embeddings[steps, tokens[:, :-1]]  # (D, T-1, H)
        fed = torch.cat((self.first.expand(len(tokens), 1, -1), fed), dim=1)  # (D, T, H)
        states, _ = self.lstm(fed)
        logits = torch.bmm(states.transpose(0, 1), self.weights.transpose(1, 2))  # (T, D, K)
        logits = (logits.transpose(0, 1) + self.biases).masked_fill(self._wrong, float("-inf"))  # (D, T, K)
        log_probs = logits.log_softmax(dim=2)
        entropies = -(log_probs.exp() * log_probs.masked_fill(self._wrong, 0.0)).sum(dim=2)
        return log_probs.gather(2, tokens[:, :, None]).squeeze(2), entropies
