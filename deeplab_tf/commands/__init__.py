"""The commands, and the Python functions that do what they do: flags and wiring, on top of everything else.

Here alone the model meets the data sets, through `data_sets`.
"""
