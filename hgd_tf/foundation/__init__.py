"""What every room stands on: both stacks, TensorFlow without its noise, pixels, descriptions, files of the root."""
