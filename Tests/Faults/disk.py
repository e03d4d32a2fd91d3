"""A model of a disk that loses its power: what was synced is there, of the rest anything may be."""

from __future__ import annotations

import os
import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
WRITE, TRUNCATE, SYNC, CREATE, RENAME, LINK, UNLINK, MARK, PUNCH = range(1, 10)
_HEAD = struct.Struct("6Q")


@dataclass
class Record:
    """One change, as shim/recorder.c logged it."""

    type: int
    inode: int
    offset: int
    length: int
    path: str
    other: str
    data: bytes


def read_log(path: Path) -> list[Record]:
    """All records of a log."""
    log, at, records = path.read_bytes(), 0, []
    while at < len(log):
        kind, inode, offset, length, path_bytes, other_bytes = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        first = log[at : at + path_bytes].decode()
        at += path_bytes
        second = log[at : at + other_bytes].decode()
        at += other_bytes
        data = b""
        if kind in (WRITE, MARK):
            data = log[at : at + length]
            at += length
        records.append(Record(kind, inode, offset, length, first, second, data))
    return records


def append_mark(path: Path, text: str) -> None:
    """What the driver saw, in its place among the changes."""
    data = text.encode()
    with open(path, "ab", buffering=0) as log:
        log.write(_HEAD.pack(MARK, 0, 0, len(data), 0, 0) + data)


@dataclass
class File:
    """A file's durable bytes, and what was done to it since it was synced."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Record] = field(default_factory=list)


class Disk:
    """The files of one folder."""

    def __init__(self, folder: Path):
        """Begins with the regular files of `folder`, all of them durable."""
        self.folder = str(folder)
        self.root_inode = folder.stat().st_ino
        self.by_inode: dict[int, File] = {}
        self.names: dict[str, File] = {}
        self.pending_names: list[tuple[int, str, str, File | None]] = []
        for path in folder.iterdir():
            if path.is_file():
                file = File(bytearray(path.read_bytes()))
                self.by_inode[path.stat().st_ino] = file
                self.names[path.name] = file

    def apply(self, record: Record) -> None:
        """Takes in one change."""
        if record.type in (WRITE, TRUNCATE, PUNCH):
            self._file(record.inode).pending.append(record)
        elif record.type == SYNC and record.inode == self.root_inode:
            self.names = self._with_names(self.pending_names)
            self.pending_names = []
        elif record.type == SYNC:
            file = self._file(record.inode)
            for change in file.pending:
                _change(file.durable, change)
            file.pending = []
        elif record.type == CREATE:
            # The inode's number may have been another file's before.
            file = self.by_inode[record.inode] = File()
            self.pending_names.append((CREATE, os.path.basename(record.path), "", file))
        elif record.type in (RENAME, LINK, UNLINK):
            file = self._file(record.inode) if record.type == LINK else None
            names = os.path.basename(record.path), os.path.basename(record.other)
            self.pending_names.append((record.type, *names, file))

    def _file(self, inode: int) -> File:
        return self.by_inode.setdefault(inode, File())

    def _with_names(self, changes: list) -> dict[str, File]:
        names = dict(self.names)
        for kind, name, other, file in changes:
            if kind == CREATE:
                names[name] = file
            elif kind == LINK:
                names[other] = file
            elif kind == RENAME and name in names:
                names[other] = names.pop(name)
            elif kind == UNLINK:
                names.pop(name, None)
        return names

    def crash(self, source: random.Random) -> dict[str, bytes]:
        """The files after a loss of power now: one of the many ways it may have gone."""
        names = self._with_names(_some(self.pending_names, source, ordered=True))
        contents: dict[int, bytes] = {}
        files = {}
        for name, file in sorted(names.items()):
            if id(file) not in contents:
                data = bytearray(file.durable)
                for change in _some(file.pending, source, ordered=False):
                    _change(data, change, source if source.random() < 0.4 else None)
                contents[id(file)] = bytes(data)
            files[name] = contents[id(file)]
        return files


def _some(changes: list, source: random.Random, ordered: bool) -> list:
    """None, all, the first ones, or any of `changes`, at times in another order."""
    way = source.randrange(6)
    if way == 0 or not changes:
        return []
    if way == 1:
        return list(changes)
    if way == 2:
        return changes[: source.randrange(len(changes) + 1)]
    if way == 3 and not ordered:
        # All but a few, or few.
        chance = source.choice((0.05, 0.95))
        return [change for change in changes if source.random() < chance]
    chosen = [change for change in changes if source.random() < 0.5]
    if way == 5 and not ordered:
        source.shuffle(chosen)
    return chosen


def _change(data: bytearray, record: Record, source: random.Random | None = None) -> None:
    """Makes a change of a file; with `source` a write is torn at sectors."""
    if record.type == TRUNCATE:
        if record.offset < len(data):
            del data[record.offset :]
        else:
            data.extend(bytes(record.offset - len(data)))
        return
    if record.type == PUNCH:
        end = min(record.offset + record.length, len(data))
        if record.offset < end:
            data[record.offset : end] = bytes(end - record.offset)
        return
    at = record.offset
    end = record.offset + record.length
    while at < end:
        stop = min(end, (at // SECTOR + 1) * SECTOR) if source else end
        if source is None or source.random() < 0.5:
            if len(data) < stop:
                data.extend(bytes(stop - len(data)))
            data[at:stop] = record.data[at - record.offset : stop - record.offset]
        at = stop
