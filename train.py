"""Trains a DeepLabv2, or resumes: see `python train.py --help`, and deeplab_tf/commands/train.py."""

from deeplab_tf.commands.train import command

if __name__ == "__main__":
    command()
