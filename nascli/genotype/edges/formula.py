"""A cell of edges as a formula: its canonical form, and the features of the Gaussian process.

A node is the sum of what its edges bring. So a cell is a sum of terms, each of which is the input, a convolution of
another such sum, or its pool. Three things do not change it: edges that carry nothing (`none`) or reach no output,
the numbers of nodes, and nodes that `skip_connect` hands on. Two convolutions of one sum stay two: they share no
weights. Two pools of one sum are one. (A sum is the same in any order, but for the rounding of its last digit.)
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from itertools import chain, permutations, product
from typing import NamedTuple

NONE, SKIP, POOL = "none", "skip_connect", "avg_pool_3x3"
CONVOLUTIONS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""Side of the kernel of each op with weights: ReLU, convolution, batch norm."""
OPS = (NONE, SKIP, *CONVOLUTIONS, POOL)

INNER_NODES = 3
"""Nodes behind the cell's input, which is node 0; the last is the cell's output."""
Nodes = tuple[tuple[str, ...], ...]
"""The op on the edge from node j to node k + 1 is `nodes[k][j]`."""
Edge = tuple[int, int]

_Term = int | tuple["_Term", ...]  # a convolution by its number, the pool of a sum, (), which is the input
_Sum = tuple[_Term, ...]
_INPUT: _Sum = ((),)


class _Convolution(NamedTuple):
    """An op with weights, and what it reads."""

    op: str
    read: _Sum


class Formula(NamedTuple):
    """The cell's output as a sum, which names convolutions by their places."""

    convolutions: tuple[_Convolution, ...]
    output: _Sum


def find_live_edges(nodes: Nodes) -> frozenset[Edge]:
    """The edges that lie on a way from the input to the output."""
    carrying = {(j, k): op for k, ops in enumerate(nodes, 1) for j, op in enumerate(ops) if op != NONE}
    reached, needed = {0}, {len(nodes)}
    for source, target in carrying:  # sorted by target
        reached |= {target} if source in reached else set()
    for source, target in reversed(carrying):
        needed |= {source} if target in needed else set()
    return frozenset(edge for edge in carrying if edge[0] in reached and edge[1] in needed)


def make_formula(nodes: Nodes) -> Formula:
    """The formula of a cell; its output is empty where no way leads from the input to it."""
    live = find_live_edges(nodes)
    convolutions: list[_Convolution] = []
    sums: list[_Sum] = [_INPUT]
    for node, ops in enumerate(nodes, 1):
        terms: list[_Term] = []
        for source, op in enumerate(ops):
            if (source, node) not in live:
                continue
            if op == SKIP:
                terms += sums[source]
            elif op == POOL:
                terms.append(sums[source])
            else:
                terms.append(len(convolutions))
                convolutions.append(_Convolution(op, sums[source]))
        sums.append(tuple(terms))
    return Formula(tuple(convolutions), sums[-1])


@lru_cache(maxsize=1 << 16)
def spell_formula(nodes: Nodes) -> str:
    """A text that is equal exactly for cells of the same formula, however their convolutions are numbered.

    Convolutions are numbered in the order of their own formulas, written out; among those that are written alike, in
    each order, and the smallest text counts.
    """
    formula = make_formula(nodes)
    written: list[str] = []
    for op, read in formula.convolutions:
        written.append(f"{op}({_spell(read, written.__getitem__)})")
    alike: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(written):
        alike[text].append(place)
    groups = (permutations(alike[text]) for text in sorted(alike))
    return min(_number(formula, tuple(chain.from_iterable(order))) for order in product(*groups))


def spell_nodes(formula: str) -> Nodes:
    """The cell of this formula with the most edges of `none`; of several the first in the order of `OPS`."""
    return _first_cells()[formula]


def formula_features(nodes: Nodes) -> Counter[tuple[str, ...]]:
    """Count of each op, of each op with the number of terms that it reads, and of each path from input to output."""
    formula = make_formula(nodes)
    found: Counter[tuple[str, ...]] = Counter()
    pools = {term for total in _all_sums(formula) for term in total if isinstance(term, tuple) and term}
    for op, read in (*formula.convolutions, *((POOL, pool) for pool in pools)):
        found["op", op] += 1
        found["reads", op, str(len(read))] += 1
    found.update(("path", *path) for path in _paths(formula, formula.output))
    return found


def _spell(total: _Sum, name: Callable[[int], str]) -> str:
    """A sum in words, its terms sorted."""
    words = (
        name(term) if isinstance(term, int) else f"{POOL}({_spell(term, name)})" if term else "x" for term in total
    )
    return "+".join(sorted(words))


def _number(formula: Formula, order: tuple[int, ...]) -> str:
    """The formula with its convolutions named by their places in an order."""
    names = {place: str(name) for name, place in enumerate(order)}
    defined = (formula.convolutions[place] for place in order)
    return "; ".join(
        [
            *(f"{op}({_spell(read, names.__getitem__)})" for op, read in defined),
            _spell(formula.output, names.__getitem__),
        ]
    )


@cache
def _first_cells() -> dict[str, Nodes]:
    found: dict[str, Nodes] = {}
    every = product(OPS, repeat=INNER_NODES * (INNER_NODES + 1) // 2)
    for ops in sorted(every, key=lambda ops: -ops.count(NONE)):
        nodes = shape_nodes(ops)
        found.setdefault(spell_formula(nodes), nodes)
    return found


def shape_nodes(ops: tuple[str, ...]) -> Nodes:
    """The ops of all edges, by target and then by source, as nodes."""
    return tuple(ops[k * (k + 1) // 2 : (k + 1) * (k + 2) // 2] for k in range(INNER_NODES))


def _all_sums(formula: Formula) -> Iterator[_Sum]:
    """The output, what each convolution reads, and what the pools in them read."""
    waiting = [formula.output, *(read for _, read in formula.convolutions)]
    while waiting:
        total = waiting.pop()
        yield total
        waiting += [term for term in total if isinstance(term, tuple) and term]


def _paths(formula: Formula, total: _Sum) -> Iterator[tuple[str, ...]]:
    """The ops from the input to a sum, one by one, along each way."""
    for term in total:
        if term == ():
            yield ()
            continue
        op, read = formula.convolutions[term] if isinstance(term, int) else (POOL, term)
        yield from ((*path, op) for path in _paths(formula, read))
