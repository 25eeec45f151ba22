"""Speech, noise and rooms that are made up: voices, a corpus of them, the demo."""
