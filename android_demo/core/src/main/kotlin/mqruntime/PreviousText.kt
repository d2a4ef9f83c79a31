package mqruntime

/**
 * Text before a window: the caller's prompt, and what was said in the windows before (Python's
 * `mqruntime.tasks.whisper.previous`).
 *
 * @param start the token that begins it.
 * @param room how many tokens may follow that.
 * @param prompt tokens of the caller's.
 * @param follows whether what is said is added.
 */
class PreviousText(
    private val start: Int = 0,
    room: Int = 0,
    prompt: List<Int> = emptyList(),
    private val follows: Boolean = false,
) {
    private val prompt = prompt.takeLast(maxOf(room, 0))
    private val left = maxOf(room, 0) - this.prompt.size
    private var said = emptyList<Int>()

    /** What comes before a window's own prompt; none for no text. */
    val tokens: List<Int>
        get() = (prompt + said).let { if (it.isEmpty()) it else listOf(start) + it }

    /** Take in what was said in a window, decoded at a temperature. */
    fun add(tokens: List<Int>, temperature: Double) {
        if (!follows) return
        said = if (temperature <= DOUBTED) (said + tokens).takeLast(left) else emptyList()
    }

    companion object {
        /** Temperature above which a text is no prompt for what follows. */
        private const val DOUBTED = 0.5

        /** Token before text that came earlier, at the beginning of a prompt. */
        private const val START_OF_PREVIOUS = "<|startofprev|>"

        /**
         * As the caller's options say.
         *
         * @param encoder of the model; made once, where there is a prompt.
         * @throws ModelError they ask for it, and the model has no token for it.
         */
        internal fun of(
            options: DecodingOptions,
            settings: WhisperSettings,
            vocabulary: Vocabulary,
            encoder: Lazy<BytePairEncoder>,
        ): PreviousText {
            val asked = if (!options.prompt.isNullOrEmpty()) "prompt" else "previousText"
            if (asked != "prompt" && !options.previousText) return PreviousText()
            val start = vocabulary.tokens.indexOf(START_OF_PREVIOUS)
            if (start < 0) {
                throw ModelError(
                    "the model has no token $START_OF_PREVIOUS, which text before a recording begins with; " +
                        "leave $asked out",
                )
            }
            val prompt = options.prompt.orEmpty().trim()
            val tokens = if (prompt.isEmpty()) emptyList() else encoder.value.encode(" $prompt")
            return PreviousText(start, settings.maxTokens / 2 - 1, tokens, options.previousText)
        }
    }
}
