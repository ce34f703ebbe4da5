"""Downloads weights: whole, checked and resumed, or not at all.

PaddleSeg writes a download under its final name and never looks at its length: a connection that breaks leaves half a
file, which is then taken for a network. It also unpacks archives wherever their members say. Here a file gets its name
when it is complete, its length and the checksum in its name are right, and of an archive one file is taken.
"""

import contextlib
import hashlib
import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
from typing import IO, BinaryIO, Iterator, Optional, Tuple
from urllib.parse import unquote, urlsplit

from paddleseg_encnet.weights.archives import (
    ARCHIVES,
    CHECKSUM,
    CHUNK,
    MAX_BYTES,
    DownloadError,
    unpack,
    verify_archive,
    weights_among,
)
from segrun.progress import Progress

ATTEMPTS, PAUSE, TIMEOUT = 4, 1.0, 30       # of one download; seconds before the second attempt; seconds of silence


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
    from paddleseg.utils.env import seg_env  # late: it is all that this module needs of PaddleSeg

    name, parent = _file_name(url_or_path)
    if not name.endswith(ARCHIVES):
        return fetch(url_or_path, os.path.join(seg_env.PRETRAINED_MODEL_HOME, parent))
    folder = os.path.join(seg_env.PRETRAINED_MODEL_HOME, name.split(".")[0])
    with one_process_in(folder):
        found = weights_among(sorted(os.listdir(folder)))
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
    with one_process_in(folder):
        return _fetch(url, folder, sha256_prefix)


def _fetch(url: str, folder: str, sha256_prefix: Optional[str]) -> str:
    name, _ = _file_name(url)
    if sha256_prefix is None and not name.endswith(ARCHIVES):       # an archive's name tells of its content
        match = CHECKSUM.search(name)
        sha256_prefix = match.group(1) if match else None
    path = os.path.join(folder, name)
    if os.path.exists(path):
        verify_archive(path, name, sha256_prefix, "remove it to have it downloaded again")
        return path
    for attempt in range(ATTEMPTS):
        try:
            partial = _transfer(url, folder, name)
            break
        except (_Broken, urllib.error.URLError, ConnectionError, socket.timeout, http.client.HTTPException) as error:
            answered = isinstance(error, urllib.error.HTTPError)
            reason = error.reason if isinstance(error, urllib.error.URLError) and not answered else error
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if final or attempt == ATTEMPTS - 1:
                raise DownloadError(f"cannot download {url}: {reason}; check the address and "
                                    "the connection, or download it elsewhere and give its path") from error
            time.sleep(PAUSE * 2 ** attempt)
    try:
        verify_archive(partial, name, sha256_prefix, "it was removed; the file on the server is damaged or another one")
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
        for earlier in old:
            if os.path.join(folder, earlier) != partial or not start:
                os.remove(os.path.join(folder, earlier))
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


def _copy(response: http.client.HTTPResponse, file: BinaryIO, start: int, total: Optional[int], name: str) -> int:
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

    def redirect_request(self, request: urllib.request.Request, file: IO[bytes], code: int, message: str,
                         headers: http.client.HTTPMessage, url: str) -> Optional[urllib.request.Request]:
        if not url.startswith("https:" if request.full_url.startswith("https:") else ("http:", "https:")):
            raise DownloadError(f"{request.full_url}: the server points to {url}, which is not safe to follow")
        return super().redirect_request(request, file, code, message, headers, url)


def _open(url: str, start: int) -> http.client.HTTPResponse:
    # "identity": a compressed answer would have another length than the file.
    headers = {"User-Agent": "paddleseg_encnet", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return urllib.request.build_opener(_NoDowngrade).open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _range(response: http.client.HTTPResponse) -> Tuple[int, Optional[int]]:
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


@contextlib.contextmanager
def one_process_in(folder: str) -> Iterator[None]:
    """Makes `folder`; within, no other process is in this function for it (where the system has flock).

    filelock (4.3.1) was weighed: one line in place of this function, but a package that every install would need.
    """
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
