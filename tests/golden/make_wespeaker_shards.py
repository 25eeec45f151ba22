"""Regenerate wespeaker's shards from a checkout of it.

    git clone https://github.com/wenet-e2e/wespeaker
    python tests/golden/make_wespeaker_shards.py wespeaker

Its own tools/make_shard_list.py packs the utterances of wespeaker_recipe.py, with keys as its VoxCeleb
recipes give them, and what it wrote lies in wespeaker_shards. Contains none of wespeaker's code.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile
from wespeaker_recipe import FOLDER, VOICED, utterances


def main() -> None:
    """Write the audio, its lists as Kaldi has them, and have the tool pack them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wespeaker", type=Path, help="folder of a checkout of wespeaker")
    tool = parser.parse_args().wespeaker.resolve() / "tools" / "make_shard_list.py"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places, speakers = [], []
        for key, samples in utterances().items():
            path = folder / "audio" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, 16000, subtype="PCM_16")
            places.append(f"{key} {path}\n")
            speakers.append(f"{key} {key.split('/')[0]}\n")
        (folder / "wav.scp").write_text("".join(places))
        (folder / "utt2spk").write_text("".join(speakers))
        (folder / "vad").write_text("".join(f"x {key} {begin} {end}\n" for key, begin, end in VOICED))
        lists = [str(folder / name) for name in ("wav.scp", "utt2spk")]
        options = ["--num_utts_per_shard", "4", "--shuffle", "--vad_file", str(folder / "vad")]
        command = [sys.executable, str(tool), *options, *lists, str(FOLDER), str(folder / "shard.list")]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
