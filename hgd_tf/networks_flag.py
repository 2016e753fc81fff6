"""The flag that says who plays the networks which appendix D names."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from hgd_tf.attacks.recipes import APPENDIX_D_NETWORKS

_NETWORKS = flags.DEFINE_list("networks", [], "Who plays appendix D's networks: IncV3=NAME,advV3=NAME,….")


def _are_pairs(values: Sequence[str]) -> bool:
    names = [name for name, _, network in (value.partition("=") for value in values) if network and "=" not in network]
    return len(names) == len(values) == len(set(names)) and set(names) <= set(APPENDIX_D_NETWORKS)


flags.register_validator(
    "networks",
    _are_pairs,
    f"expected NAME=NETWORK,NAME=NETWORK,… with some of {', '.join(APPENDIX_D_NETWORKS)}, each once",
)


def networks_from_flags() -> dict[str, str]:
    """By the names of appendix D, the names of the networks that play them."""
    return dict(pair.split("=") for pair in _NETWORKS.value)
