package mqruntime

import java.math.BigDecimal
import java.math.RoundingMode

// What recognition gives back.

/**
 * A stretch of a recording.
 *
 * @property start seconds from the beginning of the recording.
 * @property end likewise.
 * @property text what was said: a phrase (Whisper), a word (CTC), a label (keywords).
 * @property tokens token ids of the text, or the label's index.
 * @property score how sure the model is: the mean log-probability of a token (Whisper), the mean
 *     probability of the word's tokens (CTC), the label's probability (keywords); null where it was
 *     not computed.
 */
data class Segment(
    val start: Double,
    val end: Double,
    val text: String,
    val tokens: List<Int>,
    val score: Double? = null,
)

/**
 * What was heard.
 *
 * @property text the transcript, or the keyword.
 * @property tokens token ids of the text, without prompt, end and timestamps; of a keyword model the
 *     label's index.
 * @property language ISO code, null where the model does not say.
 * @property seconds length of the recording.
 * @property timings seconds of work by stage: `encoder` and `decoder`, or `model`.
 * @property score keyword models: probability of the label.
 * @property segments where in the recording what was said. Whisper without timestamps: one segment a
 *     window.
 */
data class Result(
    val text: String,
    val tokens: List<Int>,
    val language: String?,
    val seconds: Double,
    val timings: Map<String, Double> = emptyMap(),
    val score: Double? = null,
    val segments: List<Segment> = emptyList(),
)

/** To milliseconds, as Python's `round(seconds, 3)`: of the exact value, halves to even. */
internal fun milliseconds(seconds: Double): Double =
    BigDecimal(seconds).setScale(3, RoundingMode.HALF_EVEN).toDouble()
