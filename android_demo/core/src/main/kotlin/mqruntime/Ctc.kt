package mqruntime

import kotlin.math.exp
import kotlin.math.max
import kotlin.math.min

/** Greedy CTC decoding: Graves et al., "Connectionist Temporal Classification" (2006), 3.2. */
object Ctc {
    /** A token, the frames it takes up (`end` is the first one after it), and its probability. */
    data class Spoken(val token: Int, val start: Int, val end: Int, val probability: Double)

    /** Merge repeats, then drop blanks: two equal tokens remain only around a blank. */
    fun collapse(path: IntArray, blank: Int): List<Int> =
        path.filterIndexed { i, token -> token != blank && (i == 0 || path[i - 1] != token) }

    /** Tokens of the best path through logits [frames, vocabulary]. */
    fun greedy(logits: Array<FloatArray>, blank: Int): List<Int> =
        collapse(IntArray(logits.size) { logits[it].indexOfMax() }, blank)

    /** Tokens of the best path, with their frames; a probability is the highest in its frames. */
    fun spoken(logits: Array<FloatArray>, blank: Int): List<Spoken> {
        val path = IntArray(logits.size) { logits[it].indexOfMax() }
        val found = ArrayList<Spoken>()
        var start = 0
        for (end in 1..path.size) {
            if (end < path.size && path[end] == path[start]) continue
            if (path[start] != blank) {
                val probability = (start until end).maxOf { highestProbability(logits[it]) }
                found.add(Spoken(path[start], start, end, probability))
            }
            start = end
        }
        return found
    }

    /**
     * Group tokens into words.
     *
     * @param delimiter token between words, of none of them.
     * @param opens whether words begin with a token.
     */
    fun words(tokens: List<Spoken>, delimiter: Int?, opens: (Int) -> Boolean): List<List<Spoken>> {
        val found = ArrayList<List<Spoken>>()
        var first = 0
        for (i in 0..tokens.size) {
            val parts = i == tokens.size || tokens[i].token == delimiter
            if (!parts && !opens(tokens[i].token)) continue
            if (i > first) found.add(tokens.subList(first, i))
            first = if (parts) i + 1 else i
        }
        return found
    }

    /**
     * Logits of a long recording, computed piece by piece in bounded memory.
     *
     * Each piece is run with a margin on both sides, whose frames are dropped. A whole recording of at
     * most `piece` + 2 * `margin` samples is run at once.
     *
     * @param run PCM to logits [frames, vocabulary].
     * @param piece samples.
     * @param margin samples.
     * @return [frames, vocabulary]
     */
    fun logitsInPieces(
        run: (FloatArray) -> Array<FloatArray>,
        pcm: FloatArray,
        piece: Int,
        margin: Int,
    ): Array<FloatArray> {
        if (pcm.size <= piece + 2 * margin) return run(pcm)
        val rows = ArrayList<FloatArray>()
        for (start in pcm.indices step piece) {
            val stop = min(start + piece, pcm.size)
            val before = max(0, start - margin)
            val after = min(pcm.size, stop + margin)
            val logits = run(pcm.copyOfRange(before, after))
            val samplesPerFrame = (after - before).toDouble() / logits.size
            val first = Math.rint((start - before) / samplesPerFrame).toInt()
            val last = Math.rint((stop - before) / samplesPerFrame).toInt()
            rows += logits.slice(first until last)
        }
        return rows.toTypedArray()
    }

    private fun highestProbability(logits: FloatArray): Double {
        val highest = logits.max()
        return 1 / logits.sumOf { exp((it - highest).toDouble()) }
    }
}

/** Index of the greatest value, the first of equals, as numpy's argmax. */
internal fun FloatArray.indexOfMax(): Int {
    var best = 0
    for (i in 1 until size) if (this[i] > this[best]) best = i
    return best
}
