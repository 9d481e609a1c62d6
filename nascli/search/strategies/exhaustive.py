"""Exhaustive search: every network of a small space, each once."""

import itertools
import sys
from collections.abc import Iterator, Mapping

from nascli.genotype.space import SearchSpace
from nascli.search.strategies.strategy import Tokens


class ExhaustiveSearch:
    """Proposes one decision sequence of every canonical form, the smallest in lexicographic order, in that order.

    It needs no seed and learns nothing. The sequences are walked one by one, and the hash of each is kept: spaces
    of up to some million sequences are practical.

    Example:
        >>> from nascli.genotype.cells.space import CellSpace
        >>> space = CellSpace(name="toy", ops=("identity", "conv_1x1"), blocks=1, inputs="distinct", cells="one")
        >>> walk = ExhaustiveSearch(space)
        >>> sum(1 for _ in iter(walk.ask, None))
        4
    """

    batch_size = sys.maxsize  # nothing it is told changes what it proposes
    diagnostics: Mapping[str, float] = {}

    def __init__(self, space: SearchSpace) -> None:
        self._forms = _forms(space)

    def ask(self) -> Tokens | None:
        """The next sequence that builds a network not proposed before; None after the last."""
        return next(self._forms, None)

    def tell(self, tokens: Tokens, reward: float) -> None:
        """Ignored."""


def _forms(space: SearchSpace) -> Iterator[Tokens]:
    seen: set[str] = set()
    for tokens in itertools.product(*(range(size) for size in space.decision_sizes)):
        canonical_hash = space.decode(tokens).canonical_hash()
        if canonical_hash not in seen:
            seen.add(canonical_hash)
            yield tokens
