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
        val times = settings.times
        // Languages, tasks, noTimestamps, ...
        forbid(scores) { it !in times && it != settings.endOfText && !settings.isText(it) }
        if (tokens.isEmpty()) {
            forbid(scores) { it !in times || it > times.first + LATEST_START }
            return
        }
        val isTime = tokens.last() in times
        val isStart = isTime && (tokens.size < 2 || tokens[tokens.size - 2] in times)
        if (isStart) {
            forbid(scores) { it in times } // text follows
        } else if (isTime) {
            forbid(scores, settings::isText) // an end: the next start, or the end of everything
        }
        val latest = tokens.lastOrNull { it in times }
        if (latest != null) {
            val next = latest + if (isTime && !isStart) 0 else 1
            forbid(scores) { it >= times.first && it < next }
        }
        preferTimestamps(scores, times)
    }

    /** If all timestamps together are likelier than any one other token, it is a timestamp. */
    private fun preferTimestamps(scores: FloatArray, times: IntRange) {
        val highest = highest(scores) { it in times }
        if (!highest.isFinite()) return
        var sum = 0.0
        for (i in scores.indices) if (i in times) sum += exp((scores[i] - highest).toDouble())
        val together = highest + ln(sum).toFloat() // in the logits' own precision, as in Python
        if (together > highest(scores) { it !in times }) forbid(scores) { it !in times }
    }

    /** Tokens of a phrase between its timestamps, as the next window is given them. */
    fun timedTokens(settings: WhisperSettings, phrase: Phrase): List<Int> {
        val begin = settings.timestampBegin
        return listOf(begin + phrase.start) + phrase.tokens + (begin + phrase.end)
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
        val isTime = tokens.map { it in settings.times }
        val cuts = (1 until tokens.size).filter { isTime[it - 1] && isTime[it] }
        val complete = isTime.takeLast(2) == listOf(false, true)
        if (cuts.isEmpty()) {
            val last = tokens.drop(1).lastOrNull { it in settings.times }
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

    private fun text(settings: WhisperSettings, tokens: List<Int>) = tokens.filter(settings::isText)

    private inline fun forbid(scores: FloatArray, which: (Int) -> Boolean) {
        for (i in scores.indices) if (which(i)) scores[i] = Float.NEGATIVE_INFINITY
    }

    private inline fun highest(scores: FloatArray, which: (Int) -> Boolean): Float {
        var highest = Float.NEGATIVE_INFINITY
        for (i in scores.indices) if (which(i)) highest = maxOf(highest, scores[i])
        return highest
    }
}
