"""Pure tensor functions: tensors and static settings in, tensors out, no variables."""
