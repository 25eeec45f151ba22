"""Who asks where: what botocore finds in the environment and in files is what obstore is told."""

from __future__ import annotations

import datetime
import sys
import uuid
from types import SimpleNamespace

import pytest
import seaweedfs
from botocore.exceptions import NoCredentialsError, ProfileNotFound
from s3_settings import forget_clients, make_bucket

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.storage import StorageError, StoragePolicy
from shard_tools.storage.backends import aws, choose, place_at
from shard_tools.storage.backends.obstore import ObstorePlace

NEXT = f"aws_access_key_id = {seaweedfs.NEXT_KEY}\naws_secret_access_key = {seaweedfs.NEXT_SECRET}\n"
KEYS = f"aws_access_key_id = {seaweedfs.ACCESS_KEY}\naws_secret_access_key = {seaweedfs.SECRET_KEY}\n"


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """An environment without credentials; writes ~/.aws/config and ~/.aws/credentials as they are given."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setattr(aws, "_region_of", lambda client, bucket: None)

    def write(config="", credentials=""):
        (tmp_path / "config").write_text(config)
        (tmp_path / "credentials").write_text(credentials)
        return monkeypatch

    return write


def found(name="bucket", **options):
    bucket = aws.find_bucket(name, options)
    assert bucket is not None
    return bucket


def test_endpoint_and_region_of_a_profile(alone):
    alone(
        "[profile near]\nregion = eu-west-1\nservices = local\n"
        "[services local]\ns3 =\n  endpoint_url = http://127.0.0.1:9000/sub\n",
        f"[near]\n{KEYS}",
    ).setenv("AWS_PROFILE", "near")
    bucket = found()
    assert (bucket.endpoint, bucket.virtual, bucket.region) == (
        "http://127.0.0.1:9000/sub",
        False,
        "eu-west-1",
    )
    assert bucket.credentials()["access_key_id"] == seaweedfs.ACCESS_KEY
    assert bucket.credentials()["expires_at"] is None


def test_buckets_of_aws(alone):
    alone("[default]\nregion = eu-central-1\n", f"[default]\n{KEYS}")
    bucket = found()
    assert (bucket.endpoint, bucket.virtual) == ("https://bucket.s3.eu-central-1.amazonaws.com", True)
    dotted = found("a.dotted.bucket")  # no certificate is good for its name
    assert (dotted.endpoint, dotted.virtual) == ("https://s3.eu-central-1.amazonaws.com", False)


def test_a_bucket_in_another_region(alone):
    patch = alone("[default]\nregion = eu-central-1\n", f"[default]\n{KEYS}")
    patch.setattr(aws, "_region_of", lambda client, bucket: "us-west-2")
    assert found().endpoint == "https://bucket.s3.us-west-2.amazonaws.com"
    assert found().region == "us-west-2"


def test_fsspecs_settings(alone):
    alone()
    assert found(anon=True).credentials is None
    assert found(anon="true").credentials is None
    assert found(anon=True, requester_pays="true").requester_pays
    assert found(key="a", secret="b", endpoint_url="http://here:1").endpoint == "http://here:1"
    assert aws.find_bucket("bucket", {"client_kwargs": {"verify": False}}) is None


@pytest.mark.parametrize("name", ["arn:aws:s3:eu-west-1:1:accesspoint", "near--use1-az4--x-s3"])
def test_what_s3fs_alone_knows(alone, name):
    alone()
    assert aws.find_bucket(name, {"anon": True}) is None


def test_none_and_wrong_credentials(alone):
    patch = alone()
    with pytest.raises(NoCredentialsError):
        found()
    patch.setenv("AWS_PROFILE", "none")
    with pytest.raises(ProfileNotFound):
        found()


def test_ca_bundle(alone, tmp_path):
    (tmp_path / "ca.pem").write_text("certificates")
    patch = alone()
    patch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    assert found(anon=True).ca_bundle == b"certificates"
    patch.delenv("AWS_CA_BUNDLE")
    patch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))  # botocore's, too
    assert found(anon=True).ca_bundle == b"certificates"
    patch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(UserError, match=r"none\.pem: No such file or directory; AWS_CA_BUNDLE"):
        found(anon=True)


def test_credentials_that_end_are_asked_for_twice_a_minute():
    keys = iter(range(9))
    refreshing = SimpleNamespace(
        refresh_needed=None,
        get_frozen_credentials=lambda: SimpleNamespace(
            access_key=f"k{next(keys)}", secret_key="s", token="t"
        ),
    )
    provider = aws.CredentialProvider(refreshing)
    assert [provider()["access_key_id"] for _ in range(2)] == ["k0", "k1"]
    left = provider()["expires_at"] - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(minutes=5, seconds=20) < left < datetime.timedelta(minutes=5, seconds=31)


@pytest.fixture
def written(s3_folder):
    """The URL of an object on a store that checks signatures, and the store's address."""
    place_at(f"{s3_folder}/x").write(b"0123456789")
    forget_clients()
    return f"{s3_folder}/x"


def read(url):
    assert isinstance(place_at(url), ObstorePlace)
    return bytes(storage.read_range(url, 2, 5, 10))


@pytest.mark.s3
@pytest.mark.slow
def test_a_profile_with_its_endpoint(written, s3_endpoint, alone):
    alone(f"[profile lab]\nregion = us-east-1\nendpoint_url = {s3_endpoint}\n", f"[lab]\n{KEYS}").setenv(
        "AWS_PROFILE", "lab"
    )
    assert read(written) == b"234"


