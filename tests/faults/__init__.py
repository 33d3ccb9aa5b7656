"""Faults from outside: commands that are killed, a full disk, lost rights, a clock that goes back, few descriptors.

commands.py  the commands, what they leave, and a process that starts them quickly
__main__.py  the faults: `make faults SECONDS=600`
"""
