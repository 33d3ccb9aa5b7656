"""Networks for other programs: SavedModel, TensorFlow Lite, and loading them again."""
