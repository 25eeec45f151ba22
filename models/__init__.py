"""Networks by name, and what they are made of: front-ends, poolings, blocks."""

from models.registry import ModelError, build_network, network_names, network_options

__all__ = ["ModelError", "build_network", "network_names", "network_options"]
