"""Training (Sec. 4): loss, solver, the loop, checkpoints and what the user sees of it."""
