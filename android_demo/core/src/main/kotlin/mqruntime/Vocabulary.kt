package mqruntime

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.util.zip.GZIPInputStream

/**
 * The token table of a model.
 *
 * @param tokens entry i is token i.
 */
class Vocabulary(val tokens: List<String>) {
    /** Text of byte-level BPE tokens; bytes that are not UTF-8 become U+FFFD. */
    fun bpeText(tokens: Iterable<Int>): String {
        val bytes = ByteArrayOutputStream()
        for (token in tokens) for (unit in token(token)) BYTES[unit]?.let(bytes::write)
        return String(bytes.toByteArray(), Charsets.UTF_8)
    }

    /**
     * Text of pieces with U+2581 for spaces, one of which is dropped at the beginning.
     *
     * Of tokens <0x00> to <0xFF> those in a row are UTF-8; if not, each becomes U+FFFD.
     */
    fun byteFallbackText(tokens: Iterable<Int>): String =
        withBytes(tokens.map { token(it).replace('\u2581', ' ') }).removePrefix(" ")

    /**
     * Pieces in a row, those named <0x00> to <0xFF> as the bytes that they are.
     *
     * Rows of the model that the tokenizer has no token for are empty, and part no bytes.
     */
    private fun withBytes(pieces: List<String>): String {
        val text = StringBuilder()
        val bytes = ByteArrayOutputStream()
        for (piece in pieces.filter { it.isNotEmpty() }) {
            val byte = BYTE.matchEntire(piece)
            if (byte != null) bytes.write(byte.groupValues[1].toInt(16)) else text.append(utf8(bytes)).append(piece)
        }
        return text.append(utf8(bytes)).toString()
    }

    /** What the bytes so far spell; then there are none. */
    private fun utf8(bytes: ByteArrayOutputStream): String {
        val content = bytes.toByteArray()
        bytes.reset()
        return try {
            Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(content)).toString()
        } catch (_: CharacterCodingException) {
            "\ufffd".repeat(content.size)
        }
    }

    /** Text of CTC tokens, as transformers' tokenizers decode them. */
    fun ctcText(tokens: Iterable<Int>, settings: CtcSettings): String {
        val pieces = tokens.map { if (it == settings.wordDelimiter) " " else token(it) }
        val text = (if (settings.byteFallback) withBytes(pieces) else pieces.joinToString("")).trim()
        return if (settings.cleanUp) SPACED.fold(text) { found, spaced -> found.replace(spaced, spaced.trim()) } else text
    }

    private fun token(token: Int): String = tokens.getOrNull(token) ?: throw ModelError(
        "the model gives token $token, the vocabulary has ${tokens.size}; export the model again",
    )

    companion object {
        /** Of the unpacked JSON: five times Whisper's, and little enough to unpack anything. */
        const val MAX_BYTES = 1 shl 22

        /**
         * Read the bytes of a `vocabulary.json.gz`.
         *
         * @param content the file.
         * @param name what to call it in errors.
         * @throws ModelError not gzip, not JSON, not an array of strings, or over [MAX_BYTES].
         */
        fun parse(content: ByteArray, name: String): Vocabulary {
            val value = try {
                parseJson(unpack(content))
            } catch (error: IOException) {
                throw ModelError("$name: cannot be read (${firstLine(error)}); export or pack again")
            } catch (error: IllegalArgumentException) {
                throw ModelError("$name: cannot be read (${firstLine(error)}); export or pack again")
            }
            val tokens = (value as? List<*>)?.map { it as? String }
            if (tokens == null || null in tokens) {
                throw ModelError("$name: is not an array of strings; export or pack again")
            }
            return Vocabulary(tokens.filterNotNull())
        }

        /** Read the file `vocabulary.json.gz`; see [parse]. */
        fun read(path: File): Vocabulary = try {
            parse(path.readBytes(), path.toString())
        } catch (error: IOException) {
            throw ModelError("$path: cannot be read (${firstLine(error)})")
        }

        private fun unpack(content: ByteArray): ByteArray {
            val unpacked = ByteArrayOutputStream()
            val chunk = ByteArray(1 shl 16)
            GZIPInputStream(ByteArrayInputStream(content)).use { stream ->
                while (true) {
                    val count = stream.read(chunk)
                    if (count < 0) return unpacked.toByteArray()
                    unpacked.write(chunk, 0, count)
                    require(unpacked.size() <= MAX_BYTES) { "it has more than $MAX_BYTES bytes" }
                }
            }
        }

        /** What loses its spaces, in this order: transformers' `clean_up_tokenization`. */
        private val SPACED = listOf(" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")

        private val BYTE = Regex("<0x([0-9A-Fa-f]{2})>")
        private val BYTES = byteUnits()
        private val UNITS = BYTES.entries.associate { (unit, byte) -> byte to unit }

        /** Text as byte-level BPE spells it: one visible character a byte of UTF-8. */
        internal fun byteUnits(text: String): String =
            text.toByteArray().map { UNITS.getValue(it.toInt() and 0xFF) }.joinToString("")

        /**
         * Byte-level BPE writes every byte as one visible character (GPT-2's `vocab.json`).
         *
         * Bytes that print in Latin-1 stand for themselves; the others, in order, are U+0100 and up.
         */
        private fun byteUnits(): Map<Char, Int> {
            val visible = ('!'..'~') + ('¡'..'ÿ') - '\u00ad'
            val hidden = (0..255).filter { it.toChar() !in visible }
            return visible.associateWith { it.code } +
                hidden.withIndex().associate { (position, byte) -> (256 + position).toChar() to byte }
        }
    }
}
