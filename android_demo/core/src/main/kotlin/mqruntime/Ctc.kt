package mqruntime

/** Greedy CTC decoding: Graves et al., "Connectionist Temporal Classification" (2006), 3.2. */
object Ctc {
    /** Merge repeats, then drop blanks: two equal tokens remain only around a blank. */
    fun collapse(path: IntArray, blank: Int): List<Int> =
        path.filterIndexed { i, token -> token != blank && (i == 0 || path[i - 1] != token) }

    /** Tokens of the best path through logits [frames, vocabulary]. */
    fun greedy(logits: Array<FloatArray>, blank: Int): List<Int> =
        collapse(IntArray(logits.size) { logits[it].indexOfMax() }, blank)
}

/** Index of the greatest value, the first of equals, as numpy's argmax. */
internal fun FloatArray.indexOfMax(): Int {
    var best = 0
    for (i in 1 until size) if (this[i] > this[best]) best = i
    return best
}
