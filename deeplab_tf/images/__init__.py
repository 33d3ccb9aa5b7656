"""Image and video files, and pictures of labels. Nothing here knows what a network is."""
