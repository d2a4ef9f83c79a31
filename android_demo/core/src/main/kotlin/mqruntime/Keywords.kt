package mqruntime

import kotlin.math.exp

/** One label for a whole recording, or labels wherever they are heard in one. */
object Keywords {
    /** A label, the samples it was heard in, and the highest probability it had there. */
    data class Detection(val label: Int, val start: Int, val end: Int, val probability: Double)

    /** Softmax of logits [labels]. */
    fun probabilities(logits: FloatArray): DoubleArray {
        val highest = logits.max()
        val exponentials = DoubleArray(logits.size) { exp(logits[it].toDouble() - highest) }
        val sum = exponentials.sum()
        return DoubleArray(logits.size) { exponentials[it] / sum }
    }

    /** Index of the likeliest label of logits [labels], and its probability. */
    fun bestLabel(logits: FloatArray): Pair<Int, Double> {
        val best = logits.indexOfMax()
        return best to probabilities(logits)[best]
    }

    /**
     * Labels in a recording: a window slides over it, and neighbours that agree are one.
     *
     * @param run PCM [window] to logits [labels].
     * @param pcm filled up with zeros to a whole window.
     * @param window samples.
     * @param hop samples from one window to the next.
     * @param threshold least probability of a label to count.
     * @param ignored labels that mean that nothing was said.
     */
    fun sliding(
        run: (FloatArray) -> FloatArray,
        pcm: FloatArray,
        window: Int,
        hop: Int,
        threshold: Double,
        ignored: Set<Int> = emptySet(),
    ): List<Detection> {
        val found = ArrayList<Detection>()
        var current: Detection? = null
        for (start in 0 until maxOf(pcm.size - window + hop, 1) step hop) {
            val end = minOf(start + window, pcm.size)
            val (label, probability) = bestLabel(run(pcm.copyOfRange(start, end).copyOf(window)))
            val counts = probability >= threshold && label !in ignored
            if (current != null && counts && label == current.label && start <= current.end) {
                current = Detection(label, current.start, end, maxOf(probability, current.probability))
                continue
            }
            current?.let(found::add)
            current = if (counts) Detection(label, start, end, probability) else null
        }
        current?.let(found::add)
        return found
    }
}
