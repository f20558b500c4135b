# SPDX-License-Identifier: Apache-2.0
"""One MCAP file: its index, whether or not the file was finished.

A file that was never finished (its writer was killed, the disk was full) has no index and may
end in the middle of a record. Everything before that record is whole, and `read_index` finds it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
)

MAGIC = b"\x89MCAP0\r\n"
RECORD_HEADER = struct.Struct("<BQ")
FOOTER_LENGTH = RECORD_HEADER.size + 20
MESSAGE_HEADER = struct.Struct("<HIQQ")
# Opcode, length, first and last log time, size and checksum of what is compressed.
CHUNK_HEAD = struct.Struct("<BQQQQI")
# Its first fields: first and last log time, size and checksum, length of the compression's name.
_CHUNK_FIELDS = struct.Struct("<QQQII")
_RECORDS_LENGTH = struct.Struct("<Q")
CHUNK_MARKS = (b"\x04\x00\x00\x00zstd", b"\x03\x00\x00\x00lz4")


class McapError(ValueError):
    """An MCAP file, or a part of it, cannot be read."""


@dataclass
class McapIndex:
    """What an MCAP file holds and where.

    Attributes:
        path: The file.
        finished: Whether the file has its own index; otherwise this one was found by a scan.
        schemas: Schema by id.
        channels: Channel by id.
        chunks: Where each chunk lies, in file order.
        counts: Number of messages by channel id.
        metadata: Metadata records by name, the last of each name.
        data_end: Offset just after the last whole record of the data section.
        unindexed: The last chunk's message indexes, if the file ends before they are whole.
        lost_ns: First and last log time, ns, of each chunk that cannot be read, as far as it says.
        problems: What was damaged, one line each.
    """

    path: Path
    finished: bool
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[ChunkIndex] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    metadata_indexes: list[MetadataIndex] = field(default_factory=list)
    data_end: int = 0
    unindexed: dict[int, MessageIndex] = field(default_factory=dict)
    lost_ns: list[tuple[int, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def message_count(self) -> int:
        """Number of messages."""
        return sum(self.counts.values())

    @property
    def start_ns(self) -> int | None:
        """Log time of the earliest message, ns; None without messages."""
        return min((chunk.message_start_time for chunk in self.chunks), default=None)

    @property
    def end_ns(self) -> int | None:
        """Log time of the latest message, ns; None without messages."""
        return max((chunk.message_end_time for chunk in self.chunks), default=None)


def read_index(path: Path) -> McapIndex:
    """Reads a file's index, or finds it by reading the whole file if it was never finished.

    Args:
        path: The MCAP file.

    Returns:
        The index.

    Raises:
        McapError: If it is not an MCAP file.
    """
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise McapError(f"{path} is not an MCAP file")
        summary_start = _summary_start(stream)
        if summary_start:
            return _read_summary(path, stream, summary_start)
    index, _ = scan(path)
    size = path.stat().st_size
    if index.data_end < size:
        index.problems.append(
            f"unfinished: {size - index.data_end} bytes after byte {index.data_end} are cut off"
        )
    else:
        index.problems.append("unfinished: no index")
    return index


def _summary_start(stream: BinaryIO) -> int:
    """Reads the offset of the summary from the footer; 0 if the file was not finished."""
    size = stream.seek(0, os.SEEK_END)
    tail = FOOTER_LENGTH + len(MAGIC)
    if size < len(MAGIC) + tail:
        return 0
    stream.seek(size - tail)
    footer = stream.read(tail)
    opcode, length = RECORD_HEADER.unpack_from(footer)
    if opcode != Opcode.FOOTER or length != 20 or footer[-len(MAGIC) :] != MAGIC:
        return 0
    return int.from_bytes(footer[RECORD_HEADER.size : RECORD_HEADER.size + 8], "little")


def _records(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """Yields opcode, offset and body of each whole record; stops before one that is cut off."""
    offset = start
    stream.seek(offset)
    while offset + RECORD_HEADER.size <= end:
        opcode, length = RECORD_HEADER.unpack(stream.read(RECORD_HEADER.size))
        if opcode == 0 or offset + RECORD_HEADER.size + length > end:
            return
        yield opcode, offset, stream.read(length)
        offset += RECORD_HEADER.size + length


def _body(body: bytes) -> ReadDataStream:
    return ReadDataStream(BytesIO(body))


def _read_summary(path: Path, stream: BinaryIO, summary_start: int) -> McapIndex:
    index = McapIndex(path, finished=True, data_end=summary_start)
    size = stream.seek(0, os.SEEK_END)
    for opcode, _, body in _records(stream, summary_start, size - len(MAGIC)):
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(_body(body))
            index.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(_body(body))
            index.channels[channel.id] = channel
        elif opcode == Opcode.CHUNK_INDEX:
            index.chunks.append(ChunkIndex.read(_body(body)))
        elif opcode == Opcode.METADATA_INDEX:
            index.metadata_indexes.append(MetadataIndex.read(_body(body)))
        elif opcode == Opcode.STATISTICS:
            statistics = Statistics.read(_body(body))
            index.counts = dict(statistics.channel_message_counts)
            if statistics.message_count and not statistics.chunk_count:
                raise McapError(f"{path} holds messages outside of chunks, which is not supported")
    for entry in index.metadata_indexes:
        stream.seek(entry.offset + RECORD_HEADER.size)
        metadata = Metadata.read(_body(stream.read(entry.length - RECORD_HEADER.size)))
        index.metadata[metadata.name] = metadata.metadata
    return index


def scan(path: Path) -> tuple[McapIndex, bool]:
    """Reads a whole file and builds its index anew, whatever index it has itself.

    Each chunk is decompressed and its checksum compared. Behind a damaged place reading goes on at
    the next whole chunk.

    Args:
        path: The MCAP file.

    Returns:
        The index, as of a file that was never finished, and whether the data section has its end.

    Raises:
        McapError: If it is not an MCAP file.
    """
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise McapError(f"{path} is not an MCAP file")
        index = McapIndex(path, finished=False, data_end=len(MAGIC))
        size = stream.seek(0, os.SEEK_END)
        start: int | None = len(MAGIC)
        while start is not None:
            if start > index.data_end:
                index.problems.append(f"bytes {index.data_end} to {start} are damaged")
            stopped, ended = _scan_records(index, stream, start, size)
            if ended:
                return index, True
            start = _next_chunk(stream, stopped, size)
        _note_cut_chunk(index, stream, size)
    return index, False


def _scan_records(index: McapIndex, stream: BinaryIO, start: int, size: int) -> tuple[int, bool]:
    """Takes whole records into the index; returns where they stop and whether the data ends."""
    missing: dict[int, MessageIndex] = {}
    stopped = start
    for opcode, offset, body in _records(stream, start, size):
        end = offset + RECORD_HEADER.size + len(body)
        if opcode == Opcode.DATA_END:
            index.unindexed = missing
            return offset, True
        if opcode == Opcode.CHUNK:
            missing = _try_chunk(index, body, offset, end - offset)
        elif opcode == Opcode.MESSAGE_INDEX:
            _take_message_index(index, missing, body, offset, end - offset)
        elif opcode == Opcode.METADATA:
            metadata = Metadata.read(_body(body))
            index.metadata[metadata.name] = metadata.metadata
            index.metadata_indexes.append(MetadataIndex(offset, end - offset, metadata.name))
        elif opcode == Opcode.SCHEMA:
            schema = Schema.read(_body(body))
            index.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(_body(body))
            index.channels[channel.id] = channel
        elif opcode == Opcode.MESSAGE:
            raise McapError(
                f"{index.path} holds messages outside of chunks, which is not supported"
            )
        index.data_end = stopped = end
    index.unindexed = missing
    return stopped, False


def _try_chunk(index: McapIndex, body: bytes, offset: int, length: int) -> dict[int, MessageIndex]:
    chunk = None
    try:
        chunk = _chunk(body)
        return _scan_chunk(index, chunk, offset, length)
    except McapError as error:
        index.problems.append(f"chunk at byte {offset}: {error}")
        if chunk is not None:
            index.lost_ns.append((chunk.message_start_time, chunk.message_end_time))
        return {}


def _take_message_index(
    index: McapIndex, missing: dict[int, MessageIndex], body: bytes, offset: int, length: int
) -> None:
    found = MessageIndex.read(_body(body))
    expected = missing.pop(found.channel_id, None)
    if expected is None:
        return  # of a chunk that cannot be read
    if sorted(found.records) != sorted(expected.records):
        index.problems.append(f"message index at byte {offset} does not agree with its chunk")
    chunk = index.chunks[-1]
    chunk.message_index_offsets[found.channel_id] = offset
    chunk.message_index_length += length


def _next_chunk(stream: BinaryIO, start: int, size: int) -> int | None:
    """Finds the next whole chunk behind a damaged place; None if there is none."""
    block, kept = 1 << 20, b""
    offset = start + 1
    stream.seek(offset)
    while data := stream.read(block):
        data = kept + data
        for mark in CHUNK_MARKS:
            position = data.find(mark, CHUNK_HEAD.size)
            while position >= 0:
                begin = offset + position - CHUNK_HEAD.size
                opcode, length = RECORD_HEADER.unpack_from(data, position - CHUNK_HEAD.size)
                if opcode == Opcode.CHUNK and begin + RECORD_HEADER.size + length <= size:
                    return begin
                position = data.find(mark, position + 1)
        kept = data[-(CHUNK_HEAD.size + 8) :]
        offset = stream.tell() - len(kept)
    return None


def _note_cut_chunk(index: McapIndex, stream: BinaryIO, size: int) -> None:
    """Notes the times of a chunk that the file's end cuts off."""
    stream.seek(index.data_end)
    head = stream.read(CHUNK_HEAD.size)
    if len(head) == CHUNK_HEAD.size:
        opcode, length, first, last, _, _ = CHUNK_HEAD.unpack(head)
        if opcode == Opcode.CHUNK and index.data_end + RECORD_HEADER.size + length > size:
            index.lost_ns.append((first, last))


