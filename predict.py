"""Segments images and videos: see `python predict.py --help`, and deeplab_tf/commands/predict.py."""

from deeplab_tf.commands.predict import command

if __name__ == "__main__":
    command()
