"""Classification: its task, measures of accuracy, predictions."""
