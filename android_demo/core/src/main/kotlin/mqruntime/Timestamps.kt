package mqruntime

import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.min

/**
 * Whisper's timestamp tokens: what may follow what, and cutting text at them.
 *
 * Token `timestampBegin` + n stands for n * 0.02 s from the start of the window (Radford et al.,
 * "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), section 2.3). A phrase is a
 * start, text tokens and an end; the next phrase's start follows its end. Text that ends without an
 * end goes on in the next window.
 */
object Timestamps {
    /** Between two timestamps: one position of the encoder. */
    const val SECONDS = 0.02

    private const val LATEST_START = 50 // no text starts later than one second into a window

    /** Text tokens between two timestamps, in timestamp steps from the start of the window. */
    data class Phrase(val start: Int, val end: Int, val tokens: List<Int>)

    /**
     * Set the scores of tokens that cannot come next to minus infinity.
     *
     * @param scores logits [vocabulary], changed in place.
     * @param tokens so far, without the prompt.
     */
    fun applyTimestampRules(scores: FloatArray, settings: WhisperSettings, tokens: List<Int>) {
        val begin = settings.timestampBegin
        val endOfText = settings.endOfText
        forbid(scores, endOfText + 1, begin) // languages, tasks, noTimestamps, ...
        if (tokens.isEmpty()) {
            forbid(scores, 0, begin)
            forbid(scores, begin + LATEST_START + 1, scores.size)
            return
        }
        val isTime = tokens.last() >= begin
        val isStart = isTime && (tokens.size < 2 || tokens[tokens.size - 2] >= begin)
        if (isStart) {
            forbid(scores, begin, scores.size) // text follows
        } else if (isTime) {
            forbid(scores, 0, endOfText) // an end: the next start, or the end of everything
        }
        val latest = tokens.lastOrNull { it >= begin }
        if (latest != null) forbid(scores, begin, latest + if (isTime && !isStart) 0 else 1)
        preferTimestamps(scores, begin)
    }

    /** If all timestamps together are likelier than any one other token, it is a timestamp. */
    private fun preferTimestamps(scores: FloatArray, begin: Int) {
        val highest = highest(scores, begin, scores.size)
        if (!highest.isFinite()) return
        var sum = 0.0
        for (i in begin until scores.size) sum += exp((scores[i] - highest).toDouble())
        val together = highest + ln(sum).toFloat() // in the logits' own precision, as in Python
        if (together > highest(scores, 0, begin)) forbid(scores, 0, begin)
    }

    /**
     * Cut a window's tokens into phrases.
     *
     * @param tokens decoded, without prompt and end.
     * @param length of the recording in this window, in timestamp steps.
     * @return the phrases, and where the next window should start: where the last complete phrase
     *     ended, or `length` if nothing is left over.
     */
    fun phrases(settings: WhisperSettings, tokens: List<Int>, length: Int): Pair<List<Phrase>, Int> {
        val begin = settings.timestampBegin
        val isTime = tokens.map { it >= begin }
        val cuts = (1 until tokens.size).filter { isTime[it - 1] && isTime[it] }
        val complete = isTime.takeLast(2) == listOf(false, true)
        if (cuts.isEmpty()) {
            val last = tokens.drop(1).lastOrNull { it >= begin }
            val end = if (last == null) length else min(last - begin, length)
            val start = if (tokens.isNotEmpty() && isTime[0]) tokens[0] - begin else 0
            return listOf(Phrase(min(start, end), end, text(settings, tokens))) to length
        }
        val ends = if (complete) cuts + tokens.size else cuts
        val found = (listOf(0) + cuts).zip(ends) { first, last ->
            val part = tokens.subList(first, last)
            Phrase(part.first() - begin, part.last() - begin, text(settings, part))
        }
        return found to if (complete) length else min(found.last().end, length)
    }

    private fun text(settings: WhisperSettings, tokens: List<Int>) = tokens.filter { it < settings.endOfText }

    private fun forbid(scores: FloatArray, from: Int, to: Int) {
        for (i in from until min(to, scores.size)) scores[i] = Float.NEGATIVE_INFINITY
    }

    private fun highest(scores: FloatArray, from: Int, to: Int): Float {
        var highest = Float.NEGATIVE_INFINITY
        for (i in from until min(to, scores.size)) highest = maxOf(highest, scores[i])
        return highest
    }
}
