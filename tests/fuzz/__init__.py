"""Damaged input for everything that reads bytes or flags.

    damage.py    makes damaged input from sound input, by a `random.Random`
    targets.py   what is read, the sound input, and what counts as right
    __main__.py  one target for as long as is asked: `make fuzz TARGET=image SECONDS=600`

`tests/test_damaged_input.py` runs a few cases of every target by hypothesis, with each run of the tests.
"""
