"""What tabs are made of: controls, answer cards, drawings, curves, styles. Nothing here knows a model."""
