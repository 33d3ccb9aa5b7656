"""Segments the pictures of a folder with an exported model; needs TensorFlow and nothing of this project.

  python segment_with_tensorflow.py exported/mine/saved_model/1 PICTURES OUT

For each JPEG or PNG, PICTURES/x.jpg, it writes OUT/x.jpg.png, the picture beside its classes in colour, and prints
the classes found. Files that it cannot read are listed at the end, and the status is then 1.
"""

import argparse
import json
import os
import sys
from pathlib import Path

SUFFIXES = {".jpg", ".jpeg", ".png"}


def main() -> int:
    """Loads the model once and runs it on every picture; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the folder that holds saved_model.pb")
    parser.add_argument("pictures", type=Path, help="a folder of JPEG and PNG files")
    parser.add_argument("out", type=Path, help="where the results go")
    values = parser.parse_args()
    if not (values.model / "saved_model.pb").is_file():
        parser.error(f"{values.model} has no saved_model.pb: name the folder that export.py wrote, OUT/saved_model/1")
    if not values.pictures.is_dir():
        parser.error(f"{values.pictures} is not a folder")
    files = sorted(path for path in values.pictures.iterdir() if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not pictures:
        parser.error(f"{values.pictures} holds no {', '.join(sorted(SUFFIXES))} file")

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")  # kernels are packed once, not at every image
    import tensorflow as tf

    model = tf.saved_model.load(str(values.model))
    segment = model.signatures["serving_default"]
    dataset = json.loads(model.signatures["metadata"]()["config"].numpy())["dataset"]
    palette = tf.constant(dataset["palette"], tf.uint8)
    values.out.mkdir(parents=True, exist_ok=True)
    failures = [f"{path}: neither JPEG nor PNG" for path in files if path not in pictures]
    for path in pictures:
        try:
            image = tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False)
            if tf.io.is_jpeg(path.read_bytes()):  # to the pixels that the model was trained on
                image = tf.io.decode_jpeg(path.read_bytes(), channels=3, dct_method="INTEGER_ACCURATE")
            labels = segment(images=image[tf.newaxis])["labels"][0]  # uint8 [H, W]
        except tf.errors.InvalidArgumentError as error:
            failures.append(f"{path}: {error.message.splitlines()[0]}")
            continue
        found = [dataset["class_names"][label] for label in sorted(set(labels.numpy().ravel().tolist()))]
        print(f"{path.name}: {', '.join(found)}")
        beside = tf.concat([image, tf.gather(palette, tf.cast(labels, tf.int32))], axis=1)
        tf.io.write_file(str(values.out / f"{path.name}.png"), tf.io.encode_png(beside))
    if failures:
        print(f"{len(failures)} of {len(files)} left out:", *failures, sep="\n", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
