"""What several tests share: inputs, small models, runs and data sets, and ways to start things."""
