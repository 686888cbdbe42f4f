"""The laboratory: networks with binary layers, their data, their training, their gradients."""
