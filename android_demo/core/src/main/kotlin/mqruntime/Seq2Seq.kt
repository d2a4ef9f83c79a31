package mqruntime

import kotlin.math.max
import kotlin.math.min

/**
 * Token ids and limits that decoding of task `seq2seq` needs, and how tokens spell text; see
 * `mqruntime/bundle/seq2seq_settings.py`.
 *
 * @property start tokens before every text.
 * @property end tokens that end a text.
 * @property suppress token ids never produced.
 * @property suppressAtBegin token ids not produced as the first token after `start`.
 * @property special token ids that are no text.
 * @property spelling `byte_fallback` or `byte_level`.
 * @property maxTokens most tokens, `start` included.
 * @property tokensPerSecond most tokens a second of the recording, `start` included.
 * @property window samples that the model is given at once, at most.
 */
data class Seq2SeqSettings(
    val start: List<Int>,
    val end: List<Int>,
    val suppress: List<Int>,
    val suppressAtBegin: List<Int>,
    val special: List<Int>,
    val spelling: String,
    val maxTokens: Int,
    val tokensPerSecond: Double,
    val window: Int,
) : NamesTokens {
    private val unspoken: Set<Int> = special.toHashSet()

    /** Every token id that is named here. */
    val tokens: List<Int> get() = start + end + suppress + suppressAtBegin + special

    override val highestToken: Int by lazy { tokens.max() }

    /** Whether a token is text. */
    fun isText(token: Int): Boolean = token !in unspoken

    /** How many tokens may follow `start` for so many samples; one for the shortest sound. */
    fun mostTokens(samples: Int, rate: Int): Int =
        max(min(maxTokens, (samples * tokensPerSecond / rate).toInt()) - start.size, 1)

    /** Check what the types do not say; throws IllegalArgumentException. */
    fun check(sampleRate: Int, minSamples: Int) {
        require(start.isNotEmpty()) { "seq2seq.start is empty; a text begins with a token" }
        require(maxTokens in start.size + 1..(1 shl 16)) {
            "seq2seq.max_tokens is $maxTokens, not ${start.size + 1} to ${1 shl 16}"
        }
        require(tokensPerSecond > 0 && tokensPerSecond <= 1000) {
            "seq2seq.tokens_per_second is $tokensPerSecond, not up to 1000"
        }
        require(window in minSamples..600 * sampleRate) {
            "seq2seq.window is $window, not min_samples to ten minutes' samples"
        }
        require(tokens.min() >= 0) { "seq2seq names the token ${tokens.min()}" }
    }

    companion object {
        const val BYTE_FALLBACK = "byte_fallback"
        const val BYTE_LEVEL = "byte_level"

        internal fun of(fields: Fields) = Seq2SeqSettings(
            fields.ints("start"),
            fields.ints("end"),
            fields.ints("suppress"),
            fields.ints("suppress_at_begin"),
            fields.ints("special"),
            fields.choice("spelling", listOf(BYTE_FALLBACK, BYTE_LEVEL)),
            fields.int("max_tokens"),
            fields.double("tokens_per_second"),
            fields.int("window"),
        ).also { fields.done() }
    }
}

/**
 * An encoder and a decoder that writes a text token by token, without Whisper's ways: Moonshine.
 *
 * The encoder is given as many samples as there are. Of a recording that is too long for it, it is given
 * pieces, cut where it is quiet; each is a segment. A text has at most so many tokens as its sound is
 * long. Where nothing stands out from the background there is no text, unless
 * [DecodingOptions.noSpeechThreshold] is infinite. Beams, temperatures and their thresholds are as
 * Whisper's; there are no timestamps.
 *
 * @param onText called with the text so far before every step; may throw to end the work.
 */
