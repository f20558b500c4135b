# SPDX-License-Identifier: Apache-2.0
"""One MCAP file: its index, whether or not the file was finished.

A file that was never finished (its writer was killed, the disk was full) has no index and may
end in the middle of a record. Everything before that record is whole; `read_index` finds it and
`finish` gives the file its index back.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    McapRecord,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

MAGIC = b"\x89MCAP0\r\n"
RECORD_HEADER = struct.Struct("<BQ")
FOOTER_LENGTH = RECORD_HEADER.size + 20
MESSAGE_HEADER = struct.Struct("<HIQQ")


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
        return _scan(path, stream)


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


def _scan(path: Path, stream: BinaryIO) -> McapIndex:
    size = stream.seek(0, os.SEEK_END)
    index = McapIndex(path, finished=False, data_end=len(MAGIC))
    missing: dict[int, MessageIndex] = {}
    for opcode, offset, body in _records(stream, len(MAGIC), size):
        end = offset + RECORD_HEADER.size + len(body)
        if opcode == Opcode.DATA_END:
            break
        if opcode == Opcode.CHUNK:
            try:
                missing = _scan_chunk(index, Chunk.read(_body(body)), offset, end - offset)
            except McapError as error:
                index.problems.append(f"chunk at byte {offset}: {error}")
                missing = {}
        elif opcode == Opcode.MESSAGE_INDEX:
            channel_id = int.from_bytes(body[:2], "little")
            if missing.pop(channel_id, None) is not None:
                chunk = index.chunks[-1]
                chunk.message_index_offsets[channel_id] = offset
                chunk.message_index_length += end - offset
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
            raise McapError(f"{path} holds messages outside of chunks, which is not supported")
        index.data_end = end
    index.unindexed = missing
    if index.data_end < size:
        index.problems.append(
            f"unfinished: {size - index.data_end} bytes after byte {index.data_end} are cut off"
        )
    else:
        index.problems.append("unfinished: no index")
    return index


def _scan_chunk(
    index: McapIndex, chunk: Chunk, offset: int, length: int
) -> dict[int, MessageIndex]:
    """Takes a chunk's content into the index; returns the message indexes it should have."""
    found: dict[int, MessageIndex] = {}
    for opcode, position, body in _chunk_records(chunk):
        if opcode == Opcode.MESSAGE:
            channel_id, _, log_time, _ = MESSAGE_HEADER.unpack_from(body)
            entries = found.setdefault(channel_id, MessageIndex(channel_id, []))
            entries.records.append((log_time, position))
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
        for opcode, _, record in _chunk_records(Chunk.read(_body(body))):
            if opcode == Opcode.MESSAGE:
                yield *MESSAGE_HEADER.unpack_from(record), record[MESSAGE_HEADER.size :]
    except McapError as error:
        raise McapError(f"chunk at byte {entry.chunk_start_offset}: {error}") from None


def finish(path: Path, metadata: Mapping[str, Mapping[str, str]]) -> McapIndex:
    """Gives an unfinished file its index: cuts off a broken record and writes the summary.

    Args:
        path: The file; it is changed in place, and only behind its last whole record.
        metadata: Metadata records to add, by name.

    Returns:
        The index as the file now holds it.

    Raises:
        McapError: If it is not an MCAP file.
        OSError: If it cannot be written; what was whole before still is.
    """
    index = read_index(path)
    if index.finished:
        return index
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, index.data_end)
        os.lseek(descriptor, index.data_end, os.SEEK_SET)
        try:
            write_all(descriptor, _tail(index, metadata))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, index.data_end)
            raise
    finally:
        os.close(descriptor)
    return read_index(path)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes every byte to a file descriptor.

    Args:
        descriptor: Open for writing.
        data: The bytes.

    Raises:
        OSError: If they cannot all be written; some may have been.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _bytes(records: Sequence[McapRecord]) -> bytes:
    builder = RecordBuilder()
    for record in records:
        record.write(builder)
    return bytes(builder.end())  # type: ignore[no-untyped-call]


def _tail(index: McapIndex, metadata: Mapping[str, Mapping[str, str]]) -> bytes:
    """Builds what follows the last whole record of an unfinished file, and completes the index."""
    tail = b""
    for channel_id, entries in index.unindexed.items():
        chunk = index.chunks[-1]
        chunk.message_index_offsets[channel_id] = index.data_end + len(tail)
        record = _bytes([entries])
        chunk.message_index_length += len(record)
        tail += record
    for name, values in metadata.items():
        record = _bytes([Metadata(name, dict(values))])
        index.metadata_indexes.append(MetadataIndex(index.data_end + len(tail), len(record), name))
        tail += record
    tail += _bytes([DataEnd(0)])

    start = index.data_end + len(tail)
    statistics = Statistics(
        attachment_count=0,
        channel_count=len(index.channels),
        channel_message_counts=index.counts,
        chunk_count=len(index.chunks),
        message_count=index.message_count,
        message_end_time=index.end_ns or 0,
        message_start_time=index.start_ns or 0,
        metadata_count=len(index.metadata_indexes),
        schema_count=len(index.schemas),
    )
    groups: list[tuple[Opcode, Sequence[McapRecord]]] = [
        (Opcode.SCHEMA, list(index.schemas.values())),
        (Opcode.CHANNEL, list(index.channels.values())),
        (Opcode.STATISTICS, [statistics]),
        (Opcode.CHUNK_INDEX, index.chunks),
        (Opcode.METADATA_INDEX, index.metadata_indexes),
    ]
    summary = b""
    offsets: list[SummaryOffset] = []
    for opcode, records in groups:
        if records:
            written = _bytes(records)
            offsets.append(SummaryOffset(opcode, start + len(summary), len(written)))
            summary += written
    offset_start = start + len(summary)
    summary += _bytes(offsets)
    head = RECORD_HEADER.pack(Opcode.FOOTER, 20) + struct.pack("<QQ", start, offset_start)
    footer = _bytes([Footer(start, offset_start, zlib.crc32(summary + head))])
    return tail + summary + footer + MAGIC
