"""What make-shards --help and each command's --help say, and their examples."""

from __future__ import annotations

EXAMPLES = """\
Examples:
  make-shards pack voxceleb2/wav s3://bucket/vox2 --list lists/train_list.txt --workers 16
  make-shards info s3://bucket/vox2
  make-shards verify s3://bucket/vox2 --workers 16
  make-shards index s3://bucket/their-tars
"""

PACK = """\
Pack the audio below folder ROOT into WebDataset shards at URL, each with an index, and a manifest.json,
which is published last. Accepted is 16 kHz, mono, 16-bit WAV or FLAC; --convert makes other audio so.
The same list and options give the same bytes, whatever --workers. A pack that was interrupted is
finished by running the same command again: shards that are whole are kept.

--convert takes whatever libsndfile decodes, at 4 to 768 kHz, and, where PyAV is installed
(pip install 'voxshard[prep]'), m4a and what else FFmpeg decodes; without a list, files of all usual
extensions below ROOT. Streams that do not say how long they are are read to their end. Samples beyond full
scale are cut off there, counted and said. Refused, with it or without, are files that are cut short, whose
header contradicts itself, whose FLAC header has not the MD5 or the length of the audio, or whose float
samples have another scale than 1.

ROOT may be a ZIP archive, or a folder in one (a.zip/b/c): its members are read where they lie, and nothing is
unpacked onto the disk. Folders around all of its audio that are no speakers' (dev, aac, wav …) are passed.
It may be a tar too, or a folder that holds tars alone, such as shards that others made: their speakers are
found as make-shards index finds them, in KEY.json, KEY.spk or the first folder of KEY.

--drop, --min-seconds, --max-seconds, --duplicates and --min-utterances leave utterances out, in this order:
those that a file names, those of another length, then those whose audio an earlier one of the list has, then
speakers with too few left. Lengths are what headers say, or decoding tells where they say nothing. Audio is
the same where its samples are, be it WAV or FLAC; of files that --convert decodes, where their bytes are.
--statistics counts the utterances that are silent or clipped. What --drop names is not looked at. All of it
is said at the end, and stands beside the manifest in pack-selection.json and pack-left-out.tsv. Of the
manifest and the shards, the same list, files and options give the same bytes with these, too.

--append adds the list to the dataset at URL. What is there stays as it is: new shards come after the old
ones, new speakers' labels after the old speakers', who may get more utterances; the manifest is replaced
when all is there, and where the count of an old speaker's utterances changed, a shard gets a second index
under another name. Other shards are another training set: training does not go on from a checkpoint, but
begins with its weights by init.from. Of --min-utterances an old speaker's utterances count too; --duplicates
looks for them in the list alone, not in the dataset's audio. --format, --utterances-per-shard, --group and
--seed are the dataset's unless given. It is not what one pack of both lists would make: a new shard holds
none but new utterances.

With --part I/N it makes one of N parts of the same shards and no manifest; each part reads its own
files alone. Parts may run at the same time, on any machines that reach ROOT and URL; give all of them
the same list and options, and afterwards run make-shards merge. With --list no part has to walk ROOT.
"""

PACK_EXAMPLES = """\
Examples:
  # every .wav and .flac below voxceleb2/wav (hidden ones apart); the speaker is the first folder
  make-shards pack voxceleb2/wav shards/vox2 --workers 8

  # what a list names: lines of "speaker relative/path.wav"
  make-shards pack voxceleb2/wav s3://bucket/vox2 --list lists/train_list.txt --workers 8

  # noise, music or impulse responses: the speaker is the category; half the bytes as FLAC
  make-shards pack musan shards/musan --format flac

  # a flat folder of noise: all of one category
  make-shards pack noise shards/noise --speaker noise

  # 8 kHz telephone speech, stereo, 24 bits: made to fit
  make-shards pack calls shards/calls --convert

  # VoxCeleb2 as it was extracted, AAC in m4a: no WAVs on the disk
  make-shards pack voxceleb2/dev/aac s3://bucket/vox2 --convert --format flac --workers 8

  # VoxCeleb2 as it was downloaded
  make-shards pack vox2_dev_aac.zip s3://bucket/vox2 --convert --workers 8

  # WebDataset shards that hold mp3
  make-shards pack their-tars shards/theirs --convert

  # without what is too short or there twice, and speakers of whom no pair can be made
  make-shards pack voxceleb2/wav shards/vox2 --min-seconds 2 --duplicates drop --min-utterances 2

  # VoxCeleb1 after VoxCeleb2: its speakers' labels follow
  make-shards pack voxceleb1/wav shards/vox2 --append

  # as a SLURM array of 16 tasks, and the merging when all have succeeded
  job=$(sbatch --parsable --array=1-16 --cpus-per-task=8 --wrap 'make-shards pack voxceleb2/wav \\
      s3://bucket/vox2 --list lists/train_list.txt --part $SLURM_ARRAY_TASK_ID/16 --workers 8')
  sbatch --dependency=afterok:$job --wrap 'make-shards merge s3://bucket/vox2'
"""