class Seq2Seq(
    graphs: Map<String, Graph>,
    private val manifest: Manifest,
    private val vocabulary: Vocabulary,
    private val options: DecodingOptions,
    private val onText: (String) -> Unit,
) {
    private val encoder = graphs.getValue("encoder")
    private val decoder = graphs.getValue("decoder")
    private val settings = manifest.seq2seq ?: throw ManifestError("a seq2seq model needs `seq2seq`")

    /** Recognize PCM that lasts `seconds`. */
    fun transcribe(pcm: FloatArray, seconds: Double): Result {
        val rate = manifest.sampleRate
        val timings = linkedMapOf("encoder" to 0.0, "decoder" to 0.0)
        val segments = ArrayList<Segment>()
        for (at in pieces(pcm, settings.window, rate)) {
            val said = joined(segments)
            onText(said)
            val piece = pcm.copyOfRange(at.first, at.last + 1)
            if (options.noSpeechThreshold.isFinite() && !Background.standsOut(piece, rate)) continue
            val started = System.nanoTime()
            encode(encoder, manifest, piece).use { cross ->
                val encoded = System.nanoTime()
                val decoded = Search.search(context(cross, piece.size, said), options, temperatures, ::text)
                timings["encoder"] = timings.getValue("encoder") + (encoded - started) / 1e9
                timings["decoder"] = timings.getValue("decoder") + (System.nanoTime() - encoded) / 1e9
                val start = milliseconds(at.first.toDouble() / rate)
                val end = milliseconds(min((at.last + 1).toDouble() / rate, seconds))
                segments += Segment(start, end, text(decoded.tokens).trim(), decoded.tokens, decoded.logProbability)
            }
        }
        val text = joined(segments)
        onText(text)
        return Result(text, segments.flatMap { it.tokens }, null, seconds, timings, segments = segments)
    }

    private val temperatures get() = options.temperature ?: listOf(0.0)

    private fun context(cross: Outputs, samples: Int, said: String) = DecodingContext(
        decoder,
        settings,
        cross,
        settings.start,
        settings.mostTokens(samples, manifest.sampleRate),
        settings.end,
        ::allowed,
        onTokens = { onText(listOf(said, text(it).trim()).filter(String::isNotEmpty).joinToString(" ")) },
    )

    private fun allowed(logits: FloatArray, tokens: List<Int>): FloatArray {
        val scores = logits.copyOf()
        for (token in settings.suppress) scores[token] = Float.NEGATIVE_INFINITY
        if (tokens.isEmpty()) for (token in settings.suppressAtBegin) scores[token] = Float.NEGATIVE_INFINITY
        return scores
    }

    private fun text(tokens: List<Int>): String {
        val spelled = tokens.filter(settings::isText)
        if (settings.spelling == Seq2SeqSettings.BYTE_LEVEL) return vocabulary.bpeText(spelled)
        return vocabulary.byteFallbackText(spelled)
    }

    companion object {
        private const val FRAME_SECONDS = 0.02
        private const val PAUSE_FRAMES = 10 // a pause between words and not within one

        private fun joined(segments: List<Segment>): String =
            segments.map { it.text }.filter(String::isNotEmpty).joinToString(" ")

        /** Cross-attention keys and values, for the caller to close. */
        fun encode(encoder: Graph, manifest: Manifest, pcm: FloatArray): Outputs {
            val padded = if (pcm.size < manifest.minSamples) pcm.copyOf(manifest.minSamples) else pcm
            return Whisper.checkedCross(
                Session.tensor(padded, 1, padded.size.toLong()).use { encoder.run(mapOf("pcm" to it)) },
            )
        }

        /**
         * Samples of pieces of PCM: all of it, at most `longest` each.
         *
         * A piece that is not the last ends in the quietest frame of 20 ms of the quietest fifth of a
         * second in the last third of what it may be.
         */
        fun pieces(pcm: FloatArray, longest: Int, rate: Int): List<IntRange> {
            val found = ArrayList<IntRange>()
            var at = 0
            while (pcm.size - at > longest) {
                val length = quietest(pcm, at, longest, rate)
                found += at until at + length
                at += length
            }
            return found.apply { add(at until pcm.size) }
        }

        private fun quietest(pcm: FloatArray, at: Int, longest: Int, rate: Int): Int {
            val length = Math.rint(rate * FRAME_SECONDS).toInt()
            val first = (longest.toLong() * 2 / 3).toInt()
            val count = (longest - first) / length
            if (count < PAUSE_FRAMES) return longest
            val power = DoubleArray(count) { frame ->
                var sum = 0.0
                val start = at + first + frame * length
                for (i in start until start + length) sum += pcm[i].toDouble() * pcm[i]
                sum
            }
            val pause = (0..count - PAUSE_FRAMES).minBy { power.slice(it until it + PAUSE_FRAMES).sum() }
            val quietest = (pause until pause + PAUSE_FRAMES).minBy { power[it] }
            return first + quietest * length + length / 2
        }
    }
}
