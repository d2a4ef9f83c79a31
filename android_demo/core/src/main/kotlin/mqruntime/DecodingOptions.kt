package mqruntime

/**
 * Whisper's decoding choices; the defaults decode short clips greedily, once.
 *
 * Names, in camel case, and the thresholds' default values are those of Whisper's own `transcribe`.
 *
 * @property timestamps let the model say when things are said, and move on from there; null: in
 *     recordings longer than the model's window only.
 * @property beamSize hypotheses followed at temperature 0; 1 is greedy.
 * @property temperature tried in turn until a text is neither too repetitive nor too unlikely; above
 *     0 tokens are drawn at random, always with the same seed. null: 0 alone without timestamps,
 *     [FALLBACK_TEMPERATURES] with them.
 * @property compressionRatioThreshold text that zlib shrinks by more repeats itself.
 * @property logprobThreshold a lower mean log-probability of the tokens is too unlikely.
 * @property noSpeechThreshold a window whose probability of no speech is higher, and whose text is too
 *     unlikely, holds none, nor does one in which nothing stands out from the background and this
 *     probability is over half of it; infinity: all do.
 * @property task `transcribe`, or `translate` to English; null for what the model does where nobody asks
 *     ([WhisperSettings.task]).
 * @property prompt text that might have come before the recording (Whisper): names and words as they
 *     are to be spelled, or a style. Given to every window; of a long one the end, up to half of the
 *     decoder's positions.
 * @property previousText give each window of a long recording the text before it (Whisper): words stay
 *     spelled alike, and a text that goes wrong may go on to do so.
 * @throws ModelError `beamSize`, `temperature` or `task` is out of range.
 */
data class DecodingOptions(
    val timestamps: Boolean? = null,
    val beamSize: Int = 1,
    val temperature: List<Double>? = null,
    val compressionRatioThreshold: Double = 2.4,
    val logprobThreshold: Double = -1.0,
    val noSpeechThreshold: Double = 0.6,
    val task: String? = null,
    val prompt: String? = null,
    val previousText: Boolean = false,
) {
    init {
        if (beamSize !in 1..16) throw ModelError("beamSize is $beamSize; 1 to 16 are possible")
        if (temperature != null && (temperature.isEmpty() || temperature.any { it !in 0.0..2.0 })) {
            throw ModelError("temperature is $temperature; give some from 0 to 2")
        }
        if (task != null && task !in WhisperSettings.TASKS) {
            throw ModelError("task is '$task'; ${WhisperSettings.TASKS.joinToString(" and ")} are possible")
        }
    }

    companion object {
        val FALLBACK_TEMPERATURES = listOf(0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    }
}
