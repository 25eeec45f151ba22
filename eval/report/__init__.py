"""What an evaluation leaves: metrics, scores, plots and the page."""
