"""Networks in and out: what there are, others' weights to checkpoints of ours, checkpoints to ONNX."""
