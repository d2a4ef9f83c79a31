package mqruntime

import ai.onnxruntime.OnnxTensor
import java.io.ByteArrayOutputStream
import java.util.zip.DeflaterOutputStream
import kotlin.math.exp
import kotlin.math.ln

/**
 * Tokens of a text, without prompt and end.
 *
 * @property logProbability mean over the tokens, the end included.
 * @property noSpeech probability that there is no speech; 0 if the model does not say.
 */
data class Decoded(
    val tokens: List<Int>,
    val logProbability: Double,
    val noSpeech: Double,
    val temperature: Double = 0.0,
)

/**
 * What every search needs.
 *
 * @property settings the model's.
 * @property cross what the encoder made of the recording.
 * @property prompt tokens before the text.
 * @property mostTokens how many may follow.
 * @property ends tokens that end the text.
 * @param allowed scores of the next token, for its logits and the tokens so far.
 * @param noSpeech probability of no speech, for the logits after the token that begins the text.
 * @param onTokens called with the tokens so far before every step; may throw to end the search.
 * @param begins where in the prompt that token is.
 */
class DecodingContext(
    val decoder: Graph,
    val settings: NamesTokens,
    val cross: Map<String, OnnxTensor>,
    val prompt: List<Int>,
    val mostTokens: Int,
    val ends: Collection<Int>,
    private val allowed: (FloatArray, List<Int>) -> FloatArray,
    private val noSpeech: (FloatArray) -> Double = { 0.0 },
    private val onTokens: (List<Int>) -> Unit = {},
    private val begins: Int = 0,
) {
    /** Run the prompt: log-probabilities of the first token, the cache to close, and of no speech. */
    fun start(): Triple<DoubleArray, Whisper.Cache, Double> {
        onTokens(emptyList())
        val (logits, cache) = Whisper.emptyCache(cross).use { Whisper.decode(decoder, settings, prompt, cross, it) }
        return Triple(logSoftmax(allowed(logits.last(), emptyList())), cache, noSpeech(logits[begins]))
    }

    /** Run the last token: log-probabilities of the next, and the longer cache to close. */
    fun step(tokens: List<Int>, cache: Whisper.Cache): Pair<DoubleArray, Whisper.Cache> {
        onTokens(tokens)
        val (logits, grown) = Whisper.decode(decoder, settings, tokens.takeLast(1), cross, cache)
        return logSoftmax(allowed(logits.last(), tokens)) to grown
    }

    companion object {
        /**
         * The context of one of Whisper's windows.
         *
         * @param cross from [Whisper.encode].
         * @param prompt from [Whisper.promptTokens].
         * @param timestamps whether the tokens have to follow the rules of timestamps.
         */
        fun ofWindow(
            decoder: Graph,
            settings: WhisperSettings,
            cross: Map<String, OnnxTensor>,
            prompt: List<Int>,
            timestamps: Boolean,
            onTokens: (List<Int>) -> Unit = {},
        ) = DecodingContext(
            decoder,
            settings,
            cross,
            prompt,
            settings.maxTokens - prompt.size,
            listOf(settings.endOfText),
            { logits, tokens ->
                Whisper.suppress(logits, settings, tokens).also {
                    if (timestamps) Timestamps.applyTimestampRules(it, settings, tokens)
                }
            },
            { logits -> settings.noSpeech?.let { exp(logSoftmax(logits)[it]) } ?: 0.0 },
            onTokens,
            prompt.indexOf(settings.startOfTranscript),
        )
    }
}

/** Finding a likely text for one recording: greedy, by drawing at random, or with several beams. */
object Search {
    /**
     * Decode at one temperature after the other until the text is good, or none is left.
     *
     * @param temperatures to try in turn.
     * @param text of tokens.
     */
    fun search(
        context: DecodingContext,
        options: DecodingOptions,
        temperatures: List<Double>,
        text: (List<Int>) -> String,
    ): Decoded {
        var decoded: Decoded? = null
        for (temperature in temperatures) {
            decoded = if (temperature == 0.0 && options.beamSize > 1) {
                beamSearch(context, options.beamSize)
            } else {
                sample(context, temperature)
            }
            if (isSilence(decoded, options)) break
            val ratio = compressionRatio(text(decoded.tokens))
            val isLikely = decoded.logProbability >= options.logprobThreshold
            if (isLikely && ratio <= options.compressionRatioThreshold) break
        }
        return checkNotNull(decoded) // DecodingOptions holds a temperature
    }

    /** Whisper's rule: it doubts that there is speech, and doubts the text too. */
    fun isSilence(decoded: Decoded, options: DecodingOptions): Boolean {
        val isUnlikely = decoded.logProbability < options.logprobThreshold
        return isUnlikely && decoded.noSpeech > options.noSpeechThreshold
    }

    /** How many times smaller zlib makes a text: large where it repeats itself. */
    fun compressionRatio(text: String): Double {
        val encoded = text.toByteArray()
        val compressed = ByteArrayOutputStream()
        DeflaterOutputStream(compressed).use { it.write(encoded) }
        return encoded.size.toDouble() / compressed.size()
    }

