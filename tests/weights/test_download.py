"""Downloads from a server on this machine that behaves badly, and archives that were made to do harm."""

import gzip
import hashlib
import http.server
import io
import os
import stat
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from paddleseg_encnet.weights import archives, download
from paddleseg_encnet.weights.download import DownloadError

DATA = bytes(range(256)) * 2000         # 512 000 bytes
SHA = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves DATA at every path, with the faults that its attributes say; `requests` has the Range of each request."""

    daemon_threads = True
    etag = '"1"'
    data = DATA
    ranges = True           # answers Range requests
    length = None           # what Content-Length says instead of the truth; -1: nothing
    cuts = ()               # bytes after which the connections of the first requests are closed
    status = None
    location = None

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, name):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, data = self.server, self.server.data
        asked = self.headers.get("Range")
        cut = server.cuts[len(server.requests)] if len(server.requests) < len(server.cuts) else None
        server.requests.append(asked)
        if server.location or server.status:
            self.send_response(302 if server.location else server.status)
            self.send_header("Location", server.location or "")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = int(asked[6:-1]) if asked and server.ranges else 0
        if start >= len(data):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if server.length != -1:
            self.send_header("Content-Length", str(server.length or len(data) - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(data[start:][:cut])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


def content(path):
    with open(path, "rb") as file:
        return file.read()


def test_plain_download_and_the_second_time(server, tmp_path):
    for _ in range(2):
        path = download.fetch(server.url("a/model.pdparams"), str(tmp_path / "new"))
        assert path == str(tmp_path / "new" / "model.pdparams") and content(path) == DATA
    assert server.requests == [None]
    assert os.listdir(tmp_path / "new") == ["model.pdparams"]


def test_cut_connection_is_resumed(server, tmp_path):
    server.cuts = (100_000, 50_000)
    assert content(download.fetch(server.url("model.pdparams"), str(tmp_path))) == DATA
    assert server.requests == [None, "bytes=100000-", "bytes=150000-"]
    assert os.listdir(tmp_path) == ["model.pdparams"]


def test_partial_file_of_an_earlier_call_is_resumed(server, tmp_path):
    server.cuts = (1000,) + (0,) * 10
    with pytest.raises(DownloadError, match="after 1,000 of 512,000 bytes"):
        download.fetch(server.url("model.pdparams"), str(tmp_path))
    assert [name.endswith(".part") for name in os.listdir(tmp_path)] == [True]
    server.cuts, server.requests = (), []
    assert content(download.fetch(server.url("model.pdparams"), str(tmp_path))) == DATA
    assert server.requests == ["bytes=1000-"]


def test_another_version_on_the_server_is_not_appended(server, tmp_path):
    server.cuts = (1000,) + (0,) * 10
    with pytest.raises(DownloadError):
        download.fetch(server.url("model.pdparams"), str(tmp_path))
    server.cuts, server.etag, server.data = (), '"2"', DATA[::-1]
    assert content(download.fetch(server.url("model.pdparams"), str(tmp_path))) == DATA[::-1]
    assert os.listdir(tmp_path) == ["model.pdparams"]


@pytest.mark.parametrize("fault", [dict(ranges=False), dict(etag=None), dict(etag='W/"1"')])
def test_restarts_where_it_cannot_resume(server, tmp_path, fault):
    vars(server).update(fault, cuts=(100_000,))
    assert content(download.fetch(server.url("model.pdparams"), str(tmp_path))) == DATA
    assert os.listdir(tmp_path) == ["model.pdparams"]


def test_complete_partial_file(server, tmp_path):
    tag = hashlib.sha256(b'"1"').hexdigest()[:8]
    (tmp_path / f".model.pdparams.{tag}.part").write_bytes(DATA)
    assert content(download.fetch(server.url("model.pdparams"), str(tmp_path))) == DATA


@pytest.mark.parametrize("fault, words", [
    (dict(length=len(DATA) + 10), "after 512,000 of 512,010 bytes"),
    (dict(length=-1), "does not say how long"),
    (dict(length=1 << 40), "the limit is"),
    (dict(status=404), "404"),
    (dict(status=503), "503"),
    (dict(location="ftp://127.0.0.1/x.pdparams"), "not safe to follow"),
])
def test_bad_answers(server, tmp_path, fault, words):
    vars(server).update(fault, etag=None)
    with pytest.raises(DownloadError, match=words) as caught:
        download.fetch(server.url("model.pdparams"), str(tmp_path))
    assert "\n" not in str(caught.value)
    assert "model.pdparams" not in os.listdir(tmp_path)
    assert (len(server.requests) > 3) == (fault.get("status") == 503 or "after" in words)       # worth more attempts


def test_length_shorter_than_the_file_is_found_by_the_checksum(server, tmp_path):
    server.length = 1000
    with pytest.raises(DownloadError, match=f"should begin with {SHA[:8]}"):
        download.fetch(server.url(f"resnet50-{SHA[:8]}.pth"), str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_checksum_in_the_name(server, tmp_path):
    name = f"encnet_r50-d8_512x1024_80k_cityscapes_20200622_003554-{SHA[:8]}.pth"
    assert content(download.fetch(server.url(name), str(tmp_path))) == DATA


@pytest.mark.parametrize("name, prefix", [("resnet50-19c8e357.pth", None), ("model.pdparams", "00ff")])
def test_wrong_checksum(server, tmp_path, name, prefix):
    with pytest.raises(DownloadError, match="checksum should begin with"):
        download.fetch(server.url(name), str(tmp_path), prefix)
    assert os.listdir(tmp_path) == []


def test_date_is_no_checksum(server, tmp_path):
    assert content(download.fetch(server.url("resnet50-20200621.pth"), str(tmp_path))) == DATA


def test_damaged_file_that_is_there_already(server, tmp_path):
    (tmp_path / f"x-{SHA[:8]}.pth").write_bytes(b"half")
    with pytest.raises(DownloadError, match="remove it"):
        download.fetch(server.url(f"x-{SHA[:8]}.pth"), str(tmp_path))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x.pth", "http://host", "http://host/a/..%2f..",
                                 "http://host/%2e%2e/x.pth", "http://host/a%5cb.pth"])
def test_addresses_that_are_refused(url, tmp_path):
    with pytest.raises(DownloadError):
        download.fetch(url, str(tmp_path))


def test_several_at_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download.fetch(server.url("m.pth"), str(tmp_path)), range(4)))
    assert [content(path) == DATA for path in paths] == [True] * 4 and server.requests == [None]


# --- PaddleSeg's cache ------------------------------------------------------------------------------------------------

@pytest.fixture
def cache(tmp_path, monkeypatch):
    from paddleseg.utils.env import seg_env
    monkeypatch.setattr(seg_env, "PRETRAINED_MODEL_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_pretrained_path_is_itself(cache):
    assert download.pretrained("some/model.pdparams") == "some/model.pdparams"


def test_pretrained_file_in_paddlesegs_layout(server, cache):
    path = download.pretrained(server.url("dygraph/encnet_80k/model.pdparams"))
    assert path == str(cache / "encnet_80k" / "model.pdparams") and content(path) == DATA


def test_pretrained_archive_in_paddlesegs_layout(server, cache):
    server.data = tar({"resnet101_vd_ssld/model.pdparams": b"weights", "resnet101_vd_ssld/README": b""})
    for _ in range(2):
        path = download.pretrained(server.url("dygraph/resnet101_vd_ssld.tar.gz"))
        assert path == str(cache / "resnet101_vd_ssld" / "model.pdparams") and content(path) == b"weights"
    assert server.requests == [None]
    assert os.listdir(cache / "resnet101_vd_ssld") == ["model.pdparams"]


def test_bad_archive_leaves_nothing(server, cache):
    server.data = tar({"../model.pdparams": b"weights"})
    with pytest.raises(DownloadError, match="path out of"):
        download.pretrained(server.url("x.tar.gz"))
    assert os.listdir(cache / "x") == [] and os.listdir(cache) == ["x"]


# --- archives ---------------------------------------------------------------------------------------------------------

def tar(files, mode="w:gz"):
    """A tar of name -> bytes; a value that is no bytes is the TarInfo's type."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                info.type, info.linkname = data
                archive.addfile(info)
    return buffer.getvalue()


