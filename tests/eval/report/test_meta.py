from __future__ import annotations

import pytest

from eval.report.evaluation import Person
from eval.report.meta import read_meta
from shard_tools.errors import UserError

HEAD = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"


def test_voxcelebs_file(tmp_path):
    path = tmp_path / "vox1_meta.csv"
    path.write_text(HEAD + "id10001\tA.J._Buckley\tm\tIreland\tdev\nid10002\tA.R._Rahman\tm\tIndia\tdev\n\n")
    assert read_meta(str(path)) == {"id10001": Person("m", "Ireland"), "id10002": Person("m", "India")}
    path.write_text("VoxCeleb2 ID \tVGGFace2 ID \tGender \tSet \nid00012 \tn000012 \tf \tdev \n")
    assert read_meta(str(path)) == {"id00012": Person("f", "unknown")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 names no columns"),
        ("a,b\n1,2\n", "line 1 names no columns"),
        (HEAD + "id1\tx\tm\n", "line 2: 3 fields, and line 1 has 5"),
        (HEAD + "id1\tx\tm\tUK\tdev\nid1\tx\tf\tUK\tdev\n", "line 3: id1 stands there twice"),
    ],
)
def test_other_files(tmp_path, text, said):
    (tmp_path / "meta").write_text(text)
    with pytest.raises(UserError, match=said):
        read_meta(str(tmp_path / "meta"))
