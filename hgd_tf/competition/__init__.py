"""The NIPS 2017 competition's formats: its tables, its attacks' directories."""
