"""Faster R-CNN, feature pyramids and RetinaNet over torchvision, and the backbones under them."""
