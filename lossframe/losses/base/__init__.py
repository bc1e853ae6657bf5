"""Base classes of losses: prepare inputs, check them, evaluate a formula, weigh, reduce and record its values."""
