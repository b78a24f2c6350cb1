"""The PyTorch backend: networks, augmentation, schedule and fine-tuning."""
