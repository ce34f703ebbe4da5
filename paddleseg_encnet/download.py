"""Downloads weights: whole, checked and resumed, or not at all.

PaddleSeg writes a download under its final name and never looks at its length: a connection that breaks leaves half a
file, which is then taken for a network. It also unpacks archives wherever their members say. Here a file gets its name
when it is complete, its length and the checksum in its name are right, and of an archive one file is taken.
"""

import contextlib
import gzip
import hashlib
import http.client
import os
import re
import socket
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from typing import BinaryIO, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit

from paddleseg_encnet.progress import Progress

WEIGHTS = (".pdparams", ".pth", ".pt", ".safetensors")      # what is looked for in an archive; the first kind wins
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
ATTEMPTS, PAUSE, TIMEOUT = 4, 1.0, 30       # of one download; seconds before the second attempt; seconds of silence
MAX_BYTES = 4 << 30         # of a download, and of what is unpacked; the largest EncNet has 0.3 GiB
MAX_MEMBERS = 10_000
CHUNK = 1 << 20

# "resnet50-19c8e357.pth": torchvision and mmsegmentation put the first digits of the SHA-256 there. Not a date.
_HASH = re.compile(r"-(?!(?:19|20)\d{6}\.)([0-9a-f]{8,64})\.[^-]*$")


class DownloadError(ValueError):
    """A download or an archive that is refused; says which, what was seen and what to do."""


class _Broken(Exception):
    """The transfer stopped early; another attempt may go on from there."""


def pretrained(url_or_path: str) -> str:
    """The local path of weights: a path as it is; a URL downloaded once, into PaddleSeg's own cache.

    The layout is that of PaddleSeg's `download_pretrained_model`, whose files are found: NAME/model.pdparams for
    NAME.tar.gz, FOLDER/FILE for .../FOLDER/FILE.

    Raises:
        DownloadError: it cannot be had, or is not what its name says.
    """
    if "://" not in url_or_path:
        return url_or_path
    from paddleseg.utils.env import seg_env         # late: it is all that this module needs of PaddleSeg

    name, parent = _file_name(url_or_path)
    if not name.endswith(ARCHIVES):
        return fetch(url_or_path, os.path.join(seg_env.PRETRAINED_MODEL_HOME, parent))
    folder = os.path.join(seg_env.PRETRAINED_MODEL_HOME, name.split(".")[0])
    with _alone(folder):
        found = _weights(sorted(os.listdir(folder)))
        if len(found) == 1:
            return os.path.join(folder, found[0])
        archive = _fetch(url_or_path, folder, None)
        try:
            return unpack(archive, folder)
        finally:
            os.remove(archive)


def fetch(url: str, folder: str, sha256_prefix: Optional[str] = None) -> str:
    """Downloads `url` into `folder` under its own name, unless it is there; returns the path.

    What an earlier call left behind is gone on from, if the server has that very file still and knows ranges.

    Args:
        url: http or https.
        folder: made if needed. Several processes may ask for the same file; one downloads it.
        sha256_prefix: first hexadecimal digits of the file's SHA-256; by default those that its name ends in.

    Raises:
        DownloadError: it cannot be had, or its length or checksum is wrong. There is no file of that name then.
    """
    with _alone(folder):
        return _fetch(url, folder, sha256_prefix)


