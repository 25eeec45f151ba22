"""The subcommands of `python -m eval`, one a file; without one, a checkpoint is evaluated on trials."""

# Imported only when asked for: name → what it does, in `eval.commands.NAME` with a `main` and a `parser`.
COMMANDS: dict[str, str] = {
    "embed": "embeddings of shards, a folder or a list of files, into a file",
    "verify": "whether two recordings are of one speaker",
    "identify": "which speaker of a folder a recording is of",
    "calibrate": "fit, on a held-out list, what makes log-likelihood ratios of scores",
    "audit": "find utterances that are probably mislabelled, and speakers who are there twice",
    "compare": "put evaluations of one list side by side",
}