def make_zip(files, mode=0):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def unpack(tmp_path, data, **arguments):
    (tmp_path / "archive").write_bytes(data)
    (tmp_path / "out").mkdir()
    return download.unpack(str(tmp_path / "archive"), str(tmp_path / "out"), **arguments)


FILES = {"net/model.pdparams": b"weights", "net/model.pdopt": b"x", "net/notes.txt": b"y"}


@pytest.mark.parametrize("data", [tar(FILES), tar(FILES, "w"), make_zip(FILES)], ids=["tar.gz", "tar", "zip"])
def test_one_file_is_taken_and_no_folder(tmp_path, data):
    path = unpack(tmp_path, data)
    assert path == str(tmp_path / "out" / "model.pdparams") and content(path) == b"weights"
    assert os.listdir(tmp_path / "out") == ["model.pdparams"]


@pytest.mark.parametrize("files, name", [
    ({"a.pth": b"1", "b.pdparams": b"2"}, "b.pdparams"),
    ({"a.pdparams": b"1", "c/model.pdparams": b"2"}, "model.pdparams"),
    ({"__MACOSX/._a.pth": b"1", "a.pth": b"2"}, "a.pth"),
])
def test_which_file_is_taken(tmp_path, files, name):
    path = unpack(tmp_path, make_zip(files))
    assert os.path.basename(path) == name and content(path) == b"2"


