"""What `status` and `logs` show: states, rows, text, the first cause of a failure."""
