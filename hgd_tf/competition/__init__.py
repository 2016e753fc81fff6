"""The NIPS 2017 competition: its formats, its attacks' directories, running and packing a defence, a tournament."""
