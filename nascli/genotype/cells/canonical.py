"""Canonical form: two genotypes that build the same network have the same canonical hash.

Three things do not change the network: the order of the two branches of a block, the order of independent blocks,
and blocks that reach no output. (For a `concat` block and for the cell's output, order only permutes channels, which
the weights that follow undo.) A block used twice and two equal blocks are different: those share no weights.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nascli.genotype.cells.schema import CellSpec

_Branch = tuple[int, str]
_Block = tuple[tuple[_Branch, _Branch], str]
_Cell = tuple[tuple[_Block, ...], tuple[int, ...]]
_Names = tuple[tuple[int, int], ...]


def canonical_cell(cell: CellSpec) -> CellSpec:
    """The smallest spelling of a cell over all orders of branches and all valid orders of its live blocks.

    Blocks are placed one by one; at each place the one that spells smallest wins. Those that spell the same take their
    places together: it stays open which of them is in which, until a block that reads one of them is placed; the one
    that is read gets the first of those places then. Only where that can be several, all are tried. So the search is
    exact, and short where many blocks are equal.
    """
    return CellSpec.model_validate_json(json.dumps(canonical_values(cell)))


def canonical_values(cell: CellSpec) -> dict[str, Any]:
    """The JSON values of the canonical cell: for its hash, which a search takes of every genotype that it reads."""
    keys, concat = _smallest(cell)
    # a cell whose output is its inputs alone keeps one block, for the schema
    spelled = keys or ((((0, "identity"), (0, "identity")), "add"),)
    blocks = [{"inputs": [a[0], b[0]], "ops": [a[1], b[1]], "combine": combine} for (a, b), combine in spelled]
    return {"blocks": blocks, "concat": list(concat)}


class _Spelling(NamedTuple):
    """A cell that is spelled in part.

    Args:
        keys: The blocks that are placed, as they are spelled.
        waiting: The other blocks, by their states.
        names: The new names of states.
        open: Of each state whose name is open, the names that are left for it and its equals.
    """

    keys: tuple[_Block, ...]
    waiting: Mapping[int, _Block]
    names: Mapping[int, int]
    open: Mapping[int, tuple[int, ...]]

    def decide(self, chosen: _Names) -> "_Spelling":
        """This spelling with names for some of the open states."""
        if not chosen:
            return self
        taken = {name for _, name in chosen}
        left = {state: tuple(name for name in names if name not in taken) for state, names in self.open.items()}
        for state, _ in chosen:
            del left[state]
        return self._replace(names={**self.names, **dict(chosen)}, open=left)

    def place(self, states: Sequence[int], key: _Block) -> "_Spelling":
        """This spelling with blocks that are spelled `key` next; which of several has which name is open."""
        names = tuple(range(len(self.keys) + 2, len(self.keys) + 2 + len(states)))
        keys = (*self.keys, *[key] * len(states))
        waiting = {state: block for state, block in self.waiting.items() if state not in states}
        if len(states) == 1:
            return _Spelling(keys, waiting, {**self.names, states[0]: names[0]}, self.open)
        return _Spelling(keys, waiting, self.names, {**self.open, **dict.fromkeys(states, names)})

    def spell(self, block: _Block) -> list[tuple[_Block, _Names]]:
        """The smallest key of a block, with each choice of names for open states that gives it.

        Empty while it reads a state that waits. An open state has the first of its names in it; where it reads two
        of the same names, either can have the first.
        """
        ((i, a), (j, b)), combine = block
        names = self.names
        if i in names and j in names:
            return [(_spell((names[i], a), (names[j], b), combine), ())]
        if not (i in names or i in self.open) or not (j in names or j in self.open):
            return []
        chosen = {state: self.open[state][0] for state in (i, j) if state in self.open}
        choices = [chosen]
        if i != j and len(chosen) == 2 and chosen[i] == chosen[j]:
            first, second = self.open[i][:2]
            choices = [{i: first, j: second}, {i: second, j: first}]
        spelled = [
            (
                _spell(((each.get(i) or names[i]), a), ((each.get(j) or names[j]), b), combine),
                tuple(sorted(each.items())),
            )
            for each in choices
        ]
        smallest = min(key for key, _ in spelled)
        return [each for each in spelled if each[0] == smallest]


def _smallest(cell: CellSpec) -> _Cell:
    waiting: dict[int, _Block] = {}
    for state in sorted(cell.live - {0, 1}):
        block = cell.blocks[state - 2]
        one, other = zip(block.inputs, block.ops, strict=True)
        waiting[state] = (one, other), block.combine
    best: _Cell | None = None
    unfinished = [_place_first(waiting)]
    while unfinished:
        spelling = unfinished.pop()
        if best is not None and spelling.keys > best[0][: len(spelling.keys)]:
            continue
        if spelling.waiting:
            unfinished += _place_next(spelling, cell.concat)
            continue
        names = {name for each in spelling.open.values() for name in each}  # those of states that only the output reads
        names.update(spelling.names[state] for state in cell.concat if state in spelling.names)
        found = spelling.keys, tuple(sorted(names))
        best = found if best is None else min(best, found)
    assert best is not None
    return best


def _place_first(waiting: dict[int, _Block]) -> _Spelling:
    """The spelling up to the first place that several blocks could have: in most cells that is all of it."""
    keys: list[_Block] = []
    names = {0: 0, 1: 1}
    while waiting:
        spelled = sorted(
            (_spell((names[i], a), (names[j], b), combine), state)
            for state, (((i, a), (j, b)), combine) in waiting.items()
            if i in names and j in names
        )
        key, state = spelled[0]
        if len(spelled) > 1 and spelled[1][0] == key:
            break
        keys.append(key)
        names[state] = len(keys) + 1
        del waiting[state]
    return _Spelling(tuple(keys), waiting, names, {})


def _place_next(spelling: _Spelling, concat: Sequence[int]) -> Iterator[_Spelling]:
    """The spelling with its smallest next block or blocks: one for each choice that the rest of it could decide on."""
    spelled = [(*each, state) for state, block in spelling.waiting.items() for each in spelling.spell(block)]
    smallest = min(key for key, _, _ in spelled)
    equal: dict[_Names, list[int]] = {}
    for key, chosen, state in spelled:
        if key == smallest:
            equal.setdefault(chosen, []).append(state)
    for chosen, states in equal.items():
        decided = spelling.decide(chosen)
        if len(states) == 1 or not _has_reader_between(decided, states, smallest):
            yield decided.place(states, smallest)
        else:
            for place, state in enumerate(states):
                if not any(_are_twins(spelling, concat, state, other) for other in states[:place]):
                    yield decided.place([state], smallest)


def _has_reader_between(spelling: _Spelling, states: Sequence[int], key: _Block) -> bool:
    """Whether a block that reads one of equal blocks comes before the next of these."""
    for state in states:
        placed = spelling.place([state], key)
        for block in placed.waiting.values():
            if any(state == read for read, _ in block[0]) and any(found < key for found, _ in placed.spell(block)):
                return True
    return False


def _are_twins(spelling: _Spelling, concat: Sequence[int], first: int, second: int) -> bool:
    """Whether two blocks that are spelled the same are read in the same way, by blocks that wait and the output."""
    exchanged = {first: second, second: first}
    return (first in concat) == (second in concat) and all(
        sorted((exchanged.get(state, state), op) for state, op in branches) == sorted(branches)
        for branches, _ in spelling.waiting.values()
    )


def _spell(one: _Branch, other: _Branch, combine: str) -> _Block:
    return ((one, other) if one <= other else (other, one)), combine