def test_name_of_pytorch_encodings_zips_has_a_sha1(tmp_path):
    name = f"encnet_resnet50s_ade-{hashlib.sha1(b'weights').hexdigest()[:8]}.pth"
    assert content(unpack(tmp_path, make_zip({name: b"weights"}))) == b"weights"


def claimed(size):
    """A tar whose only member claims `size` bytes and has 100."""
    info = tarfile.TarInfo("model.pdparams")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT) + b"w" * 100


def huge_header(kind):
    """A tar that opens with an extended header of 1 GiB of zeros, in a megabyte of gzip."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 1 << 30
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):         # fewer than claimed are enough: nobody may read that far
            file.write(bytes(1 << 20))
    return buffer.getvalue()


@pytest.mark.parametrize("data, words", [
    (tar({"../../model.pdparams": b"w"}), "path out of the archive"),
    (tar({"/etc/model.pdparams": b"w"}), "path out of the archive"),
    (tar({"a\\..\\model.pdparams": b"w"}), "path out of the archive"),
    (tar({"model.pdparams": (tarfile.SYMTYPE, "/etc/passwd")}), "is a link"),
    (tar({"model.pdparams": (tarfile.LNKTYPE, "/etc/passwd")}), "is a link"),
    (tar({"model.pdparams": b"w", "x": (tarfile.FIFOTYPE, "")}), "is a special file"),
    (make_zip({"../model.pdparams": b"w"}), "path out of the archive"),
    (make_zip({"C:/model.pdparams": b"w"}), "path out of the archive"),
    (make_zip({"model.pdparams": b"/etc/passwd"}, stat.S_IFLNK | 0o777), "is a link"),
    (tar({"README": b""}), "holds no weights files"),
    (tar({"a.pth": b"", "b.pth": b""}), "holds 2 weights files: a.pth, b.pth"),
    (tar({"model.pdparams": bytes(2000)}), "has 2,000 bytes, the limit is 1,000"),
    (make_zip({"model.pdparams": bytes(2000)}), "has 2,000 bytes, the limit is 1,000"),
    (make_zip({"net-00000000.pth": b"w"}), "checksum should begin with 00000000"),
    (claimed(500), "damaged"),
    (huge_header(tarfile.GNUTYPE_LONGNAME), "far more than weights are"),
    (huge_header(tarfile.XHDTYPE), "far more than weights are"),
    (tar(FILES)[:-40], "damaged"),
    (make_zip(FILES)[:-10], "damaged"),
    (b"<html>not found</html>", "damaged or no tar"),
    (b"", "damaged or no tar"),
])
def test_hostile_archives(tmp_path, data, words):
    with pytest.raises(DownloadError, match=words) as caught:
        unpack(tmp_path, data, max_bytes=1000)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "out") == [] and sorted(os.listdir(tmp_path)) == ["archive", "out"]


def test_number_of_members_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    with pytest.raises(DownloadError, match="more than 3 members"):
        unpack(tmp_path, tar({f"{i}.txt": b"" for i in range(5)}))
