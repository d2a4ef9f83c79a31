package mqruntime

import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * The one form of zip file that a bundle may have, to the byte: `mqruntime/bundle/stored_zip.py` describes
 * it. Every entry's data begins at a multiple of 64 bytes, and every byte that is not data follows from
 * the entries' names, methods, lengths and CRC-32s.
 */
object StoredZip {
    const val ALIGNMENT = 64
    const val MAX_ENTRIES = 64
    const val MAX_LENGTH = 0xFFFFFFFEL
    private const val MAX_NAME = 128
    private const val LOCAL_SIZE = 30
    private const val CENTRAL_SIZE = 46
    private const val END_SIZE = 22
    private const val LOCAL_SIGNATURE = 0x04034B50
    private const val CENTRAL_SIGNATURE = 0x02014B50
    private const val END_SIGNATURE = 0x06054B50
    private const val VERSION_STORED: Short = 10
    private const val VERSION_DEFLATED: Short = 20
    private const val DEFLATED: Short = 8
    private const val DATE: Short = 0x0021
    private const val ALIGNMENT_FIELD = 0xD935.toShort()

    /**
     * A file in the zip.
     *
     * @property length of its data as stored.
     * @property crc32 of the file.
     * @property offset of its local header.
     * @property inflated length of the file, where its data is a deflate stream; else null.
     */
    class Entry(val name: String, val length: Long, val crc32: Long, val offset: Long, val inflated: Long? = null) {
        internal val version: Short get() = if (inflated == null) VERSION_STORED else VERSION_DEFLATED

        /** Where the data begins; the 6 is the extra field without zeros. */
        val data: Long get() = (offset + LOCAL_SIZE + name.length + 6 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT

        /** Where the data ends and the next entry begins. */
        val end: Long get() = data + length
    }

    /** What comes before an entry's data. */
    private fun header(entry: Entry): ByteArray {
        val size = (entry.data - entry.offset).toInt()
        val extra = size - LOCAL_SIZE - entry.name.length
        val buffer = buffer(size).putInt(LOCAL_SIGNATURE)
        buffer.putFields(entry).putShort(entry.name.length.toShort()).putShort(extra.toShort())
        buffer.put(entry.name.toByteArray(Charsets.US_ASCII))
        buffer.putShort(ALIGNMENT_FIELD).putShort((extra - 4).toShort()).putShort(ALIGNMENT.toShort())
        return buffer.array()
    }

    /** What comes after the last entry's data. */
    private fun endRecords(entries: List<Entry>): ByteArray {
        val size = entries.sumOf { CENTRAL_SIZE + it.name.length }
        val buffer = buffer(size + END_SIZE)
        for (entry in entries) {
            buffer.putInt(CENTRAL_SIGNATURE).putShort(entry.version).putFields(entry)
            buffer.putShort(entry.name.length.toShort()).putShort(0).putShort(0).putShort(0).putShort(0)
            buffer.putInt(0).putInt(entry.offset.toInt()).put(entry.name.toByteArray(Charsets.US_ASCII))
        }
        val count = entries.size.toShort()
        buffer.putInt(END_SIGNATURE).putShort(0).putShort(0).putShort(count).putShort(count)
        buffer.putInt(size).putInt(entries.last().end.toInt()).putShort(0)
        return buffer.array()
    }

    /**
     * The entries of a zip file of this form.
     *
     * @throws IllegalArgumentException any byte that is not data is not as described. Data is not
     *     looked at.
     */
    fun readEntries(file: RandomAccessFile): List<Entry> {
        val length = file.length()
        require(length in END_SIZE + 1..MAX_LENGTH) { "it has $length bytes; ${END_SIZE + 1} to $MAX_LENGTH are possible" }
        val end = ByteBuffer.wrap(read(file, length - END_SIZE, END_SIZE)).order(ByteOrder.LITTLE_ENDIAN)
        val count = end.unsignedShort(8)
        val size = end.unsignedInt(12)
        val start = end.unsignedInt(16)
        require(end.getInt(0) == END_SIGNATURE && start + size + END_SIZE == length) {
            "it is no zip file, is cut off, or has something after its end"
        }
        require(count in 1..MAX_ENTRIES && size <= MAX_ENTRIES * (CENTRAL_SIZE + MAX_NAME)) {
            "it has $count entries; 1 to $MAX_ENTRIES are possible"
        }
        val records = read(file, start, size.toInt() + END_SIZE)
        val entries = centralEntries(records.copyOf(size.toInt()), count)
        var at = 0L
        for (entry in entries) {
            require(entry.offset == at && entry.end <= start) {
                "entry '${entry.name}' overlaps another, or bytes lie between them"
            }
            at = entry.end
            require(read(file, entry.offset, (entry.data - entry.offset).toInt()).contentEquals(header(entry))) {
                "entry '${entry.name}' has a header that is not as mqtool writes it"
            }
        }
        require(at == start && endRecords(entries).contentEquals(records)) {
            "its list of entries is not as mqtool writes it"
        }
        return entries
    }

    /** Bytes of a file; throws IllegalArgumentException if it ends before. */
    internal fun read(file: RandomAccessFile, offset: Long, size: Int): ByteArray {
        require(offset >= 0 && offset + size <= file.length()) { "it is cut off" }
        val content = ByteArray(size)
        file.seek(offset)
        file.readFully(content)
        return content
    }

    private fun centralEntries(records: ByteArray, count: Int): List<Entry> {
        val buffer = ByteBuffer.wrap(records).order(ByteOrder.LITTLE_ENDIAN)
        var at = 0
        return List(count) {
            require(at + CENTRAL_SIZE <= records.size) { "its list of entries is cut off" }
            val nameLength = buffer.unsignedShort(at + 28)
            val nameAt = at + CENTRAL_SIZE
            require(nameLength in 1..MAX_NAME && nameAt + nameLength <= records.size) {
                "an entry's name is empty or too long"
            }
            val name = records.copyOfRange(nameAt, nameAt + nameLength)
            require(name.all { it >= 0 }) { "an entry's name is not ASCII" }
            val isDeflated = buffer.getShort(at + 10) == DEFLATED
            val entry = Entry(
                String(name, Charsets.US_ASCII),
                buffer.unsignedInt(at + 20),
                buffer.unsignedInt(at + 16),
                buffer.unsignedInt(at + 42),
                if (isDeflated) buffer.unsignedInt(at + 24) else null,
            )
            at = nameAt + nameLength
            entry
        }
    }

    /** What local and central headers share: version needed to length, without the names'. */
    private fun ByteBuffer.putFields(entry: Entry): ByteBuffer =
        putShort(entry.version).putShort(0).putShort(if (entry.inflated == null) 0 else DEFLATED)
            .putShort(0).putShort(DATE).putInt(entry.crc32.toInt())
            .putInt(entry.length.toInt()).putInt((entry.inflated ?: entry.length).toInt())

    private fun buffer(size: Int): ByteBuffer = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN)

    private fun ByteBuffer.unsignedShort(at: Int): Int = getShort(at).toInt() and 0xFFFF

    private fun ByteBuffer.unsignedInt(at: Int): Long = getInt(at).toLong() and 0xFFFFFFFFL
}