@pytest.mark.s3
@pytest.mark.slow
def test_a_process(written, s3_endpoint, alone, tmp_path):
    program = tmp_path / "process.py"
    program.write_text(
        "import datetime, json\n"
        "ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)\n"
        f"open({str(tmp_path / 'asked')!r}, 'a').write('x')\n"
        f"said = {{'Version': 1, 'AccessKeyId': {seaweedfs.ACCESS_KEY!r}, 'Expiration': ends.isoformat()}}\n"
        f"print(json.dumps(said | {{'SecretAccessKey': {seaweedfs.SECRET_KEY!r}}}))\n"
    )
    alone(
        f"[default]\nregion = us-east-1\nendpoint_url = {s3_endpoint}\n"
        f"credential_process = {sys.executable} {program}\n"
    )
    assert read(written) == b"234"
    assert (tmp_path / "asked").read_text()


@pytest.mark.s3
@pytest.mark.slow
def test_what_is_in_the_environment_is_refused(written, monkeypatch, storage_policy):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"does not accept the AWS credentials \(SignatureDoesNotMatch\)"):
        read(written)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.SECRET_KEY)
    assert read(written) == b"234"  # as in a notebook, whose process goes on
    monkeypatch.setattr("fsspec.config.conf", {"s3": {"anon": True}})
    forget_clients()
    with pytest.raises(StorageError, match=r"access refused \(AccessDenied\)"):
        read(written)


@pytest.mark.s3
@pytest.mark.slow
def test_what_expires_in_mid_run_is_looked_up_anew(written, faulty_s3, alone, storage_policy):
    """As where a file is written anew while the run goes on."""
    storage_policy(StoragePolicy(first_wait_s=0.01))
    config = f"[default]\nregion = us-east-1\nendpoint_url = {faulty_s3.endpoint}\n"
    alone(config, f"[default]\n{KEYS}")
    assert read(written) == b"234"
    faulty_s3.expired = f"Credential={seaweedfs.ACCESS_KEY}/"
    with pytest.raises(StorageError, match=r"does not accept the AWS credentials \(ExpiredToken\)"):
        read(written)
    alone(config, f"[default]\n{NEXT}")
    assert read(written) == b"234"
    faulty_s3.expired = f"Credential={seaweedfs.NEXT_KEY}/"
    alone(config, f"[default]\n{KEYS}")
    assert read(written) == b"234"  # refused once, and then not
    faulty_s3.expired = f"Credential={seaweedfs.ACCESS_KEY}/"
    alone(config, "[default]\naws_access_key_id = another\naws_secret_access_key = secret\n")
    with pytest.raises(StorageError, match=r"InvalidAccessKeyId"):  # the new one is what the store was told
        read(written)


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.parametrize("obstore", [True, False])
def test_what_was_set_right_is_heeded_by_who_writes(written, monkeypatch, alone, s3_endpoint, obstore):
    monkeypatch.setattr(choose, "may_use", lambda: obstore)
    alone(f"[default]\nregion = us-east-1\nendpoint_url = {s3_endpoint}\n")
    with pytest.raises(StorageError, match="no AWS credentials"):
        storage.publish_bytes(written, b"0123456789")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="SignatureDoesNotMatch"):
        storage.publish_bytes(written, b"0123456789")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.SECRET_KEY)
    storage.publish_bytes(written, b"0123456789")


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.parametrize("obstore", [True, False])
def test_what_is_written_after_they_expired_is_signed_anew(
    written, faulty_s3, alone, storage_policy, monkeypatch, obstore
):
    """Writing, which may be that of a checkpoint, is s3fs's whoever reads."""
    monkeypatch.setattr(choose, "may_use", lambda: obstore)
    storage_policy(StoragePolicy(first_wait_s=0.01))
    config = f"[default]\nregion = us-east-1\nendpoint_url = {faulty_s3.endpoint}\n"
    alone(config, f"[default]\n{KEYS}")
    storage.publish_bytes(written, b"0123456789")
    faulty_s3.set_faults(0, methods=("GET", "PUT"))
    faulty_s3.expired = f"Credential={seaweedfs.ACCESS_KEY}/"
    alone(config, "[default]\naws_access_key_id = another\naws_secret_access_key = secret\n")
    with pytest.raises(StorageError, match=r"InvalidAccessKeyId"):  # the new one is what the store was told
        storage.publish_bytes(written, b"9876543210")


@pytest.mark.s3
@pytest.mark.slow
def test_an_open_bucket(s3_endpoint, faulty_s3, monkeypatch):
    url = f"s3://{seaweedfs.OPEN_BUCKET}/{uuid.uuid4().hex}"
    place_at(url).write(b"0123456789")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("fsspec.config.conf", {"s3": {"anon": "true"}})
    forget_clients()
    assert read(url) == b"234"
    assert "authorization" not in faulty_s3.headers


@pytest.mark.s3
@pytest.mark.slow
def test_one_where_whoever_reads_pays(written, faulty_s3, monkeypatch):
    assert read(written) == b"234"
    assert "x-amz-request-payer" not in faulty_s3.headers
    monkeypatch.setattr("fsspec.config.conf", {"s3": {"requester_pays": True}})
    forget_clients()
    assert read(written) == b"234"
    assert faulty_s3.headers["x-amz-request-payer"] == "requester"


@pytest.mark.s3
@pytest.mark.slow
def test_a_name_with_dots(s3_endpoint):
    make_bucket("of.many.parts")
    place_at("s3://of.many.parts/x").write(b"0123456789")
    assert read("s3://of.many.parts/x") == b"234"
    assert storage.list_names("s3://of.many.parts") == ["x"]
