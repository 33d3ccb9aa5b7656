"""Exports a trained DeepLabv2: see `python export.py --help`, and deeplab_tf/commands/export.py."""

from deeplab_tf.commands.export import command

if __name__ == "__main__":
    command()
