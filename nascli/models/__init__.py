"""Networks from genotypes: primitives, operations, the generic cell, the macro network, cost."""
