"""Training: trains one classifier, from pixels to metrics, in PyTorch or Keras."""
