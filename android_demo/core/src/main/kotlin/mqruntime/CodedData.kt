package mqruntime

import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import java.security.MessageDigest
import java.util.Locale
import java.util.concurrent.Callable
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executors
import java.util.zip.CRC32
import java.util.zip.DataFormatException
import java.util.zip.Inflater

/** Bytes between two cuts of a stream: as stored, and inflated. */
data class Part(val stored: Int, val inflated: Int)

/**
 * Where a stream of coded weights is cut; `mqruntime/engine/coded_data.py` describes it.
 *
 * @property parts in order; each inflates by itself.
 */
class CodedData(val parts: List<Part>) {
    /** Length of the stream. */
    val stored: Long get() = parts.sumOf { it.stored.toLong() }

    /** Length of what it inflates to. */
    val inflated: Long get() = parts.sumOf { it.inflated.toLong() }

    companion object {
        private const val MAX_PART = 1L shl 20
        private const val MAX_PARTS = 1 shl 12

        /**
         * Read the manifest's [[stored, inflated], ...].
         *
         * @throws IllegalArgumentException it is not that, a part is empty or too long, or there are too
         *     many or none.
         */
        fun of(value: Any?, name: String): CodedData {
            val pairs = requireNotNull(value as? List<*>) { "$name is not a list" }
            require(pairs.size in 1..MAX_PARTS) { "$name: ${pairs.size} parts; 1 to $MAX_PARTS are possible" }
            return CodedData(pairs.map { part(it, name) })
        }

        private fun part(value: Any?, name: String): Part {
            val pair = (value as? List<*>)?.map { it as? Long }
            val stored = pair?.getOrNull(0)
            val inflated = pair?.getOrNull(1)
            require(
                pair?.size == 2 && stored != null && inflated != null &&
                    stored in 1..2 * MAX_PART && inflated in 1..MAX_PART,
            ) { "$name: a part of $value bytes; at most $MAX_PART are possible" }
            return Part(stored.toInt(), inflated.toInt())
        }
    }
}

/**
 * A deflate stream, and what is known of what it inflates to.
 *
 * @param content the stream, whole.
 * @param coded where it is cut.
 * @param crc32 of what it inflates to.
 * @property sha256 likewise, in lowercase hexadecimal; null not to look at it.
 */
class CodedStream(
    private val content: ByteBuffer,
    private val coded: CodedData,
    private val crc32: Long,
    val sha256: String? = null,
) {
    /**
     * Write what the stream inflates to.
     *
     * @param target file to write.
     * @param threads that inflate parts side by side.
     * @throws IllegalArgumentException it is not cut as it says, or is damaged.
     * @throws IOException the file cannot be written.
     */
    fun inflateTo(target: File, threads: Int) {
        require(content.remaining().toLong() == coded.stored) {
            "it has ${content.remaining()} bytes, its parts are listed with ${coded.stored}"
        }
        RandomAccessFile(target, "rw").use { made ->
            made.setLength(coded.inflated)
            inflate(made.channel, threads)
            val whole = made.channel.map(FileChannel.MapMode.READ_ONLY, 0, coded.inflated)
            val found = CRC32().apply { update(whole.duplicate()) }.value
            require(found == crc32) { "it is damaged: its CRC-32 is another" }
            require(sha256 == null || sha256(whole) == sha256) { "it is damaged: its SHA-256 is another" }
        }
    }

    private fun inflate(target: FileChannel, threads: Int) {
        val pool = Executors.newFixedThreadPool(maxOf(threads, 1))
        try {
            var from = 0
            var to = 0L
            val waiting = coded.parts.mapIndexed { number, part ->
                val (at, place) = from to to
                from += part.stored
                to += part.inflated
                pool.submit(Callable { inflatePart(at, target, place, part, number == coded.parts.size - 1) })
            }
            waiting.forEach { it.get() }
        } catch (error: ExecutionException) {
            throw error.cause ?: error
        } finally {
            pool.shutdownNow()
        }
    }

    private fun inflatePart(at: Int, target: FileChannel, place: Long, part: Part, isLast: Boolean) {
        val stored = ByteArray(part.stored)
        content.duplicate().apply { position(position() + at) }.get(stored)
        val found = ByteArray(part.inflated)
        val inflater = Inflater(true)
        try {
            inflater.setInput(stored)
            var count = 0
            while (count < found.size) {
                val more = inflater.inflate(found, count, found.size - count)
                require(more > 0) { "it is damaged: a part does not inflate to ${part.inflated} bytes" }
                count += more
            }
            var isRight = inflater.inflate(ByteArray(1)) == 0 && inflater.finished() == isLast && inflater.remaining == 0
            if (isRight && !isLast) {
                // A last, empty block ends the stream where another one has just ended, nowhere else.
                inflater.setInput(EMPTY_BLOCK)
                isRight = inflater.inflate(ByteArray(1)) == 0 && inflater.finished()
            }
            require(isRight) { "it is damaged: a part does not inflate to ${part.inflated} bytes" }
        } catch (error: DataFormatException) {
            throw IllegalArgumentException("it is damaged (${firstLine(error)})", error)
        } finally {
            inflater.end()
        }
        val written = ByteBuffer.wrap(found)
        while (written.hasRemaining()) target.write(written, place + written.position())
    }

    companion object {
        private val HEADER = byteArrayOf(0x1F, 0x8B.toByte(), 8, 0, 0, 0, 0, 0, 2, 0xFF.toByte())
        private const val TRAILER_SIZE = 8
        private val EMPTY_BLOCK = byteArrayOf(3, 0)

        /**
         * The stream in a gzip file.
         *
         * @throws IllegalArgumentException it is not a file with such a stream.
         * @throws IOException it cannot be read.
         */
        fun ofGzip(file: File, coded: CodedData): CodedStream {
            val length = HEADER.size + coded.stored + TRAILER_SIZE
            val content = OnnxFile.map(file).order(ByteOrder.LITTLE_ENDIAN)
            require(content.capacity().toLong() == length) {
                "it has ${content.capacity()} bytes, its parts are listed with $length"
            }
            val header = ByteArray(HEADER.size).also(content::get)
            require(header.contentEquals(HEADER)) { "it does not begin as it must" }
            val end = content.capacity() - TRAILER_SIZE
            require(content.getInt(end + 4).toLong() and 0xFFFFFFFFL == coded.inflated and 0xFFFFFFFFL) {
                "it is damaged: its parts are listed with another length"
            }
            val crc32 = content.getInt(end).toLong() and 0xFFFFFFFFL
            content.limit(end)
            return CodedStream(content, coded, crc32)
        }
    }
}

private fun sha256(content: ByteBuffer): String =
    hexadecimal(MessageDigest.getInstance("SHA-256").apply { update(content) })

internal fun hexadecimal(digest: MessageDigest): String =
    digest.digest().joinToString("") { "%02x".format(Locale.ROOT, it) }
