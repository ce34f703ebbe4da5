"""Takes weights out of a tar, tar.gz or zip, which may have been made to write elsewhere or to fill the disk.

One file is taken, under its own name and no path; everything else in the archive stays there.
"""

import contextlib
import functools
import gzip
import hashlib
import os
import re
import stat
import tarfile
import zipfile
import zlib
from typing import IO, Any, Callable, Generator, Iterator, List, NamedTuple, Optional, Sequence, Union

WEIGHTS = (".pdparams", ".pth", ".pt", ".safetensors")      # what is looked for in an archive; the first kind wins
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
MAX_BYTES = 4 << 30         # of a download, and of what is unpacked; the largest EncNet has 0.3 GiB
MAX_MEMBERS = 10_000
CHUNK = 1 << 20

# "resnet50-19c8e357.pth": torchvision and mmsegmentation put the first digits of the SHA-256 there. Not a date.
CHECKSUM = re.compile(r"-(?!(?:19|20)\d{6}\.)([0-9a-f]{8,64})\.[^-]*$")


class DownloadError(ValueError):
    """A download or an archive that is refused; says which, what was seen and what to do."""

def unpack(archive: str, folder: str, max_bytes: int = MAX_BYTES) -> str:
    """Takes the one weights file out of a tar, tar.gz or zip, into `folder`; returns its path.

    Raises:
        DownloadError: a member has a path out of the archive, or is a link or a device; there is none or more than one
            weights file; or it is larger than `max_bytes`. Nothing is written then.
    """
    where = os.path.basename(archive)
    try:
        with contextlib.closing(_members(archive, max_bytes)) as members:
            found = weights_among([_checked(member, where, max_bytes) for member in members])
        if len(found) != 1:
            raise DownloadError(f"{where}: holds {len(found) or 'no'} weights files{': ' if found else ''}"
                                f"{', '.join(found[:5])}; one is needed, {' or '.join(WEIGHTS)}: unpack it yourself "
                                "and give the path of the right one")
        with contextlib.closing(_members(archive, max_bytes)) as members:
            return _take(next(member for member in members if member.name == found[0]), folder, where, max_bytes)
    except (tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(f"{where}: is damaged or no tar, tar.gz or zip ({error}); download it again") from error


def weights_among(names: List[str]) -> List[str]:
    """Of some files the weights: model.pdparams if there is one, else all of the first kind of WEIGHTS there is."""
    names = [name for name in names if not os.path.basename(name).startswith(".")]      # "._x": macOS's, in zips
    chosen = [[name for name in names if os.path.basename(name) == "model.pdparams"]]
    chosen += [[name for name in names if name.endswith(kind)] for kind in WEIGHTS]
    return next((found for found in chosen if found), [])

def verify_archive(path: str, name: str, prefix: Optional[str], advice: str,
                   algorithms: Sequence[str] = ("sha256",)) -> None:
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

class _Member(NamedTuple):
    name: str
    size: int
    kind: str                           # "file", "folder" or what is refused
    open: Callable[[], Any]             # a file of its bytes


class _Bounded:
    """The first `limit` bytes of a file, no more than 16 MiB at once: tarfile reads a header of whatever length it
    claims into memory."""

    def __init__(self, file: Union[IO[bytes], gzip.GzipFile], limit: int):
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


def _members(archive: str, max_bytes: int) -> Generator[_Member, None, None]:
    members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive, max_bytes)
    for number, member in enumerate(members):
        if number == MAX_MEMBERS:
            raise DownloadError(f"{os.path.basename(archive)}: has more than {MAX_MEMBERS:,} members")
        yield member


def _tar_members(archive: str, max_bytes: int) -> Iterator[_Member]:
    with open(archive, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream: Any = _Bounded(gzip.GzipFile(fileobj=raw) if packed else raw, max_bytes + 64 * CHUNK)
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                kind = "folder" if member.isdir() else "file" if member.isreg() and not member.issparse() else \
                    "link" if member.issym() or member.islnk() else "special file"
                yield _Member(member.name, member.size, kind, functools.partial(tar.extractfile, member))


def _zip_members(archive: str) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            mode = member.external_attr >> 16
            kind = "folder" if member.is_dir() else "encrypted file" if member.flag_bits & 1 else \
                "link" if stat.S_ISLNK(mode) else "special file" if stat.S_IFMT(mode) and not stat.S_ISREG(mode) \
                else "file"
            yield _Member(member.filename, member.file_size, kind, functools.partial(file.open, member))


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
        match = CHECKSUM.search(name)
        if match:       # PyTorch-Encoding's zips hold a file that is named after its SHA-1
            verify_archive(partial, name, match.group(1), "download it again", ("sha1", "sha256"))
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):     # only there if something went wrong
            os.remove(partial)
    return path
