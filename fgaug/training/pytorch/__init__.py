"""The PyTorch backend: networks, augmentation, learning-rate schedule and fine-tuning."""
