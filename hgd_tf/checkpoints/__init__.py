"""Weights in the files of other programs: TensorFlow checkpoints, PyTorch state_dicts, published archives."""
