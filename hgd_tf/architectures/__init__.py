"""Networks' definitions, without weights: one file an architecture family, and the layers that Keras lacks."""
