package mqruntime

import ai.onnxruntime.OnnxTensor
import kotlin.math.exp
import kotlin.math.max
import kotlin.math.min

/**
 * Token ids and limits that decoding of transducers needs; see `mqruntime/bundle/transducer_settings.py`.
 *
 * @property blank token that is no text, and after which the prediction stays as it is.
 * @property start token that the prediction network is given before any other.
 * @property end tokens that end a text; often none.
 * @property special token ids that are no text.
 * @property durations frames that each of the joint network's durations stands for; empty for RNN-T.
 * @property maxSymbols RNN-T: so many tokens one after the other that are no blank are followed by the
 *     next frame. For every model, so many times the frames, less one, are most steps.
 * @property byteFallback as of [CtcSettings].
 * @property layers of the prediction network; each has a hidden and a cell state.
 * @property size of these states and of what goes into the joint network.
 * @property hop samples from one frame to the next.
 * @property window samples that the model is given at once, at most.
 */
data class TransducerSettings(
    val blank: Int,
    val start: Int,
    val end: List<Int>,
    val special: List<Int>,
    val durations: List<Int>,
    val maxSymbols: Int,
    val byteFallback: Boolean,
    val layers: Int,
    val size: Int,
    val hop: Int,
    val window: Int,
) {
    private val unspoken: Set<Int> = special.toHashSet() + blank

    /** Of all token ids that are named here. */
    val highestToken: Int by lazy { tokens.max() }

    private val tokens get() = listOf(blank, start) + end + special

    /** Whether a token is text. */
    fun isText(token: Int): Boolean = token !in unspoken

    /** How often the joint network may be asked about so many samples, at least once. */
    fun mostSteps(samples: Int): Long = max(maxSymbols * (samples / hop + 1L) - 1, 1)

    /** Check what the types do not say; throws IllegalArgumentException. */
    fun check(sampleRate: Int, minSamples: Int) {
        val wrong = durations.find { it !in 0..LONGEST_DURATION }
        require(wrong == null) { "transducer.durations names $wrong, not 0 to $LONGEST_DURATION" }
        for ((name, value, range) in listOf(
            Triple("durations' number", durations.size, 0..MOST_DURATIONS),
            Triple("max_symbols", maxSymbols, 1..MOST_SYMBOLS),
            Triple("layers", layers, 1..MOST_LAYERS),
            Triple("size", size, 1..MOST_WIDTH),
            Triple("hop", hop, 1..sampleRate),
            Triple("window", window, minSamples..600 * sampleRate),
        )) require(value in range) { "transducer.$name is $value, not ${range.first} to ${range.last}" }
        require(tokens.min() >= 0) { "transducer names the token ${tokens.min()}" }
    }

    companion object {
        private const val MOST_WIDTH = 1 shl 14
        private const val MOST_LAYERS = 64
        private const val MOST_SYMBOLS = 1 shl 10
        private const val MOST_DURATIONS = 256
        private const val LONGEST_DURATION = 1 shl 10

        internal fun of(fields: Fields) = TransducerSettings(
            fields.int("blank"),
            fields.int("start"),
            fields.ints("end"),
            fields.ints("special"),
            fields.ints("durations"),
            fields.int("max_symbols"),
            fields.boolean("byte_fallback"),
            fields.int("layers"),
            fields.int("size"),
            fields.int("hop"),
            fields.int("window"),
        ).also { fields.done() }
    }
}

/**
 * Transducers: Parakeet, RNN-T (arXiv 1211.3711) and TDT (arXiv 2304.06795), decoded greedily.
 *
 * An encoder gives a frame for every so many samples. The joint network tells from a frame and from what
 * the prediction network makes of the tokens so far which token is next. After a blank the prediction
 * stays as it is, and RNN-T goes to the next frame; TDT is told with every token how many frames to go
 * on, at least one after a blank. A token takes up the frames that TDT goes on with it, with RNN-T one;
 * with TDT punctuation is where the token before it ends. Segments are words. Long recordings are given
 * in pieces, cut where it is quiet.
 *
 * @param onText called with the text so far before every step; may throw to end the work.
 * @throws ModelError `options` are not greedy.
 */