def _scan_chunk(
    index: McapIndex, chunk: Chunk, offset: int, length: int
) -> dict[int, MessageIndex]:
    """Takes a chunk's content into the index; returns the message indexes it should have."""
    found: dict[int, MessageIndex] = {}
    for opcode, position, body in _chunk_records(chunk):
        if opcode == Opcode.MESSAGE:
            _note_message(found, body, position)
        elif opcode == Opcode.SCHEMA:
            schema = Schema.read(_body(bytes(body)))
            index.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(_body(bytes(body)))
            index.channels[channel.id] = channel
    for channel_id, entries in found.items():
        index.counts[channel_id] = index.counts.get(channel_id, 0) + len(entries.records)
    index.chunks.append(
        ChunkIndex(
            chunk_length=length,
            chunk_start_offset=offset,
            compression=chunk.compression,
            compressed_size=len(chunk.data),
            message_end_time=chunk.message_end_time,
            message_index_length=0,
            message_index_offsets={},
            message_start_time=chunk.message_start_time,
            uncompressed_size=chunk.uncompressed_size,
        )
    )
    return found


def _note_message(found: dict[int, MessageIndex], body: memoryview, position: int) -> None:
    channel_id, _, log_time, _ = MESSAGE_HEADER.unpack_from(body)
    found.setdefault(channel_id, MessageIndex(channel_id, [])).records.append((log_time, position))