def unpack(archive: str, folder: str, max_bytes: int = MAX_BYTES) -> str:
    """Takes the one weights file out of a tar, tar.gz or zip, into `folder`; returns its path.

    Raises:
        DownloadError: a member has a path out of the archive, or is a link or a device; there is none or more than one
            weights file; or it is larger than `max_bytes`. Nothing is written then.
    """
    where = os.path.basename(archive)
    try:
        with contextlib.closing(_members(archive, max_bytes)) as members:
            found = _weights([_checked(member, where, max_bytes) for member in members])
        if len(found) != 1:
            raise DownloadError(f"{where}: holds {len(found) or 'no'} weights files{': ' if found else ''}"
                                f"{', '.join(found[:5])}; one is needed, {' or '.join(WEIGHTS)}: unpack it yourself "
                                "and give the path of the right one")
        with contextlib.closing(_members(archive, max_bytes)) as members:
            return _take(next(member for member in members if member.name == found[0]), folder, where, max_bytes)
    except (tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(f"{where}: is damaged or no tar, tar.gz or zip ({error}); download it again") from error


def _weights(names: List[str]) -> List[str]:
    """Of some files the weights: model.pdparams if there is one, else all of the first kind of WEIGHTS there is."""
    names = [name for name in names if not os.path.basename(name).startswith(".")]      # "._x": macOS's, in zips
    chosen = [[name for name in names if os.path.basename(name) == "model.pdparams"]]
    chosen += [[name for name in names if name.endswith(kind)] for kind in WEIGHTS]
    return next((found for found in chosen if found), [])


# --- downloading -----------------------------------------------------------------------------------------------------

def _fetch(url: str, folder: str, sha256_prefix: Optional[str]) -> str:
    name, _ = _file_name(url)
    if sha256_prefix is None and not name.endswith(ARCHIVES):       # an archive's name tells of its content
        match = _HASH.search(name)
        sha256_prefix = match.group(1) if match else None
    path = os.path.join(folder, name)
    if os.path.exists(path):
        _verify(path, name, sha256_prefix, "remove it to have it downloaded again")
        return path
    for attempt in range(ATTEMPTS):
        try:
            partial = _transfer(url, folder, name)
            break
        except (_Broken, urllib.error.URLError, ConnectionError, socket.timeout, http.client.HTTPException) as error:
            answered = isinstance(error, urllib.error.HTTPError)
            reason = error.reason if isinstance(error, urllib.error.URLError) and not answered else error
            final = answered and error.code < 500
            if final or attempt == ATTEMPTS - 1:
                raise DownloadError(f"cannot download {url}: {reason}; check the address and "
                                    "the connection, or download it elsewhere and give its path") from error
            time.sleep(PAUSE * 2 ** attempt)
    try:
        _verify(partial, name, sha256_prefix, "it was removed; the file on the server is damaged or another one")
    except DownloadError:
        os.remove(partial)
        raise
    os.replace(partial, path)
    return path


def _transfer(url: str, folder: str, name: str) -> str:
    """One attempt: returns the path of the complete partial file, or raises _Broken with what came so far kept.

    A partial file's name has a digest of what the server says of the file's version (ETag or date), so that only the
    same version is gone on from.
    """
    old = [file for file in os.listdir(folder) if file.startswith(f".{name}.") and file.endswith(".part")]
    start = os.path.getsize(os.path.join(folder, old[0])) if len(old) == 1 else 0
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        if error.code != 416:       # the partial file is as long as the file, or longer
            raise
        response, start = _open(url, 0), 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(response)
        tag = response.headers.get("ETag", "W/")
        version = response.headers.get("Last-Modified") if tag.startswith("W/") else tag    # W/: not of every byte
        digest = hashlib.sha256(version.encode()).hexdigest()[:8] if version else "unknown"
        partial = os.path.join(folder, f".{name}.{digest}.part")
        begin, total = _range(response)
        if start and not (begin == start and version and os.path.basename(partial) in old):
            if response.status == 206:      # the rest of another version, or not from where it was asked
                response = stack.enter_context(_open(url, 0))
                begin, total = _range(response)
            start = 0
        if begin != start:
            raise DownloadError(f"{url}: the server sends bytes from {begin:,} though {start:,} was asked for")
        for file in old:
            if os.path.join(folder, file) != partial or not start:
                os.remove(os.path.join(folder, file))
        if total is None and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
            raise DownloadError(f"{url}: the server does not say how long the file is, so nobody can tell whether it "
                                "came whole; download it with a browser and give its path")
        if (total or 0) > MAX_BYTES:
            raise DownloadError(f"{url}: has {total:,} bytes, the limit is {MAX_BYTES:,}; it is no weights file")
        with open(partial, "ab") as file:
            size = _copy(response, file, start, total, name)
    if total is not None and size != total:
        raise _Broken(f"the connection ended after {size:,} of {total:,} bytes")
    return partial


def _copy(response, file: BinaryIO, start: int, total: Optional[int], name: str) -> int:
    """Appends the rest of the response; returns the size of the file then, which is all there is on any error."""
    size = start
    progress = Progress(max(((total or start) - start) // CHUNK, 1), f"MiB of {name}", visible=total is not None)
    try:
        while True:
            try:
                chunk = response.read(CHUNK)
            except http.client.IncompleteRead as error:
                file.write(error.partial)
                raise _Broken(f"the connection ended after {size + len(error.partial):,} bytes") from error
            if not chunk:
                return size
            file.write(chunk)
            size += len(chunk)
            if size > MAX_BYTES:
                raise DownloadError(f"{name}: the server sent more than {MAX_BYTES:,} bytes; it is no weights file")
            if len(chunk) == CHUNK:
                progress.advance()
    finally:
        progress.close()


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) only, and not from https to http, where anybody may answer."""

    def redirect_request(self, request, file, code, message, headers, url):
        if not url.startswith("https:" if request.full_url.startswith("https:") else ("http:", "https:")):
            raise DownloadError(f"{request.full_url}: the server points to {url}, which is not safe to follow")
        return super().redirect_request(request, file, code, message, headers, url)


def _open(url: str, start: int):
    # "identity": a compressed answer would have another length than the file.
    headers = {"User-Agent": "paddleseg_encnet", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return urllib.request.build_opener(_NoDowngrade).open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _range(response) -> Tuple[int, Optional[int]]:
    """First byte of the answer within the file, and the length of the whole file."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if match is None:
            raise _Broken("the server's answer has no usable Content-Range")
        return int(match.group(1)), int(match.group(2))
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _file_name(url: str) -> Tuple[str, str]:
    """The file's name and the folder's before it, of an http(s) URL."""
    parts = urlsplit(url)
    names = [name for name in unquote(parts.path).split("/") if name]
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise DownloadError(f"{url}: is no http or https address")
    if not names or any(name in (".", "..") or re.search(r'[\\:*?"<>|\x00-\x1f]', name) for name in names):
        raise DownloadError(f"{url}: does not end in the name of a file")
    return names[-1], names[-2] if len(names) > 1 else parts.netloc.replace(":", "_")


def _verify(path: str, name: str, prefix: Optional[str], advice: str, algorithms: Sequence[str] = ("sha256",)):
    """Raises DownloadError unless the file's digest by one of the algorithms begins with `prefix`, if there is one."""
    if prefix is None:
        return
    digests = [hashlib.new(algorithm) for algorithm in algorithms]
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            for digest in digests:
                digest.update(chunk)
    found = [digest.hexdigest()[:len(prefix)] for digest in digests]
    if prefix.lower() not in found:
        raise DownloadError(f"{name}: its checksum should begin with {prefix}, and begins with {' or '.join(found)}; "
                            f"{advice}")


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Makes `folder`; within, no other process is in this function for it (where the system has flock)."""
    os.makedirs(folder, exist_ok=True)
    try:
        import fcntl
    except ImportError:     # Windows: two processes may download the same file, each under the same partial name
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# --- archives --------------------------------------------------------------------------------------------------------

class _Member(NamedTuple):
    name: str
    size: int
    kind: str                           # "file", "folder" or what is refused
    open: Callable[[], BinaryIO]


class _Bounded:
    """The first `limit` bytes of a file, no more than 16 MiB at once: tarfile reads a header of whatever length it
    claims into memory."""

    def __init__(self, file: BinaryIO, limit: int):
        self.file, self.limit, self.tell = file, limit, file.tell

    def read(self, size: int) -> bytes:
        return self.file.read(self.allowed(size, 16 * CHUNK))

    def seek(self, position: int) -> int:
        return self.file.seek(self.allowed(position, self.limit))

    def allowed(self, number: int, limit: int) -> int:
        if not 0 <= number <= limit or self.tell() > self.limit:
            raise DownloadError("the archive unpacks to far more than weights are; it is damaged or made to fill the "
                                "memory or the disk")
        return number


def _members(archive: str, max_bytes: int) -> Iterator[_Member]:
    members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive, max_bytes)
    for number, member in enumerate(members):
        if number == MAX_MEMBERS:
            raise DownloadError(f"{os.path.basename(archive)}: has more than {MAX_MEMBERS:,} members")
        yield member


def _tar_members(archive: str, max_bytes: int) -> Iterator[_Member]:
    with open(archive, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = _Bounded(gzip.GzipFile(fileobj=raw) if packed else raw, max_bytes + 64 * CHUNK)
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                kind = "folder" if member.isdir() else "file" if member.isreg() and not member.issparse() else \
                    "link" if member.issym() or member.islnk() else "special file"
                yield _Member(member.name, member.size, kind, lambda member=member: tar.extractfile(member))


def _zip_members(archive: str) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            mode = member.external_attr >> 16
            kind = "folder" if member.is_dir() else "encrypted file" if member.flag_bits & 1 else \
                "link" if stat.S_ISLNK(mode) else "special file" if stat.S_IFMT(mode) and not stat.S_ISREG(mode) \
                else "file"
            yield _Member(member.filename, member.file_size, kind, lambda member=member: file.open(member))


def _checked(member: _Member, where: str, max_bytes: int) -> str:
    """The member's name ("" of a folder), or an error if it is not harmless."""
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts or re.search(r"[\\:\x00-\x1f]", member.name):
        raise DownloadError(f"{where}: member {member.name!r} has a path out of the archive; it is not to be trusted")
    if member.kind not in ("file", "folder"):
        raise DownloadError(f"{where}: member {member.name!r} is a {member.kind}; weights are files")
    if not 0 <= member.size <= max_bytes:
        raise DownloadError(f"{where}: member {member.name!r} has {member.size:,} bytes, the limit is {max_bytes:,}")
    return member.name if member.kind == "file" else ""


def _take(member: _Member, folder: str, where: str, max_bytes: int) -> str:
    """Writes a member, and no path of it, into `folder`."""
    name = os.path.basename(member.name)
    path, partial = os.path.join(folder, name), os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        size = 0
        with member.open() as source, open(partial, "wb") as target:
            for chunk in iter(lambda: source.read(CHUNK), b""):
                size += len(chunk)
                if size > min(member.size, max_bytes):
                    raise DownloadError(f"{where}: member {member.name!r} is longer than the archive says")
                target.write(chunk)
        if size != member.size:
            raise DownloadError(f"{where}: member {member.name!r} has {size:,} of {member.size:,} bytes; download it "
                                "again")
        match = _HASH.search(name)
        if match:       # PyTorch-Encoding's zips hold a file that is named after its SHA-1
            _verify(partial, name, match.group(1), "download it again", ("sha1", "sha256"))
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):     # only there if something went wrong
            os.remove(partial)
    return path
