package mqruntime

/**
 * Text to tokens of byte-level BPE, as GPT-2's and Whisper's tokenizers encode it: Python's
 * `mqruntime.tasks.byte_pairs`, which says how.
 *
 * @param vocabulary the table.
 * @param text ids of its tokens of text.
 * @param words those of them that were added to a trained tokenizer: found before all others.
 * @throws ModelError a byte has no token, so that not every text can be spelled.
 */
class BytePairEncoder(vocabulary: Vocabulary, text: Iterable<Int>, words: Collection<Int> = emptyList()) {
    private val ids = HashMap<String, Int>()
    private val words = words.associateBy { vocabulary.bpeText(listOf(it)) }.filterKeys(String::isNotEmpty)
    private val added = this.words.keys.sortedByDescending(String::length)
        .joinToString("|") { Regex.escape(it) }.takeIf(String::isNotEmpty)?.toRegex()

    init {
        val isAdded = words.toSet()
        for (token in text) if (token !in isAdded) ids.putIfAbsent(vocabulary.tokens[token], token)
        for (byte in 0..127) {
            if (Vocabulary.byteUnits(byte.toChar().toString()) !in ids) {
                throw ModelError("the vocabulary has no token for the byte $byte: it is not byte-level BPE")
            }
        }
    }

    /** Token ids of a text; [Vocabulary.bpeText] of them is the text again. */
    fun encode(text: String): List<Int> {
        val tokens = ArrayList<Int>()
        var place = 0
        for (word in added?.findAll(text).orEmpty()) {
            spell(text.substring(place, word.range.first), tokens)
            tokens += words.getValue(word.value)
            place = word.range.last + 1
        }
        spell(text.substring(place), tokens)
        return tokens
    }

    private fun spell(text: String, tokens: MutableList<Int>) {
        for (piece in pieces(text)) {
            for (part in merged(Vocabulary.byteUnits(piece).map(Char::toString))) {
                tokens += ids[part] ?: throw ModelError("the vocabulary has no token for '$part'")
            }
        }
    }

    /** Always the pair that makes the token of the lowest id, wherever it is. */
    private fun merged(units: List<String>): List<String> {
        var parts = units
        while (true) {
            val pairs = parts.zipWithNext { left, right -> left + right }.toSet()
            val token = pairs.filter { it in ids }.minByOrNull(ids::getValue) ?: return parts
            val joined = ArrayList<String>()
            for (part in parts) {
                if (joined.isNotEmpty() && joined.last() + part == token) joined[joined.size - 1] = token else joined += part
            }
            parts = joined
        }
    }

    companion object {
        /** Whisper's. */
        fun of(vocabulary: Vocabulary, settings: WhisperSettings): BytePairEncoder =
            BytePairEncoder(vocabulary, vocabulary.tokens.indices.filter(settings::isText), settings.words)

        private val CONTRACTION = Regex("'(?:[sdmt]|ll|ve|re)")

        /** Over the kinds of characters: Letters, Numbers, white Space but the space, Others. */
        private val PIECE = Regex(" ?L+| ?N+| ?O+|[ S]+(?![^ S])|[ S]+")

        /** Text in the pieces over whose borders nothing is merged. */
        internal fun pieces(text: String): List<String> {
            // One kind a char: both halves of a character beyond the first 65,536 have its kind.
            val kinds = StringBuilder()
            var at = 0
            while (at < text.length) {
                val character = text.codePointAt(at)
                repeat(Character.charCount(character)) { kinds.append(kind(character)) }
                at += Character.charCount(character)
            }
            val found = ArrayList<String>()
            var place = 0
            while (place < text.length) {
                val match = CONTRACTION.matchAt(text, place) ?: PIECE.matchAt(kinds, place)!!
                found += text.substring(place, match.range.last + 1)
                place = match.range.last + 1
            }
            return found
        }

        private fun kind(character: Int): Char = when {
            character == ' '.code -> ' '
            character in WHITE_SPACE || Character.isSpaceChar(character) -> 'S'
            Character.isLetter(character) -> 'L'
            Character.getType(character).toByte() in NUMBERS -> 'N'
            else -> 'O'
        }

        /** Of Unicode's property White_Space what is no separator: tab to carriage return, next line. */
        private val WHITE_SPACE = setOf(0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85)
        private val NUMBERS = setOf(Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER)
    }
}
