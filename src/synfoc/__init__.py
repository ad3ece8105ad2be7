"""synfoc: a foundation model and a U-Net segment medical images with few labels."""
