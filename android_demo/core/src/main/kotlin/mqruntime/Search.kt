package mqruntime

import ai.onnxruntime.OnnxTensor
import kotlin.math.exp
import kotlin.math.ln

/**
 * Tokens of a window, without prompt and end.
 *
 * @property logProbability mean over the tokens, the end included.
 * @property noSpeech probability that the window holds no speech; 0 if the model does not say.
 */
data class Decoded(val tokens: List<Int>, val logProbability: Double, val noSpeech: Double)

/**
 * What every search needs.
 *
 * @property cross from [Whisper.encode].
 * @property prompt from [Whisper.promptTokens].
 * @property timestamps whether the tokens have to follow the rules of timestamps.
 * @param onTokens called with the tokens so far before every step; may throw to end the search.
 */
class DecodingContext(
    val decoder: Graph,
    val settings: WhisperSettings,
    val cross: Map<String, OnnxTensor>,
    val prompt: List<Int>,
    val timestamps: Boolean,
    private val onTokens: (List<Int>) -> Unit = {},
) {
    /** How many tokens fit after the prompt. */
    val mostTokens: Int get() = settings.maxTokens - prompt.size

    /** Run the prompt: log-probabilities of the first token, the cache to close, and of no speech. */
    fun start(): Triple<DoubleArray, Whisper.Cache, Double> {
        onTokens(emptyList())
        val (logits, cache) = Whisper.emptyCache(cross).use { Whisper.decode(decoder, settings, prompt, cross, it) }
        val noSpeech = settings.noSpeech?.let { exp(logSoftmax(logits[0])[it]) } ?: 0.0
        return Triple(allowed(logits.last(), emptyList()), cache, noSpeech)
    }

    /** Run the last token: log-probabilities of the next, and the longer cache to close. */
    fun step(tokens: List<Int>, cache: Whisper.Cache): Pair<DoubleArray, Whisper.Cache> {
        onTokens(tokens)
        val (logits, grown) = Whisper.decode(decoder, settings, tokens.takeLast(1), cross, cache)
        return allowed(logits.last(), tokens) to grown
    }

    private fun allowed(logits: FloatArray, tokens: List<Int>): DoubleArray {
        val scores = Whisper.suppress(logits, settings, tokens)
        if (timestamps) Timestamps.applyTimestampRules(scores, settings, tokens)
        return logSoftmax(scores)
    }
}

/** Finding a likely text for one window: greedy, by drawing at random, or with several beams. */
object Search {
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
                if (token == context.settings.endOfText) break
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
        return Decoded(tokens, total / (tokens.size + 1), noSpeech)
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
                    if (next.token == context.settings.endOfText) {
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
