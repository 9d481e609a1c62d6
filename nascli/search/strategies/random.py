"""Random search: the baseline that stands beside every other strategy (paper, sections 3 and 4.4)."""

import random
import sys
from collections.abc import Mapping

from nascli.genotype.space import SearchSpace, draw_tokens
from nascli.search.strategies.strategy import Tokens
from nascli.seeding import derive_seed


class RandomSearch:
    """Draws each decision uniformly from its choices and learns nothing.

    Example:
        >>> from nascli.genotype.cells.space import ENAS
        >>> len(RandomSearch(ENAS, seed=0).ask())
        50
    """

    batch_size = sys.maxsize  # nothing it is told changes what it proposes
    diagnostics: Mapping[str, float] = {}

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._sizes = space.decision_sizes
        self._draw = random.Random(derive_seed(seed, "random"))

    def ask(self) -> Tokens:
        """A uniformly random decision sequence."""
        return draw_tokens(self._sizes, self._draw)

    def tell(self, tokens: Tokens, reward: float) -> None:
        """Ignored."""
