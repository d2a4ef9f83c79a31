package mqruntime

import ai.onnxruntime.OnnxTensor

/** A Whisper model that says what a test tells it to, on onnxruntime's own tensors. */
object Told {
    // Tokens 0 to 5 are text, the rest as below; timestamps reach to 1500, 30 s.
    const val START = 6
    const val END = 7
    const val NO_TIMESTAMPS = 8
    const val NO_SPEECH = 10
    const val BEGIN = 12
    const val VOCABULARY = BEGIN + 1501
    const val WINDOW = 480_000
    const val RATE = 16_000
    private const val STEP = 320

    val settings = WhisperSettings(
        WINDOW, 40, START, END, NO_TIMESTAMPS, BEGIN, NO_SPEECH, null, null, emptyMap(), emptyList(), emptyList(),
    )

    /** Sound that stands out from silence before it. */
    val burst = FloatArray(10 * STEP) { if (it < 5 * STEP) 0f else 0.5f }

    /** Hands the window's samples on, so that the decoder knows where it is. */
    class Encoder : Graph {
        override fun run(feeds: Map<String, OnnxTensor>): Outputs {
            val pcm = feeds.getValue("pcm").floats()
            val frames = FloatArray(pcm.size / STEP) { pcm[it * STEP] }
            val tensors = listOf("cross_key_0", "cross_value_0")
                .associateWith { Session.tensor(frames, 1, 1, frames.size.toLong(), 1) }
            return Outputs(tensors) { tensors.values.forEach(OnnxTensor::close) }
        }
    }

    /** Calls `say` with the window's first sample and the tokens so far for the next logits. */
    class Decoder(private val prompt: Int = 1, private val say: (Float, List<Int>) -> FloatArray) : Graph {
        /** Outputs that nobody has closed yet, and most of them at a time. */
        var open = 0
            private set
        var mostOpen = 0
            private set

        /** What was fed with an empty cache, where it was more than one token. */
        val prompts = mutableListOf<List<Int>>()

        override fun run(feeds: Map<String, OnnxTensor>): Outputs {
            val fed = feeds.getValue("tokens").longBuffer
            val new = LongArray(fed.remaining()).also(fed::get)
            if (new.size > 1) prompts += new.map(Long::toInt)
            val past = feeds.getValue("past_key_0").floats() + FloatArray(new.size) { new[it].toFloat() }
            val first = feeds.getValue("cross_key_0").floats()[0]
            val tokens = past.map { it.toInt() }
            val rows = (tokens.size - new.size + 1..tokens.size).map { say(first, tokens.take(it).drop(prompt)) }
            val logits = FloatArray(rows.size * VOCABULARY) { rows[it / VOCABULARY][it % VOCABULARY] }
            val tensors = mapOf(
                "logits" to Session.tensor(logits, 1, rows.size.toLong(), VOCABULARY.toLong()),
                "present_key_0" to Session.tensor(past, 1, 1, past.size.toLong(), 1),
                "present_value_0" to Session.tensor(past, 1, 1, past.size.toLong(), 1),
            )
            open += 1
            mostOpen = maxOf(mostOpen, open)
            return Outputs(tensors) {
                open -= 1
                tensors.values.forEach(OnnxTensor::close)
            }
        }
    }

    fun recognizer(decoder: Decoder, settings: WhisperSettings = this.settings): Recognizer {
        val manifest = Manifest(
            "whisper", "transcribe", RATE, mapOf("encoder" to "encoder.onnx", "decoder" to "decoder.onnx"),
            "vocabulary.json.gz", emptyList(), 1, settings, null, emptyMap(), null,
        )
        val vocabulary = Vocabulary(listOf("a", "b", "c", "Ġd", "Ġe", "!") + List(6) { "<special>" })
        return Recognizer(manifest, mapOf("encoder" to Encoder(), "decoder" to decoder), vocabulary)
    }

    /** What a search needs, of silence. */
    fun <T> search(decoder: Decoder, onTokens: (List<Int>) -> Unit = {}, run: (DecodingContext) -> T): T =
        Whisper.encode(Encoder(), settings, FloatArray(1)).use { cross ->
            run(DecodingContext.ofWindow(decoder, settings, cross, listOf(START), timestamps = false, onTokens = onTokens))
        }

    fun certain(token: Int, confidence: Float = 20f) = FloatArray(VOCABULARY).also { it[token] = confidence }

    /** Nothing is likely but what is given. */
    fun only(vararg scores: Pair<Int, Float>) = FloatArray(VOCABULARY) { -50f }.also {
        for ((token, score) in scores) it[token] = score
    }

    /** Says a fixed text in each window, told apart by its first sample. */
    fun script(vararg texts: Pair<Float, List<Int>>): (Float, List<Int>) -> FloatArray = { first, tokens ->
        certain((texts.toMap().getValue(first) + END).let { it[minOf(tokens.size, it.size - 1)] })
    }

    /** The token of a time. */
    fun at(seconds: Double): Int = BEGIN + Math.rint(seconds / 0.02).toInt()

    fun pcm(seconds: Double, vararg marks: Pair<Int, Float>) = FloatArray(Math.rint(seconds * RATE).toInt()).also {
        for ((second, value) in marks) it[second * RATE] = value
    }
}
