"""Training of one classifier: pixels -> tensors -> augmentation -> model -> metrics."""
