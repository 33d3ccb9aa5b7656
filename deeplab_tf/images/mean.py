"""The mean of the ImageNet images: what the Caffe networks subtract, and what images are padded with for them."""

MEAN_RGB = (122.675, 116.669, 104.008)
"""Levels 0..255."""
