"""Evaluates a trained DeepLabv2: see `python eval.py --help`, and deeplab_tf/commands/eval.py."""

from deeplab_tf.commands.eval import command

if __name__ == "__main__":
    command()
