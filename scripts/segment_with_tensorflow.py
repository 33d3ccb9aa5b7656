"""Segments JPEG files with an exported model; needs TensorFlow and nothing of this project.

  python segment_with_tensorflow.py saved_model/1 PICTURES OUT

For each PICTURES/x.jpg it writes OUT/x.png, the picture beside its classes in colour, and prints the classes found.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")  # kernels are packed once, not at every image
import tensorflow as tf


def main(model_dir: str, pictures: str, out: str) -> None:
    """Loads the model once and answers for every picture."""
    model = tf.saved_model.load(model_dir)
    segment = model.signatures["serving_default"]
    dataset = json.loads(model.signatures["metadata"]()["config"].numpy())["dataset"]
    palette = tf.constant(dataset["palette"], tf.uint8)
    Path(out).mkdir(exist_ok=True)
    for path in sorted(Path(pictures).glob("*.jpg")):
        image = tf.io.decode_jpeg(path.read_bytes(), channels=3, dct_method="INTEGER_ACCURATE")
        labels = segment(images=image[tf.newaxis])["labels"][0]  # uint8 [H, W]
        found = [dataset["class_names"][label] for label in sorted(set(labels.numpy().ravel().tolist()))]
        print(f"{path.name}: {', '.join(found)}")
        beside = tf.concat([image, tf.gather(palette, tf.cast(labels, tf.int32))], axis=1)
        tf.io.write_file(str(Path(out) / f"{path.stem}.png"), tf.io.encode_png(beside))


if __name__ == "__main__":
    main(*sys.argv[1:])
