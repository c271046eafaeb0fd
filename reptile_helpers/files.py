"""Writing files in such a way that nothing is ever lost."""

import os
import uuid
from contextlib import suppress
from pathlib import Path


def write_atomically(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Write `content` to `path`, all of it or nothing.

    Whatever happens (a full disk, a power cut, a killed process, a second process that writes the same file), `path`
    is afterwards either the complete new file or exactly what it was before. The content goes to a hidden temporary
    file in the same folder, is forced to the disk, and only then renamed. A killed process may leave that hidden file
    behind; an error or an interrupt does not.

    Raises OSError (PermissionError, FileNotFoundError …) if the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        before = "the previous file is unchanged" if path.exists() else "there is no previous file"
        problem = f"{error.strerror or error}: {path.name} cannot be written; {before}"
        raise OSError(error.errno, problem, str(path)) from error
    finally:
        with suppress(OSError):  # after the renaming, and on a read-only disk, there is nothing to remove
            temporary.unlink()
