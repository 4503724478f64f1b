"""Everything that knows a model's inside: loading, processing, the forward pass, tiny models."""
