"""Detection: a Faster R-CNN over any built network, trained and scored on COCO-format data."""