SELECT = """\
Write the list of what make-shards pack with the same options would pack, of --list or of all audio below
ROOT. To choose by length, duplicates or statistics takes a look at all files, which the parts of a pack do
not: they are given this list. OUT.json tells what was chosen, and OUT.left-out.tsv what was left out.
"""

SELECT_EXAMPLES = """\
Examples:
  make-shards select voxceleb2/wav kept.txt --list lists/train_list.txt --min-seconds 2 --duplicates drop
  make-shards pack voxceleb2/wav s3://bucket/vox2 --list kept.txt --part 1/16
"""

MERGE = """\
Make one dataset of the shards that make-shards pack --part I/N left at URL: check that no part is
missing, publish manifest.json, and remove the parts' records. All files are then those that one pack
without --part would have made, to the byte. The shards are not read again. Where parts are missing, or
were packed from another list or with other options, the message names them and the command that packs
them. Files that parts refused are listed; the exit status is then 1, as for pack.
"""

MERGE_EXAMPLES = """\
Examples:
  make-shards pack voxceleb2/wav shards/vox2 --part 1/2      # on one machine
  make-shards pack voxceleb2/wav shards/vox2 --part 2/2      # on another
  make-shards merge shards/vox2
"""

INDEX = """\
Index WebDataset tars that someone else made: write an index beside each .tar directly below URL, and a
manifest.json. Samples are KEY.wav or KEY.flac (16 kHz, mono, 16-bit). The tars are not touched. What
cannot be indexed is listed, and then nothing is written: audio of another kind (make-shards pack --convert
makes shards of such tars), links and sparse members instead of audio, two samples of one key, a tar that
cannot be read from its first header to the blocks that end it. Members that are no audio (README, ._*,
.DS_Store, .txt …) are passed over, and counted.

The speaker is "speaker" in KEY.json (a text or a whole number), or the text of KEY.spk, or else the first
folder of KEY. Where these disagree, or the speaker seems to stand elsewhere, the sample is refused, and
--speaker-from HOW tells:
  folder          the first folder of the key
  json:FIELD      a field of KEY.json; a.b is field b of object a
  member:EXT      the text of KEY.EXT, as in member:spk or member:cls
  key:PATTERN     the group of a regular expression that is searched in the key
  name:NAME       all are of this one, as in a tar of noise
A key is a member's name without its extension; a leading "./", "/" or "../" is no part of it, and other
dots in its last part become "_".
"""

VERIFY = """\
Read everything that the manifest at URL promises: SHA-256 of every shard and index, CRC-32 of every
block, and every utterance: it lies where its index says, decodes, and agrees with its JSON. Whatever is
wrong is listed, one a line, and the exit status is then 1.

--repair ROOT packs bad and missing shards and indexes again, from the audio below ROOT and with the --list or
--speaker that the set was packed with; the options stand in the manifest. Only files of bad shards are read.
A shard is put into place when it is made to its end and is the one that the manifest promises, to the byte.
Where it is another one, the file that has changed is named, the shard stays as it is, and the exit status is
1. A repair that was interrupted is finished by running it again. Tars that others made, which make-shards
index described, cannot be repaired: fetch them anew.

--json prints the same for programs: {"url", "whole", "utterances", "bytes", "problems": [of shards together],
"shards": [{"shard", "index", "state": "whole", "damaged", "missing", "repaired" or "unrepaired", "problems",
"missing": [files], "repaired": [files], "unrepaired": why}]}.
"""

INFO_EXAMPLES = """\
Examples:
  make-shards info shards/vox2
  make-shards info s3://bucket/vox2 --json
  make-shards info s3://bucket/vox2 --plot vox2.png
"""

VERIFY_EXAMPLES = """\
Examples:
  make-shards verify s3://bucket/vox2 --workers 16

  # put back what a broken disk or a careless hand took
  make-shards verify shards/vox2 --repair voxceleb2/wav --list lists/train_list.txt

  # which shards are not whole, for a script
  make-shards verify shards/vox2 --json | jq -r '.shards[] | select(.state != "whole") | .shard'
"""

INDEX_EXAMPLES = """\
Examples:
  make-shards index s3://bucket/their-tars

  # KEY.json holds {"meta": {"speaker_id": 17}}
  make-shards index their-tars --speaker-from json:meta.speaker_id

  # keys such as train/id00012/video/00001
  make-shards index their-tars --speaker-from 'key:^train/([^/]+)/'
"""
