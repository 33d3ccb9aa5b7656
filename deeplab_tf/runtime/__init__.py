"""The program and its machine: files, memory, devices, threads, progress. Nothing here knows what a network is."""
