"""Training: one classifier, from pixels to metrics, in PyTorch or in Keras."""
