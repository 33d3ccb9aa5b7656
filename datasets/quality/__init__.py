"""What is wrong or lopsided in a data set, in words and pictures."""