class Transducer(
    graphs: Map<String, Graph>,
    private val manifest: Manifest,
    private val vocabulary: Vocabulary,
    options: DecodingOptions,
    private val onText: (String) -> Unit,
) {
    private val encoder = graphs.getValue("encoder")
    private val predictor = graphs.getValue("predictor")
    private val joint = graphs.getValue("joint")
    private val settings = manifest.transducer ?: throw ManifestError("a transducer needs `transducer`")
    private val spelling = CtcSettings(settings.blank, null, false, settings.byteFallback)

    init {
        if (options.beamSize > 1) {
            throw ModelError("beamSize is ${options.beamSize}; transducers are decoded greedily, by 1")
        }
        if (options.temperature.orEmpty().any { it > 0 }) {
            throw ModelError("temperature is ${options.temperature}; transducers are decoded greedily, at 0")
        }
    }

    /** What the prediction network makes of the tokens so far; arrays of [TransducerSettings.size]. */
    private class Prediction(val value: FloatArray, val states: Map<String, FloatArray>)

    /** Recognize PCM that lasts `seconds`. */
    fun transcribe(pcm: FloatArray, seconds: Double): Result {
        val rate = manifest.sampleRate
        val timings = linkedMapOf("encoder" to 0.0, "decoder" to 0.0)
        val texts = ArrayList<String>()
        val said = ArrayList<Int>()
        val segments = ArrayList<Segment>()
        for (at in Seq2Seq.pieces(pcm, settings.window, rate)) {
            onText(texts.joinToString(" "))
            val piece = pcm.copyOfRange(at.first, at.last + 1)
            val started = System.nanoTime()
            val frames = encode(encoder, manifest, piece).use { it.getValue("frames").rows() }
            val encoded = System.nanoTime()
            val found = decode(frames, piece.size, texts)
            timings["encoder"] = timings.getValue("encoder") + (encoded - started) / 1e9
            timings["decoder"] = timings.getValue("decoder") + (System.nanoTime() - encoded) / 1e9
            val words = Ctc.words(placed(found), null) { vocabulary.tokens.getOrNull(it)?.startsWith(" ") == true }
            segments += words.map { segment(it, at.first, seconds) }.filter { it.text.isNotEmpty() }
            val spelled = found.map { it.token }
            text(spelled).let { if (it.isNotEmpty()) texts += it }
            said += spelled
        }
        val text = texts.joinToString(" ")
        onText(text)
        return Result(text, said, null, seconds, timings, segments = segments)
    }

    /** Greedy decoding: tokens that are text, and the frames that they take up. */
    private fun decode(frames: Array<FloatArray>, samples: Int, before: List<String>): List<Ctc.Spoken> {
        val found = ArrayList<Ctc.Spoken>()
        var prediction = predict(settings.start, noStates())
        var place = 0
        var symbols = 0
        for (step in 0 until settings.mostSteps(samples)) {
            onText((before + text(found.map { it.token })).filter(String::isNotEmpty).joinToString(" "))
            val (logits, durations) = join(frames[place], prediction.value)
            val token = logits.indexOfMax()
            val isBlank = token == settings.blank
            symbols = if (isBlank) 0 else symbols + 1
            val ahead: Int
            val span: Int
            if (durations == null) {
                ahead = if (isBlank || symbols >= settings.maxSymbols) 1 else 0
                span = 1
                if (ahead > 0) symbols = 0
            } else {
                val chosen = settings.durations[durations.indexOfMax()]
                ahead = if (isBlank) max(chosen, 1) else chosen
                span = ahead
            }
            if (settings.isText(token)) found += Ctc.Spoken(token, place, place + span, probability(logits, token))
            place += ahead
            if (place >= frames.size || token in settings.end) break
            if (!isBlank) prediction = predict(token, prediction.states)
        }
        return found
    }

    private fun noStates(): Map<String, FloatArray> = (0 until settings.layers).flatMap { layer ->
        listOf("hidden", "cell").map { "past_${it}_$layer" to FloatArray(settings.size) }
    }.toMap()

    private fun predict(token: Int, states: Map<String, FloatArray>): Prediction {
        val size = settings.size.toLong()
        val fed = states.mapValuesTo(HashMap<String, OnnxTensor>()) { (_, values) -> Session.tensor(values, 1, 1, size) }
        fed["tokens"] = Session.tensor(longArrayOf(token.toLong()), 1, 1)
        return closing(fed) {
            predictor.run(fed).use { outputs ->
                val grown = states.mapValues { (name, _) ->
                    checkedOutput(outputs, name.replaceFirst("past_", "present_"), 1, 1, size).floats()
                }
                Prediction(checkedOutput(outputs, "prediction", 1, 1, size).floats(), grown)
            }
        }
    }

    /** Logits of tokens, and of durations; null for RNN-T. */
    private fun join(frame: FloatArray, prediction: FloatArray): Pair<FloatArray, FloatArray?> {
        val size = settings.size.toLong()
        val fed = mapOf("frame" to frame, "prediction" to prediction).mapValues { Session.tensor(it.value, 1, 1, size) }
        return closing(fed) {
            joint.run(fed).use { outputs ->
                val logits = checkedOutput(outputs, "logits", 1, 1, null).floats()
                if (settings.highestToken >= logits.size) {
                    throw ModelError(
                        "model.json names the token ${settings.highestToken}, the model gives logits of " +
                            "${logits.size}; export the model again",
                    )
                }
                val count = settings.durations.size.toLong()
                logits to if (count == 0L) null else checkedOutput(outputs, "durations", 1, 1, count).floats()
            }
        }
    }

    private inline fun <T> closing(fed: Map<String, OnnxTensor>, work: () -> T): T = try {
        work()
    } finally {
        fed.values.forEach(OnnxTensor::close)
    }

    private fun probability(logits: FloatArray, token: Int): Double =
        1 / logits.sumOf { exp((it - logits[token]).toDouble()) }

    /** The same, punctuation of TDT where the token before it ends. */
    private fun placed(spoken: List<Ctc.Spoken>): List<Ctc.Spoken> {
        val found = ArrayList<Ctc.Spoken>()
        for (item in spoken) {
            val end = found.lastOrNull()?.end
            val moves = settings.durations.isNotEmpty() && vocabulary.tokens.getOrNull(item.token) in PUNCTUATION
            found += if (moves && end != null) item.copy(start = end, end = end) else item
        }
        return found
    }

    /** A word's; `at` is the sample that the first frame begins with. */
    private fun segment(word: List<Ctc.Spoken>, at: Int, recorded: Double): Segment {
        val (start, end) = listOf(word.first().start, word.last().end).map {
            milliseconds(min((at + it.toLong() * settings.hop).toDouble() / manifest.sampleRate, recorded))
        }
        val tokens = word.map { it.token }
        return Segment(start, end, text(tokens), tokens, word.sumOf { it.probability } / word.size)
    }

    private fun text(tokens: List<Int>): String = vocabulary.ctcText(tokens, spelling)

    companion object {
        /** What transformers' ParakeetProcessor lets begin and end where the token before it ends. */
        private val PUNCTUATION = "?'¡¿-:,%/.!".map(Char::toString).toSet()

        /** Frames, `frames` [1, frames, size], for the caller to close. */
        fun encode(encoder: Graph, manifest: Manifest, pcm: FloatArray): Outputs {
            val size = manifest.transducer!!.size.toLong()
            val padded = if (pcm.size < manifest.minSamples) pcm.copyOf(manifest.minSamples) else pcm
            val outputs = Session.tensor(padded, 1, padded.size.toLong()).use { encoder.run(mapOf("pcm" to it)) }
            try {
                checkedOutput(outputs, "frames", 1, null, size)
            } catch (error: ModelError) {
                outputs.close()
                throw error
            }
            return outputs
        }
    }
}
