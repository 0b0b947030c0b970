"""What tabs are made of: controls, answer cards, drawings, curves, styles; they show what `service` found."""