def _chunk(body: bytes) -> Chunk:
    """The fields of a chunk's record.

    Its data is a view: the library's own reader copies it, which costs as much as to decompress it.

    Raises:
        McapError: If the record is too short for them.
    """
    try:
        start_ns, end_ns, size, crc, named = _CHUNK_FIELDS.unpack_from(body)
        begin = _CHUNK_FIELDS.size + named
        (length,) = _RECORDS_LENGTH.unpack_from(body, begin)
    except struct.error as error:
        raise McapError(f"is too short: {error}") from None
    begin += _RECORDS_LENGTH.size
    name = body[_CHUNK_FIELDS.size : _CHUNK_FIELDS.size + named].decode(errors="replace")
    data = memoryview(body)[begin : begin + length]
    return Chunk(
        compression=name,
        data=cast(bytes, data),
        message_end_time=end_ns,
        message_start_time=start_ns,
        uncompressed_crc=crc,
        uncompressed_size=size,
    )


def _chunk_records(chunk: Chunk) -> Iterator[tuple[int, int, memoryview]]:
    """Yields opcode, position and body of each record in a chunk.

    Raises:
        McapError: If the chunk is damaged.
    """
    data = _decompress(chunk)
    view = memoryview(data)
    position = 0
    while position + RECORD_HEADER.size <= len(view):
        opcode, length = RECORD_HEADER.unpack_from(view, position)
        start = position + RECORD_HEADER.size
        yield opcode, position, view[start : start + length]
        position = start + length


