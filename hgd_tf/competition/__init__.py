"""The NIPS 2017 competition: its formats, its entries, and single runs of an attack or a defence."""
