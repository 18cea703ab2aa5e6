"""What a trained model is judged by, on held-out clips."""
