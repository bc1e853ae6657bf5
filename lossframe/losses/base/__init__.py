"""The contract of a loss: inputs, checks, values, weights, reduction, recording."""
