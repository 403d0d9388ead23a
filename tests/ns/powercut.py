"""What a disk may hold after the power went: made from a record of calls (faults.Watch).

The model is as unfriendly as POSIX allows. What fsync has not promised may be there or not:

- of a file's writes and cuts since its last fsync, the first few, the next one by half, or the size
  without the bytes;
- of the changes to names since the folder's last fsync, any of them without the others, so a rename
  may be there before the data it names, or an old name be gone before the new one is there.

Each single change of a name is whole or absent: a rename is never half done.
"""

import dataclasses
import itertools
import os

RENAME_EXCHANGE = 2

# They change nothing that outlives the power.
READS = {"read", "pread64", "close", "flock", "fcntl", "lseek", "fstat", "newfstatat", "statx", "stat", "lstat",
         "getdents64", "access", "faccessat", "faccessat2", "readlinkat", "mkdir", "sync_file_range"}


@dataclasses.dataclass(eq=False)
class File:
    durable: bytes = b""
    pending: list = dataclasses.field(default_factory=list)  # (offset, bytes), or (size, None): a cut

    def contents(self):
        """Each of the contents it may have."""
        found = {}
        now = self.durable
        found[now] = None
        for offset, data in self.pending:
            if data:
                found[_changed(now, offset, data[:len(data) // 2])] = None
                found[_changed(now, offset, bytes(len(data)))] = None
            now = _changed(now, offset, data)
            found[now] = None
        if len(now) > len(self.durable):
            found[self.durable + bytes(len(now) - len(self.durable))] = None
        return list(found)


def _changed(content, offset, data):
    if data is None:
        return content[:offset].ljust(offset, b"\0")
    content = content.ljust(offset, b"\0")
    return content[:offset] + data + content[offset + len(data):]


class Disk:
    """A folder. names: what is in it for certain; pending: changes of names, each {name: File or None}."""

    def __init__(self, folder):
        """As it is now, all of it durable."""
        self.folder = str(folder)
        self.files = {}  # by the number of the inode
        self.names = {}
        self.pending = []
        for entry in os.scandir(folder):
            with open(entry.path, "rb") as file:
                known = self.files.setdefault(entry.inode(), File(file.read()))
            self.names[entry.name] = known

    def states(self):
        """{(name, content)...} of all that a power cut may leave now."""
        found = {}
        for there in itertools.product((False, True), repeat=len(self.pending)):
            names = dict(self.names)
            for change, is_there in zip(self.pending, there):
                if is_there:
                    names.update(change)
            names = {name: file for name, file in names.items() if file}
            files = list(dict.fromkeys(names.values()))
            for contents in itertools.product(*(file.contents() for file in files)):
                content = dict(zip(files, contents))
                found[frozenset((name, content[file]) for name, file in names.items())] = None
        return list(found)

    def _name(self, path):
        assert os.path.dirname(path) == self.folder, f"not in {self.folder}: {path}"
        return os.path.basename(path)

    def _now(self, name):
        """The file that a running system finds under a name."""
        names = dict(self.names)
        for change in self.pending:
            names.update(change)
        return names.get(name)

    def do(self, call):
        """A call that was made, with success."""
        if call.result is None or call.result < 0 or (call.hit and call.hit != "short"):
            return
        if call.name in ("open", "openat"):
            if call.is_new:
                self.files[call.inode] = File()
                self.pending.append({self._name(call.path): self.files[call.inode]})
            elif call.flags & os.O_TRUNC:
                self.files[call.inode].pending.append((0, None))
        elif call.name in ("write", "pwrite64"):
            # One that is not known was made by an earlier worker of the same command: a note, not the vault.
            self.files.setdefault(call.inode, File()).pending.append((call.offset, call.data))
        elif call.name == "ftruncate":
            self.files[call.inode].pending.append((call.offset, None))
        elif call.name in ("fsync", "fdatasync") and call.is_folder:
            for change in self.pending:
                self.names.update(change)
            self.pending.clear()
        elif call.name in ("fsync", "fdatasync"):
            file = self.files[call.inode]
            file.durable = [file.durable, *_each(file)][-1]
            file.pending.clear()
        elif call.name in ("rename", "renameat", "renameat2"):
            source, target = self._name(call.path), self._name(call.to)
            left = self._now(target) if call.name == "renameat2" and call.flags & RENAME_EXCHANGE else None
            self.pending.append({source: left, target: self._now(source)})
        elif call.name in ("link", "linkat"):
            self.pending.append({self._name(call.to): self._now(self._name(call.path))})
        elif call.name in ("unlink", "unlinkat"):
            self.pending.append({self._name(call.path): None})
        else:
            assert call.name in READS, f"the model does not know what {call.name} does to a disk"


def _each(file):
    now = file.durable
    for offset, data in file.pending:
        now = _changed(now, offset, data)
        yield now


def states(disk, calls):
    """All that a cut at any moment may leave: {state: the call before it, the first such one}."""
    found = dict.fromkeys(disk.states(), "nothing yet")
    for call in calls:
        disk.do(call)
        for state in disk.states():
            found.setdefault(state, str(call))
    return found


def end_states(disk, calls):
    """All that a cut after the last call may leave."""
    for call in calls:
        disk.do(call)
    return disk.states()