    /** Token after token: the likeliest, or one drawn at random if `temperature` is above 0. */
    fun sample(context: DecodingContext, temperature: Double): Decoded {
        val draws = Draws()
        val tokens = ArrayList<Int>()
        var total = 0.0
        var (scores, cache, noSpeech) = context.start()
        try {
            while (true) {
                val token = draw(scores, temperature, draws)
                total += scores[token]
                if (token in context.ends) break
                tokens.add(token)
                if (tokens.size >= context.mostTokens) break
                val (next, grown) = context.step(tokens, cache)
                cache.close()
                scores = next
                cache = grown
            }
        } finally {
            cache.close()
        }
        return Decoded(tokens, total / (tokens.size + 1), noSpeech, temperature)
    }

    private class Beam(val tokens: List<Int>, val total: Double, val scores: DoubleArray, val cache: Whisper.Cache)

    private class Continuation(val total: Double, val beam: Beam, val token: Int)

    /**
     * Follow the `beamSize` likeliest beginnings until as many have ended.
     *
     * Each beam is a decoder run of its own: memory grows by a cache a beam, and no more. The result
     * has the highest mean log-probability of a token.
     */
    fun beamSearch(context: DecodingContext, beamSize: Int): Decoded {
        val (scores, cache, noSpeech) = context.start()
        var active = listOf(Beam(emptyList(), 0.0, scores, cache))
        val ended = ArrayList<Pair<Double, List<Int>>>()
        try {
            for (length in 1..context.mostTokens) {
                val grown = ArrayList<Continuation>()
                for (next in continuations(active, beamSize)) {
                    if (next.token in context.ends) {
                        ended.add(next.total / length to next.beam.tokens)
                    } else {
                        grown.add(next)
                    }
                    if (grown.size == beamSize) break
                }
                if (ended.size >= beamSize || grown.isEmpty()) break
                active = grow(context, active, grown, length < context.mostTokens)
            }
        } finally {
            active.forEach { it.cache.close() }
        }
        if (ended.size < beamSize) { // the room was used up
            active.mapTo(ended) { it.total / (it.tokens.size + 1) to it.tokens }
        }
        val (logProbability, tokens) = ended.maxBy { it.first }
        return Decoded(tokens, logProbability, noSpeech)
    }

    /** The next beams; the old ones' caches are closed. Without `step` there is no room for more. */
    private fun grow(
        context: DecodingContext,
        active: List<Beam>,
        grown: List<Continuation>,
        step: Boolean,
    ): List<Beam> {
        if (!step) return grown.map { Beam(it.beam.tokens + it.token, it.total, it.beam.scores, it.beam.cache) }
        val next = ArrayList<Beam>()
        try {
            for (found in grown) {
                val tokens = found.beam.tokens + found.token
                val (scores, cache) = context.step(tokens, found.beam.cache)
                next.add(Beam(tokens, found.total, scores, cache))
            }
        } catch (error: Throwable) {
            next.forEach { it.cache.close() }
            throw error
        }
        active.forEach { it.cache.close() }
        return next
    }

    /** Every beam with its likeliest next tokens, likeliest first. */
    private fun continuations(active: List<Beam>, beamSize: Int): List<Continuation> {
        val found = ArrayList<Continuation>()
        for (beam in active) {
            for (token in likeliest(beam.scores, beamSize + 1)) {
                if (beam.scores[token].isFinite()) found.add(Continuation(beam.total + beam.scores[token], beam, token))
            }
        }
        return found.sortedByDescending { it.total }
    }

    /** Indices of the greatest values; of equal ones the first, where numpy takes any. */
    private fun likeliest(scores: DoubleArray, count: Int): List<Int> {
        val best = ArrayList<Int>(count + 1) // greatest first
        for (token in scores.indices) {
            if (best.size == count && scores[token] <= scores[best[count - 1]]) continue
            var at = best.size
            while (at > 0 && scores[token] > scores[best[at - 1]]) at -= 1
            best.add(at, token)
            if (best.size > count) best.removeAt(count)
        }
        return best
    }

    private fun draw(scores: DoubleArray, temperature: Double, draws: Draws): Int {
        if (temperature == 0.0) return scores.indexOfMax()
        val probabilities = logSoftmax(DoubleArray(scores.size) { scores[it] / temperature })
        for (i in probabilities.indices) probabilities[i] = exp(probabilities[i])
        return choice(probabilities, draws.next())
    }

    /** The index that numpy's `Generator.choice` takes at `draw`: where the sum of all before passes it. */
    private fun choice(probabilities: DoubleArray, draw: Double): Int {
        val sum = probabilities.sum()
        val sums = DoubleArray(probabilities.size)
        var total = 0.0
        for (i in sums.indices) {
            total += probabilities[i] / sum
            sums[i] = total
        }
        return sums.indices.firstOrNull { sums[it] / total > draw }
            ?: throw ModelError("the model gives logits that are no numbers; export the model again")
    }
}

internal fun logSoftmax(scores: FloatArray): DoubleArray = logSoftmax(DoubleArray(scores.size) { scores[it].toDouble() })

internal fun logSoftmax(scores: DoubleArray): DoubleArray {
    val highest = scores.max()
    var sum = 0.0
    for (score in scores) sum += exp(score - highest)
    val logarithm = ln(sum)
    return DoubleArray(scores.size) { scores[it] - highest - logarithm }
}

/** Index of the greatest value, the first of equals, as numpy's argmax. */
private fun DoubleArray.indexOfMax(): Int {
    var best = 0
    for (i in 1 until size) if (this[i] > this[best]) best = i
    return best
}
