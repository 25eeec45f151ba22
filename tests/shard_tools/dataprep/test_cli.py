"""dataprep as one types it, in this process; and TLS."""

from __future__ import annotations

import datetime
import ipaddress
import ssl

import pytest
from archives import md5, tar_of, zip_of
from file_lists import write_lists
from file_server import serving

from shard_tools.dataprep.cli import main

FILES = {
    "vox1_dev_wav_partaa": zip_of({"wav/id10001/x/00001.wav": b"dev"}),
    "vox1_test_wav.zip": zip_of({"wav/id10270/x/00001.wav": b"test"}),
}
OPEN = {"musan.tar.gz": tar_of({"musan/noise/a.wav": b"noise"})}


@pytest.fixture
def folder(tmp_path):
    [dev, test] = (md5(data) for data in FILES.values())
    write_lists(
        tmp_path / "given",
        f"vox1_dev_wav_partaa {dev}\r\nvox1_test_wav.zip\t{test}\r\n",
        f"\ufeffvox1_dev_wav_part* vox1_dev_wav.zip {dev}\n",
    )
    return tmp_path


def options(folder) -> list[str]:
    return ["--save_path", str(folder / "my data"), "--lists", str(folder / "given")]


def test_from_an_account_to_audio(folder, capsys):
    """As the VoxCeleb trainer's README has it: user and password, and --save_path with an underscore."""
    where = options(folder)
    with serving({**FILES, **OPEN}, login=("me", "word")) as server, serving(OPEN) as public:
        (folder / "given/augment.txt").write_text(f"{public.url}/17/musan.tar.gz {md5(OPEN['musan.tar.gz'])}")
        mirror = ["--mirror", server.url, "--user", "me"]
        assert main(["download", *where, *mirror, "--password", "word"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{folder}/my data: 3 files complete: 3 completed now (")
    assert main(["concatenate", *where]) == 0
    assert "1 archive joined" in capsys.readouterr().out
    assert main(["extract", *where]) == 0
    assert "3 archives extracted (3 files), 0 before" in capsys.readouterr().out
    assert (folder / "my data/voxceleb1/wav/id10001/x/00001.wav").read_bytes() == b"dev"
    assert (folder / "my data/voxceleb1/test/wav/id10270/x/00001.wav").read_bytes() == b"test"
    assert (folder / "my data/musan/noise/a.wav").read_bytes() == b"noise"
    # All of it again: nothing to do, and no server to ask.
    assert main(["download", *where, "--mirror", "http://127.0.0.1:9"]) == 0
    assert "3 files complete: 0 completed now" in capsys.readouterr().out
    assert main(["extract", *where]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["download", "--user", "me", "--password", "wrong"], "401: does not accept --user and --password"),
        (["download"], "401: asks who you are; give --user and --password, or --key"),
        (["download", "--only", "vox3"], "--only vox3: matches no listed file"),
        (["download", "--user", "me", "--key", "k"], "two ways to say who asks"),
        (
            ["concatenate", "--only", "vox1_dev_wav.zip"],
            "vox1_dev_wav_partaa is not there; dataprep download",
        ),
        (["concatenate"], "holds no parts of archives"),
        (["extract"], "holds none of the listed archives"),
    ],
)
def test_mistakes_are_one_line(folder, words, said, capsys):
    with serving(FILES, login=("me", "word")) as server:
        mirror = ["--mirror", server.url] if words[0] == "download" else []
        assert main([*words, *options(folder), *mirror]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("dataprep: error: ")
    assert said in error


def test_without_a_command(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def certificate(folder) -> str:
    """Of 127.0.0.1, signed by itself: a file with its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return str(path)


@pytest.mark.slow
def test_certificates_are_verified(folder, capsys, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = certificate(folder)
    context.load_cert_chain(path)
    with serving(FILES, login=("me", "word"), tls=context) as server:
        words = ["download", *options(folder), "--mirror", server.url, "--user", "me", "--password", "word"]
        assert main(words) == 1
        assert "its TLS certificate cannot be verified" in capsys.readouterr().err
        assert server.seen == []  # nor was the password sent
        assert main([*words, "--insecure", "--only", "vox1_test_wav.zip"]) == 0
        assert "warning: --insecure: certificates are not verified" in capsys.readouterr().err
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", path)
        assert main(words) == 0
        assert "2 files complete: 1 completed now" in capsys.readouterr().out
