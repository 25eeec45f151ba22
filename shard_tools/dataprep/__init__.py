"""From published archives to audio and lists: download, join, extract, convert. The command is `dataprep`."""
