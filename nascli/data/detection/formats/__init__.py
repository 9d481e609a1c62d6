"""The formats of boxes: COCO, YOLO, Pascal VOC, tables; all are read to COCO's three lists and checked alike."""
