"""The fully connected CRF (Sec. 3.3): mean field on a permutohedral lattice."""
