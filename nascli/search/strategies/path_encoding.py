"""Features of genotypes as a matrix: the numbers in which a surrogate sees them."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Features = Mapping[tuple[str, ...], float]
Floats = npt.NDArray[np.float64]


def tabulated(features: Sequence[Features]) -> Floats:
    """The counts as a matrix: a row per genotype, a column per feature that any of them has, in fixed order."""
    columns = {feature: place for place, feature in enumerate(sorted({name for each in features for name in each}))}
    counts = np.zeros((len(features), len(columns)))
    for row, each in zip(counts, features, strict=True):
        for feature, count in each.items():
            row[columns[feature]] = count
    return counts