def _decompress(chunk: Chunk) -> bytes:
    try:
        if chunk.compression == "zstd":
            data = zstandard.ZstdDecompressor().decompress(
                chunk.data, max_output_size=chunk.uncompressed_size
            )
        elif chunk.compression == "lz4":
            data = lz4.frame.decompress(chunk.data)
        elif chunk.compression == "":
            data = chunk.data
        else:
            raise McapError(f"compression {chunk.compression!r} is not known")
    except (zstandard.ZstdError, RuntimeError) as error:
        raise McapError(f"cannot be decompressed: {error}") from error
    if len(data) != chunk.uncompressed_size:
        raise McapError(f"holds {len(data)} bytes, expected {chunk.uncompressed_size}")
    if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
        raise McapError("has a wrong checksum")
    return data


def read_chunk(
    stream: BinaryIO, entry: ChunkIndex
) -> Iterator[tuple[int, int, int, int, memoryview]]:
    """Reads the messages of a chunk.

    Args:
        stream: The open file.
        entry: Where the chunk lies.

    Yields:
        Channel id, sequence, log time in ns, publish time in ns, and the message's bytes.

    Raises:
        McapError: If the chunk is damaged.
    """
    stream.seek(entry.chunk_start_offset + RECORD_HEADER.size)
    body = stream.read(entry.chunk_length - RECORD_HEADER.size)
    try:
        for opcode, _, record in _chunk_records(_chunk(body)):
            if opcode == Opcode.MESSAGE:
                yield *MESSAGE_HEADER.unpack_from(record), record[MESSAGE_HEADER.size :]
    except McapError as error:
        raise McapError(f"chunk at byte {entry.chunk_start_offset}: {error}") from None


def read_heads(
    stream: BinaryIO, entry: ChunkIndex, channel_id: int, size: int
) -> Iterator[tuple[int, bytes]]:
    """Reads the first bytes of a channel's messages in a chunk.

    No more of the chunk is decompressed than they need, so that its checksum is not compared.

    Args:
        stream: The open file.
        entry: Where the chunk lies; it names the channel.
        channel_id: Of the messages.
        size: Bytes of each.

    Yields:
        Log time in ns, and the message's first bytes.

    Raises:
        McapError: If the chunk is damaged.
    """
    stream.seek(entry.message_index_offsets[channel_id])
    try:
        _, length = RECORD_HEADER.unpack(stream.read(RECORD_HEADER.size))
        places = MessageIndex.read(_body(stream.read(length))).records
        skipped = RECORD_HEADER.size + MESSAGE_HEADER.size
        end = max((position for _, position in places), default=0) + skipped + size
        stream.seek(entry.chunk_start_offset + RECORD_HEADER.size)
        if entry.compression == "zstd":
            head = _CHUNK_FIELDS.size + len(entry.compression) + _RECORDS_LENGTH.size
            stream.seek(head, os.SEEK_CUR)
            data = zstandard.ZstdDecompressor().stream_reader(stream, closefd=False).read(end)
        else:
            data = _decompress(_chunk(stream.read(entry.chunk_length - RECORD_HEADER.size)))
    except (McapError, struct.error, zstandard.ZstdError) as error:
        raise McapError(f"chunk at byte {entry.chunk_start_offset}: {error}") from None
    for log_ns, position in places:
        begin = position + skipped
        yield log_ns, data[begin : begin + size]


def read_chunk_record(stream: BinaryIO, entry: ChunkIndex) -> tuple[bytes, dict[int, MessageIndex]]:
    """Reads a whole chunk.

    Args:
        stream: The open file.
        entry: Where the chunk lies.

    Returns:
        The record as it is stored, and the index of its messages by channel id.

    Raises:
        McapError: If the chunk is damaged.
    """
    stream.seek(entry.chunk_start_offset)
    record = stream.read(entry.chunk_length)
    found: dict[int, MessageIndex] = {}
    for opcode, position, body in _chunk_records(_chunk(record[RECORD_HEADER.size :])):
        if opcode == Opcode.MESSAGE:
            _note_message(found, body, position)
    return record, found


def summary_problem(path: Path) -> str:
    """Compares the checksum of a finished file's own index; empty if it is right or not stated.

    Args:
        path: A file for which `read_index` says that it is finished.
    """
    with path.open("rb") as stream:
        start = _summary_start(stream)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(start)
        covered = stream.read(size - len(MAGIC) - 4 - start)
        stated = int.from_bytes(stream.read(4), "little")
    return "the index has a wrong checksum" if stated and zlib.crc32(covered) != stated else ""
